"""What a run must know of its targets before it begins: what they are, and how long it will take."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq.core.cell import Cell
from edgeq.core.gradient import value_and_grad
from edgeq.core.protocols import Target
from edgeq.core.rows import Rows
from edgeq.objectives.ce import CE
from edgeq.targets.opener import Bench


@dataclass(frozen=True)
class Estimate:
    """``sure``: seconds for replays and gradients. ``queries``: the most that query attacks add, if no row is fooled early."""

    rates: dict[str, float]  # images a second, by target
    sure: float
    queries: float

    def shared(self, workers: int) -> Estimate:
        """What it takes so many, each as fast as the one that was measured."""
        return replace(self, sure=self.sure / workers, queries=self.queries / workers)


@dataclass(frozen=True)
class Survey:
    """``identities``: see :class:`~edgeq.targets.opener.Bench`; ``batches``: rows at once of what lends gradients, by target id."""

    identities: dict[str, dict[str, Any]]
    batches: dict[str, int]
    estimate: Estimate | None


def survey(bench: Bench, asked: Sequence[str], lenders: Sequence[str], timing: dict[str, Any] | None = None) -> Iterator[Survey]:
    """Opens the targets ``asked`` and the sources of ``lenders``. ``timing``: further arguments of :func:`estimate`, None for none. One."""
    for id in asked:
        bench.target(id)
    batches = {id: next(iter(bench.sources(id).values())).batch for id in lenders}
    yield Survey(dict(bench.identities), batches, None if timing is None else estimate(bench, asked, **timing))


def estimate(
    bench: Bench,
    asked: Sequence[str],
    cells: Sequence[Cell],
    attacks: dict[int, Any],
    shape: tuple[int, ...],
    n: int,
    budget: int | None,
) -> Estimate:
    """``asked``: the ids of the targets that answer every cell."""
    count = max(1, min(256, (1 << 26) // math.prod(shape)))
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    rates = {id: _rate(bench.target(id), images) for id in asked}
    sources = {c.crafted_on: bench.sources(c.crafted_on) for c in cells if c.kind == "gradient"}
    batch = {name: next(iter(several.values())).batch for name, several in sources.items()}
    gradient = {name: sum(_gradient_seconds(source, images) for source in several.values()) for name, several in sources.items()}
    sure = queries = 0.0
    for cell in cells:
        sure += sum(n / rate for rate in rates.values())
        if cell.kind == "gradient":
            sure += attacks[cell.cell].evaluations() * -(-n // batch[cell.crafted_on]) * gradient[cell.crafted_on]
        elif cell.kind == "query":
            most = 1 + attacks[cell.cell].queries()
            queries += n * min(most, budget or most) / rates[cell.crafted_on]
    return Estimate(rates, sure, queries)


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
