"""A Dask cluster: its scheduler gives works to its workers, and to others where one dies.

The kit is one value of the cluster, made of bytes that the scheduler keeps: each worker gets it once, one that joins later too, and files
lie in a scratch folder of the worker for as long as the run is connected. A worker does one work at a time, with all of its threads. The
functions that are sent are pickled by value and take bytes, so that the scheduler needs no edgeq, and a worker without it can say so.
"""

from __future__ import annotations

import importlib
import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.runs.executors.executor import Work
from edgeq.runs.executors.kit import Kit
from edgeq.runtimes import LostError

CONNECT = 5.0  # seconds to reach a scheduler
ALONE = 60.0  # seconds that a scheduler may be gone, or be without workers, before the run gives up
AHEAD = 2  # works that a worker has been given, so that it need not wait for the next one
TICK = 1.0


@contextmanager
def opened(address: str, kit: Kit) -> Iterator[Cluster]:
    """The workers of the scheduler at ``address``. Raises :class:`EdgeqError` where there is none, and for a worker without this
    edgeq."""
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise EdgeqError(f"--workers {address}: no Dask scheduler answers there ({reason}); start one with: dask scheduler") from None
    try:
        yield Cluster(distributed, client, address, kit)
    finally:
        client.close(timeout=CONNECT)


class Cluster:
    """An :class:`~edgeq.runs.executors.executor.Executor`."""

    def __init__(self, distributed: Any, client: Any, address: str, kit: Kit) -> None:
        self._distributed, self._client, self._address = distributed, client, address
        self._check()
        unpack, self._do = _by_value()
        self._kit = self._submit(unpack, pickle.dumps(kit))

    @property
    def workers(self) -> int:
        return max(1, len(self._client.nthreads()))

    def map(self, works: Iterable[Work]) -> Iterator[Any]:
        """See :class:`~edgeq.runs.executors.executor.Executor`."""
        queue, flying, over, seen = iter(works), set[Any](), False, time.monotonic()
        while True:
            most = AHEAD * self.workers
            while not over and len(flying) < most:
                if (work := next(queue, None)) is None:
                    over = True
                else:
                    flying.add(self._submit(self._do, self._kit, pickle.dumps(work)))
            if not flying:
                return
            try:
                with self._client.as_current():
                    done = self._distributed.wait(list(flying), timeout=TICK, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                done = set()
            if done or (self._client.status == "running" and self._client.nthreads()):
                seen = time.monotonic()
            elif time.monotonic() - seen > ALONE:
                raise LostError(f"the Dask cluster at {self._address} has had no scheduler or no workers for {ALONE:g} s")
            for future in done:
                if future.status in ("pending", "lost"):  # its result died with a worker, and is made again
                    continue
                flying.remove(future)
                yield from self._result(future)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with warnings.catch_warnings():  # of large arguments: a unit's images are what has to travel
            warnings.simplefilter("ignore")
            return self._client.submit(function, *arguments, pure=False)

    def _result(self, future: Any) -> list[Any]:
        if future.status == "finished":
            items: list[Any] = pickle.loads(future.result())
            return items
        error = future.exception() if future.status == "error" else None
        if isinstance(error, self._distributed.scheduler.KilledWorker):
            raise LostError(f"several Dask workers died one after another of the same work (the last one: {error.last_worker.address})")
        if error is None:
            raise LostError(f"the Dask scheduler at {self._address} has lost what it was to do")
        raise error

    def _check(self) -> None:
        """Every worker that is there has this edgeq."""

        def version() -> str:
            try:
                import edgeq
            except ImportError:
                return ""
            return edgeq.__version__

        try:
            self._client.wait_for_workers(1, timeout=CONNECT)
        except TimeoutError:
            start = f"dask worker {self._address}"
            raise EdgeqError(f"--workers {self._address}: this scheduler has no workers; start one with: {start}") from None
        for worker, other in sorted(self._client.run(version).items()):
            if other != edgeq.__version__:
                has = f"has edgeq {other}, and here it is {edgeq.__version__}" if other else "has no edgeq"
                raise EdgeqError(f"--workers {self._address}: the worker {worker} {has}; install edgeq {edgeq.__version__} there")


def _by_value() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions inside a function are pickled with their code."""

    def unpack(content: bytes) -> Any:
        from edgeq.runs.executors._unpacked import Unpacked

        return Unpacked(content)

    def do(kit: Any, work: bytes) -> Any:
        return kit.do(work)

    return unpack, do


def _distributed() -> Any:
    try:
        module = importlib.import_module("distributed")
    except ModuleNotFoundError as error:
        raise EdgeqError(f'--workers tcp://... needs {error.name}, which is not installed; pip install "edgeq[dask]"') from None
    for name in ("distributed", *(n for n in logging.root.manager.loggerDict if n.startswith("distributed."))):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said in a sentence
    return module
