"""From ``--workers`` to an executor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.runs.executors.executor import Executor, Work
from edgeq.runs.executors.kit import Kit
from edgeq.targets.opener import Bench

Workers = int | str
"""How many processes on this machine, or the address of a Dask scheduler, ``tcp://HOST:PORT``."""

MOST = 1 << 10  # processes


def parse(text: str) -> Workers:
    """What ``--workers`` takes. Raises :class:`EdgeqError`."""
    if "://" in text:
        return text
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST:
        return int(text)
    raise EdgeqError(
        f"--workers {text[:40]}: write a number of processes, 1 to {MOST}, or the address of a Dask scheduler, tcp://HOST:PORT"
    )


def opened(workers: Workers, kit: Kit) -> AbstractContextManager[Executor]:
    """The executor that ``workers`` asks for; what it started ends with the context. Processes share the threads of ``kit``, or the cores.

    Raises :class:`EdgeqError` for a cluster that cannot be used.
    """
    if isinstance(workers, str):
        from edgeq.runs.executors import cluster

        return cluster.opened(workers, kit.packed())
    if workers > 1:
        from edgeq.runs.executors import processes

        return processes.opened(workers, kit)
    return _here(kit)


@dataclass(frozen=True, eq=False)
class Here:
    """This process."""

    bench: Bench
    workers: int = 1

    def map(self, works: Iterable[Work]) -> Iterator[Any]:
        """See :class:`Executor`."""
        return (item for work in works for item in work(self.bench))


@contextmanager
def _here(kit: Kit) -> Iterator[Executor]:
    with kit.opened() as bench:
        yield Here(bench)
