"""Worker processes on this machine: each takes one work at a time and opens its own targets, when they are first asked."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from edgeq.core import cpu
from edgeq.core.children import python_child, signal_name, unnamed
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.runs.executors.executor import Work
from edgeq.runs.executors.kit import Kit
from edgeq.runtimes import LostError

DEATHS = 3  # workers that may die of one work before it is given up
PATIENCE = 10.0  # seconds that workers with nothing to do have to close their targets
WORDS = 300  # characters of what a worker printed before it died


@contextmanager
def opened(count: int, kit: Kit) -> Iterator[Processes]:
    """``count`` workers, which share the threads of ``kit``, or the cores. What they leave behind, even killed, is removed with them."""
    threads = max(1, (kit.threads or cpu.count()) // count)
    with scratch() as folder:
        team = Processes(count, replace(kit, threads=threads), folder)
        try:
            yield team
            team.close(PATIENCE)
        finally:
            team.close(0)


class Processes:
    """An :class:`~edgeq.runs.executors.executor.Executor`. A worker that dies is replaced by a new one."""

    def __init__(self, count: int, kit: Kit, folder: Path) -> None:
        self.workers = count
        self._kit, self._folder = pickle.dumps(kit), folder
        self._team: list[_Worker] = []

    @property
    def pids(self) -> list[int]:
        """Of the workers that are running."""
        return [worker.process.pid for worker in self._team]

    def map(self, works: Iterable[Work]) -> Iterator[Any]:
        """See :class:`~edgeq.runs.executors.executor.Executor`."""
        queue = (_Job(pickle.dumps(work)) for work in works)
        ahead: deque[_Job] = deque()  # the next one is pickled while the workers are busy
        while len(self._team) < self.workers:
            self._team.append(_Worker(self._kit, self._folder))
        while True:
            for worker in self._team:
                if worker.job is None and (job := ahead.popleft() if ahead else next(queue, None)) is not None:
                    worker.give(job)
            busy = {worker.connection: worker for worker in self._team if worker.job is not None}
            if not busy:
                return
            if not ahead and (job := next(queue, None)) is not None:
                ahead.append(job)
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]  # these are connections alone
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    ahead.appendleft(self._bury(worker))
                    continue
                if kind == "item":
                    yield value
                elif kind == "end":
                    worker.job = None
                else:
                    raise value

    def close(self, seconds: float) -> None:
        """Ends the workers; those that do not end by themselves in so many seconds are killed."""
        for worker in self._team:
            worker.connection.close()
        end = time.monotonic() + seconds
        for worker in self._team:
            worker.end(end - time.monotonic())
        self._team.clear()

    def _bury(self, worker: _Worker) -> _Job:
        """Puts a new worker in the place of a dead one, and returns the work that it had."""
        assert worker.job is not None
        job = replace(worker.job, deaths=worker.job.deaths + 1)
        how = worker.end(PATIENCE)
        if job.deaths >= DEATHS:
            raise LostError(f"{DEATHS} worker processes died one after another of the same work; the last one {how}")
        self._team[self._team.index(worker)] = _Worker(self._kit, self._folder)
        return job


@dataclass(frozen=True)
class _Job:
    content: bytes
    deaths: int = 0


class _Worker:
    def __init__(self, kit: bytes, folder: Path) -> None:
        self.job: _Job | None = None
        life, self._alive = os.pipe()  # nothing is written: the worker is killed when our end is closed
        here, there = socket.socketpair()
        self._noise = unnamed(0)
        command, env = python_child("edgeq.runs.executors._worker", str(life), str(there.fileno()))
        self.connection = Connection(here.detach())
        try:
            self.process = subprocess.Popen(  # of its own session: Ctrl-C and Ctrl-Z are for this process alone
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._noise,
                stderr=self._noise,
                env={**env, "TMPDIR": str(folder)},
                pass_fds=(life, there.fileno()),
                start_new_session=True,
            )
        except OSError as error:
            raise EdgeqError(f"no worker process can be started ({error.strerror}); ask for fewer --workers") from None
        finally:
            os.close(life)
            there.close()
        with suppress(OSError):  # one that died at once is noticed when its reply is awaited
            self.connection.send_bytes(kit)

    def give(self, job: _Job) -> None:
        self.job = job
        with suppress(OSError):
            self.connection.send_bytes(job.content)

    def end(self, seconds: float) -> str:
        """Waits so long, kills, and says how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(seconds, 0))
        if self._alive >= 0:
            self.process.kill()
            self.process.wait()
            self.connection.close()
            os.close(self._alive)
            self._alive = -1
            size = os.lseek(self._noise, 0, os.SEEK_END)
            self._words = os.pread(self._noise, WORDS, max(0, size - WORDS)).decode("utf-8", "replace")
            os.close(self._noise)
        code = self.process.returncode
        why = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
        said = f", and printed: {self._words}" if self._words.strip() else ""
        return f"was ended by {signal_name(-code)}{why}{said}" if code < 0 else f"ended with exit code {code}{said}"
