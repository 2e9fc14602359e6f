"""One unit of a run's work, done anywhere: here, in another process, on another machine. It knows no store and no console."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq.core import scheduler
from edgeq.core.cell import Batch, Unit
from edgeq.core.rows import Rows
from edgeq.core.worst import worst
from edgeq.targets.opener import GRADIENTS, Bench

Images = Callable[[np.ndarray], np.ndarray]
"""From places in a unit's rows, ``(m,) int64``, to images ``(m, h, w, c) uint8``: the clean ones, or, to be answered, the candidates."""


@dataclass(frozen=True, eq=False)
class Task:
    """A unit with all that it needs but the targets. ``attack``: a value of :mod:`edgeq.attacks`, None where rows are only answered;
    ``batch``: rows whose gradients are taken at once.

    It is pickled with its images.
    """

    unit: Unit
    rows: Rows
    images: Images
    attack: Any = None
    seed: int = 0
    max_queries: int | None = None
    batch: int = GRADIENTS

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "images": Kept(self.images(np.arange(len(self.rows))))}


@dataclass(frozen=True, eq=False)
class Kept:
    """Images in memory, as :data:`Images` gives them."""

    array: np.ndarray

    def __call__(self, index: np.ndarray) -> np.ndarray:
        return self.array[index]


def run_unit(task: Task, bench: Bench) -> Iterator[Batch]:
    """What comes of the task, in batches as its rows end: candidates with their queries, loss and diagnostics, or a target's answers.

    A batch depends on the task alone: on integer runtimes to the bit, whatever ran before, beside it, or elsewhere; gradients on what
    its ``identities`` state as well. Raises :class:`EdgeqError`.
    """
    return (replace(batch, identities=dict(bench.identities)) for batch in _batches(task, bench))


def _batches(task: Task, bench: Bench) -> Iterator[Batch]:
    unit, index = task.unit, np.array(task.unit.index, np.int64)
    if unit.target:
        answer = bench.target(unit.target).answer(task.images(np.arange(len(index))))
        yield Batch(unit.cell.cell, index, answers={unit.target: answer})
    elif unit.cell.kind == "query":
        yield from _by_queries(task, bench, index)
    else:
        yield _at_once(task, bench, index)


def _by_queries(task: Task, bench: Bench, index: np.ndarray) -> Iterator[Batch]:
    cell = task.unit.cell
    assert cell.threat is not None
    target = bench.seen(cell.crafted_on, cell.access)
    for done in scheduler.run(task.attack, target, task.rows, task.images, cell.threat, task.seed, task.max_queries, goal=cell.goal):
        clean, diagnostics = task.images(done.index), {"": done.diagnostics}
        yield Batch(cell.cell, index[done.index], done.candidates, clean, done.queries, done.margin, diagnostics)


def _at_once(task: Task, bench: Bench, index: np.ndarray) -> Batch:
    cell = task.unit.cell
    assert cell.threat is not None
    clean = task.images(np.arange(len(index)))
    sources: dict[str, Any] = bench.sources(cell.crafted_on, task.batch) if task.attack.needs == "gradients" else {"": None}
    made = [task.attack.craft(source, clean, task.rows, cell.threat, task.seed, cell.goal) for source in sources.values()]
    judge = bench.target(cell.crafted_on) if len(made) > 1 else None
    kept = worst(made, judge, task.rows.labels, cell.goal)
    shown = (spec.id for spec in bench.specs.values() if spec.derived == "before-grid" and spec.members == (cell.crafted_on,))
    floats = {id: sources[""].answer_float(made[0].iterates) for id in shown}
    diagnostics = {clamp: one.diagnostics for clamp, one in zip(sources, made, strict=True)}
    return Batch(cell.cell, index, kept.candidates, clean, np.zeros(len(index), np.int64), kept.loss, diagnostics, floats)
