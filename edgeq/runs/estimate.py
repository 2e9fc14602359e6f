"""What a run must know of its targets before it begins: what they are, how many rows at once, and how long it will take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edgeq.core.cell import Cell
from edgeq.core.gradient import value_and_grad
from edgeq.core.protocols import Target
from edgeq.core.rows import Rows
from edgeq.objectives.ce import CE
from edgeq.targets.opener import GRADIENTS, Bench

SURE = 10.0  # seconds of work before an estimate is corrected, and that a correction is worth
WRONG = 0.25  # share by which it is wrong
FEW, SMALL = 8, 1 << 14  # rows that a network is timed by first whose images have more values: 128 of them may take a minute
UNIT = 15.0  # seconds that a batch of gradients may take through a whole attack: half of what a kill may cost, as estimates are rough


@dataclass(frozen=True)
class Estimate:
    """``sure``: seconds for replays and gradients. ``queries``: the most that query attacks add, if no row is fooled early.

    ``rates``: images a second, by target; ``gradients``: seconds of one gradient of one row, by what lends it. ``corrected``: of what is
    left, by what has been done.
    """

    rates: dict[str, float]
    gradients: dict[str, float]
    sure: float
    queries: float
    corrected: bool = False

    def row(self, cell: Cell, target: str, attack: Any) -> float:
        """Seconds that one row of a cell is expected to take: to be answered by ``target``, or, for "", to be crafted without queries."""
        if target:
            return 1 / self.rates[target]
        return attack.evaluations() * self.gradients[cell.crafted_on] if cell.kind == "gradient" else 0.0

    def shared(self, workers: int) -> Estimate:
        """What it takes so many, each as fast as the one that was measured."""
        return replace(self, sure=self.sure / workers, queries=self.queries / workers)


@dataclass(eq=False)
class Clock:
    """Compares an estimate with what is done, and says what is left where it was wrong. Queries, of which nobody knows how many are needed,
    are left out.

    ``expected``: seconds that all there is to do should take, by what does it: of one nothing is learnt about another. ``announce`` hears
    a corrected estimate.
    """

    estimate: Estimate
    expected: Mapping[str, float]
    announce: Callable[[Estimate], None]
    done: dict[str, float] = field(default_factory=dict)  # of the seconds expected
    spent: dict[str, float] = field(default_factory=dict)
    said: float = field(init=False)  # what was said to be left, since then less what has been spent

    def __post_init__(self) -> None:
        self.said = sum(self.expected.values())

    def passed(self, who: str, expected: float, seconds: float) -> None:
        """What should have taken ``who`` the ``expected`` seconds has taken ``seconds``."""
        for sums, value in ((self.done, expected), (self.spent, seconds)):
            sums[who] = sums.get(who, 0.0) + value
        self.said -= seconds
        left = sum((all_ - self.done.get(id, 0.0)) * self.spent.get(id, 1.0) / self.done.get(id, 1.0) for id, all_ in self.expected.items())
        if self.spent[who] >= SURE and abs(left - self.said) > max(SURE, WRONG * left):
            self.said = left
            self.announce(replace(self.estimate, sure=left, queries=0.0, corrected=True))


@dataclass(frozen=True)
class Survey:
    """``identities``: see :class:`~edgeq.targets.opener.Bench`; ``batch``: rows at once of what lends gradients; ``batches``: the same by
    target id, as one may take another number alone."""

    identities: dict[str, dict[str, Any]]
    batch: int
    batches: dict[str, int]
    estimate: Estimate


def survey(
    bench: Bench,
    asked: Sequence[str],
    batch: int | None,
    cells: Sequence[Cell],
    attacks: Mapping[int, Any],
    shape: tuple[int, ...],
    n: int,
    budget: int | None,
) -> Iterator[Survey]:
    """Opens the targets ``asked`` and what lends gradients, and times them. ``batch``: of gradients, where that is settled. One."""
    images = np.random.default_rng(0).integers(0, 256, (max(1, min(256, (1 << 26) // math.prod(shape))), *shape), dtype=np.uint8)
    rates = {id: _rate(bench.target(id), images) for id in asked}
    evaluations: dict[str, int] = {}
    for cell in cells:
        if cell.kind == "gradient":
            evaluations[cell.crafted_on] = max(attacks[cell.cell].evaluations(), evaluations.get(cell.crafted_on, 0))
    size, batches, gradients = _sized(bench, evaluations, batch, images)
    sure = queries = 0.0
    whole = {id: -(-n // most) * most / n for id, most in batches.items()}  # what is filled up takes its time as well
    estimate = Estimate(rates, {id: seconds * whole[id] for id, seconds in gradients.items()}, 0.0, 0.0)
    for cell in cells:
        sure += n * sum(estimate.row(cell, target, attacks.get(cell.cell)) for target in ("", *rates))
        if cell.kind == "query":
            most = 1 + attacks[cell.cell].queries()
            queries += n * min(most, budget or most) / rates[cell.crafted_on]
    yield Survey(dict(bench.identities), size, batches, replace(estimate, sure=sure, queries=queries))


def _sized(
    bench: Bench, evaluations: Mapping[str, int], settled: int | None, images: np.ndarray
) -> tuple[int, dict[str, int], dict[str, float]]:
    """Rows whose gradients are taken at once; the rows that each lender really takes, which may know one size alone; and the seconds that
    one gradient of a row takes it, under every clamp. ``evaluations``: by lender, the most that an attack makes.

    ``GRADIENTS``, unless so many rows would take longer than ``UNIT`` through an attack: then a power of two that does not. As the last
    bits of gradients depend on it, a run has one size, and keeps what came out here once.
    """
    guess = settled is None and images[0].size > SMALL
    size = settled or (FEW if guess else GRADIENTS)
    while True:
        several = {id: list(bench.sources(id, size).values()) for id in evaluations}
        batches = {id: sources[0].batch for id, sources in several.items()}
        seconds = {id: sum(_gradient_seconds(source, images) for source in sources) for id, sources in several.items()}
        longest = max((evaluations[id] * seconds[id] for id in several if batches[id] == size), default=0.0)
        fitting = 1 << max(0, math.floor(math.log2(min(GRADIENTS, size * UNIT / longest if longest else GRADIENTS))))
        if settled or fitting == size or (fitting > size and not guess):
            return size, batches, {id: seconds[id] / batches[id] for id in several}
        size, guess = fitting, False


def _rate(target: Target, images: np.ndarray) -> float:
    target.answer(images[:1])  # workers start, caches fill
    m = 1
    while True:
        start = time.perf_counter()
        target.answer(images[:m])
        seconds = time.perf_counter() - start
        if seconds > 0.02 or m >= len(images):
            return m / max(seconds, 1e-6)
        m = min(len(images), 8 * m)


def _gradient_seconds(source: Any, images: np.ndarray) -> float:
    m = min(source.batch, len(images))
    x = images[:m].astype(np.float32) / np.float32(255)
    rows = Rows(np.arange(m), np.zeros(m, np.int64))
    value_and_grad(source, CE(), x, rows)  # traces
    start = time.perf_counter()
    value_and_grad(source, CE(), x, rows)
    return time.perf_counter() - start
