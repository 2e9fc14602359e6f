"""What does the units of a run, and what it is given to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from edgeq.targets.opener import Bench

Work = Callable[[Bench], Iterator[Any]]
"""What is done with the targets: ``run_unit`` of a task, say. Pickled where it is done elsewhere."""


class Executor(Protocol):
    """Does work, in any order. What :meth:`map` gives is to be taken to its end before the next call."""

    @property
    def workers(self) -> int:
        """How many works are done at once."""
        ...

    def map(self, works: Iterable[Work]) -> Iterator[Any]:
        """All that comes of ``works``, which are taken one by one as there is room. A worker that dies loses nothing: its work is given to
        another, so that some of it may come twice.

        Raises what a work raises, and :class:`~edgeq.runtimes.LostError` where workers die of one again and again.
        """
        ...
