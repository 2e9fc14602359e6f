"""What is measured of the gradients at each clean image: cosines in pairs, exact zeros, and differences that vanish or explode (B19 5.1.2).

A row's vectors, by name (:func:`called`), are all that :mod:`edgeq.measure.alignment` makes its figures of. Nothing here knows a store or
a console.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from edgeq.core import plugins
from edgeq.core.estimate import Estimate, Estimator
from edgeq.core.gradient import value_and_grad
from edgeq.core.protocols import Differentiable, Objective, Target
from edgeq.core.rows import Rows

CHUNK = 128  # rows differentiated at once; gradients depend on their batch, so chunks start at fixed rows and are differentiated whole
PART = 16  # rows whose estimates are made, and kept, at once
MEMORY = 2**26  # bytes of queries at once
EXPLODES = 10
"""A difference explodes if it is more than this many times the smooth one: the root mean square of the reference gradient's components,
of the same row, times the l2 length of the step. Of normally distributed slopes 1e-23 would; the share of the reference's own components
that would is given beside it."""

Values = dict[str, list[np.ndarray]]
"""By name a vector of float64 for each row."""

Gradient = tuple[np.ndarray, np.ndarray | None]
"""Slopes ``(m, k)`` per pixel step, and which elements ``(m, k)`` of the flat image they belong to (None: all in order)."""


@dataclass(frozen=True, eq=False)
class Asked:
    """An estimator and what it queries. ``reference``: the gradient, one of the sources, that its differences are measured by, or None;
    ``control``: it asks that smooth network itself, and shows what the method alone does: it is paired with the reference only."""

    method: Estimator
    target: Target
    reference: str | None = None
    control: bool = False


@dataclass(frozen=True, eq=False)
class Subjects:
    """What is compared. ``sources``: name -> gradients; ``estimators``: name -> what is asked; ``objective``: a name of
    :mod:`edgeq.objectives`; ``logits``: images ``(m, h, w, c) uint8`` -> ``(m, k)`` of the float network and of the file, or None."""

    sources: Mapping[str, Differentiable]
    estimators: Mapping[str, Asked]
    objective: str
    logits: tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]] | None = None

    @property
    def names(self) -> list[str]:
        return [*self.sources, *self.estimators]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every two gradients; a control with its reference only."""
        return [(a, b) for a, b in combinations(self.names, 2) if self._paired(a, b)]

    def _paired(self, a: str, b: str) -> bool:
        controls = [name for name in (a, b) if name in self.estimators and self.estimators[name].control]
        return not controls or (controls == [b] and self.estimators[b].reference == a)


def called(what: str, *gradients: str) -> str:
    """The name of a measurement: of a row, of one gradient, or of two."""
    return f"{what}: {' | '.join(gradients)}" if gradients else what


def measure(subjects: Subjects, clean: np.ndarray, rows: Rows, seed: int, done: np.ndarray) -> Iterator[tuple[slice, Values]]:
    """What is measured at ``clean (m, h, w, c) uint8``, a chunk of a run's rows, a part at a time; parts that are ``done (m,) bool`` are
    left out. A part's values depend on the chunk alone, not on what is done.

    ``zeros``: components that are zero, components, whether one is no number (1 or 0), components above ``EXPLODES`` times the root mean
    square, and components that were looked at for that. ``cosine``: it, and the share of equal signs; NaN where either gradient is zero or
    no number. ``differences``: zero ones, all, exploding ones, those that were looked at for that. ``sizes``: of differences, those that
    are neither zero nor infinite, in units of the reference. ``variance``: of the logits of the float network and the file.
    """
    parts = [part for part in slices(len(clean), PART) if not done[part].all()]
    if not parts:
        return
    loss: Objective = plugins.load(plugins.OBJECTIVES, subjects.objective)()
    x = clean.astype(np.float32) / np.float32(255)
    own = {
        name: value_and_grad(source, loss, x, rows)[1].reshape(len(clean), -1) / np.float32(255)
        for name, source in subjects.sources.items()
    }
    variances = None if subjects.logits is None else np.stack([of(clean).astype(np.float64).var(axis=1) for of in subjects.logits], axis=1)
    for part in parts:
        gradients: dict[str, Gradient] = {name: (gradient[part], None) for name, gradient in own.items()}
        scales = {name: _scale(gradient) for name, (gradient, _) in gradients.items()}
        values: Values = {} if variances is None else {called("variance"): list(variances[part])}
        for name, asked in subjects.estimators.items():
            estimate = _estimate(asked, clean[part], rows[part], loss, seed)
            gradients[name] = estimate.slope, estimate.pixels
            counts, sizes = _differences(estimate, scales.get(asked.reference or ""))
            values |= {called("differences", name): list(counts), called("sizes", name): sizes}
        values |= {called("zeros", name): list(_zeros(g, scales.get(name))) for name, (g, _) in gradients.items()}
        values |= {called("cosine", a, b): list(_cosine(gradients[a], gradients[b])) for a, b in subjects.pairs}
        yield part, values


def slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(n,) float64`` of ``(n, k)`` vectors that are not zero (B19 section 5.2.3)."""
    a, b = (v / np.abs(v).max(axis=1, keepdims=True) for v in (a, b))  # so that no square under- or overflows
    return (a * b).sum(1) / np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))


def sign_agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(n,) float64``: of the components that are zero in neither, the share with one sign; NaN where there is none. Chance gives 1/2."""
    both = (a != 0) & (b != 0)
    count = both.sum(1)
    return np.divide((both & ((a > 0) == (b > 0))).sum(1), count, out=np.full(len(a), np.nan), where=count > 0)


def _zeros(gradient: np.ndarray, scale: np.ndarray | None) -> np.ndarray:
    """``(m, 5)``; ``scale``: ``(m,)`` root mean square of the gradient, None for an estimate."""
    large, looked_at = np.zeros(len(gradient)), np.zeros(len(gradient))
    if scale is not None:
        large = np.where(scale > 0, (np.abs(gradient) > EXPLODES * scale[:, None]).sum(1), 0)
        looked_at = np.where(scale > 0, gradient.shape[1], 0)
    components = np.full(len(gradient), gradient.shape[1])
    return np.stack([(gradient == 0).sum(1), components, ~np.isfinite(gradient).all(1), large, looked_at], axis=1).astype(np.float64)


def _differences(estimate: Estimate, scale: np.ndarray | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """``(m, 4)``, and the sizes of each row. ``scale``: ``(m,)`` root mean square of the reference gradient."""
    n, q = estimate.difference.shape
    counts = np.zeros((n, 4))
    counts[:, 0], counts[:, 1] = (estimate.difference == 0).sum(1), q
    if scale is None:
        return counts, [np.empty(0)] * n
    sizes = [np.empty(0)] * n
    for i in np.flatnonzero(scale > 0):
        size = np.abs(estimate.difference[i]) / (scale[i] * estimate.length[i])
        counts[i, 2:] = (size > EXPLODES).sum(), q
        sizes[i] = size[(size > 0) & np.isfinite(size)]
    return counts, sizes


def _cosine(a: Gradient, b: Gradient) -> np.ndarray:
    """``(m, 2)``: cosine and share of equal signs, over the components that both have."""
    (x, of_x), (y, of_y) = a, b
    if of_x is None and of_y is not None:
        x = np.take_along_axis(x, of_y, axis=1)
    elif of_x is not None and of_y is None:
        y = np.take_along_axis(y, of_x, axis=1)
    x, y = x.astype(np.float64), y.astype(np.float64)
    usable = np.isfinite(x).all(1) & np.isfinite(y).all(1) & x.any(1) & y.any(1)
    both = np.full((len(x), 2), np.nan)
    both[usable, 0], both[usable, 1] = cosine(x[usable], y[usable]), sign_agreement(x[usable], y[usable])
    return both


def _scale(gradient: np.ndarray) -> np.ndarray:
    """``(m,) float64``: root mean square of a row's components; 0 where one is no number."""
    scale = np.sqrt(np.square(gradient.astype(np.float64)).mean(1))
    return np.where(np.isfinite(scale), scale, 0)


def _estimate(asked: Asked, clean: np.ndarray, rows: Rows, objective: Objective, seed: int) -> Estimate:
    """A few rows at a time, so that their queries fit into memory."""
    parts, size = list[Estimate](), clean[0].size
    for part in slices(len(clean), max(1, MEMORY // (size * asked.method.queries(size)))):
        some = rows[part]

        def loss(images: np.ndarray, index: np.ndarray, some: Rows = some) -> np.ndarray:
            # in float64: the loss of a confident row is far below the rounding of its float32 logits
            return objective(asked.target.answer(images).logits().astype(np.float64), some.labels[index])[0]

        parts.append(asked.method.estimate(loss, clean[part], some.ids, seed))
    pixels: Sequence[np.ndarray] = [p.pixels for p in parts if p.pixels is not None]
    joined = (np.concatenate(v) for v in ([p.difference for p in parts], [p.length for p in parts]))
    return Estimate(np.concatenate([p.slope for p in parts]), np.concatenate(pixels) if pixels else None, *joined)
