"""Whether the gradients that attacks follow are the network's: cosines between the float network's, the file's own and estimates from
queries (B19 figure 4), what is exactly zero or explodes (B19 5.1.2), and the variance of the logits (docs/concepts.md: *Straight-through*).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from edgeq.core import plugins
from edgeq.core.estimate import Estimate, Loss
from edgeq.core.gradient import value_and_grad
from edgeq.core.protocols import Differentiable, Objective, Target
from edgeq.core.rows import Rows
from edgeq.measure.figures import share as as_share

CHUNK = 128  # rows decoded and differentiated at once
MEMORY = 2**26  # bytes of queries at once
EXPLODES = 10
"""A difference explodes if it is more than this many times the smooth one: the root mean square of the reference gradient's components,
of the same row, times the l2 length of the step. Of normally distributed slopes 1e-23 would; the share of the reference's own components
that would is given beside it."""
RESAMPLES = 1000

Progress = Callable[[str, int, int], None]
Found = tuple[np.ndarray, np.ndarray | None]
"""A gradient ``(m, k)`` per pixel step, and which elements ``(m, k)`` of the flat image it belongs to (None: all in order)."""


class Estimator(Protocol):
    """A method of :mod:`edgeq.estimators`; a dataclass."""

    def queries(self, size: int) -> int: ...
    def estimate(self, loss: Loss, images: np.ndarray, ids: np.ndarray, seed: int) -> Estimate: ...


@dataclass(frozen=True, eq=False)
class Asked:
    """An estimator and what it queries. ``reference``: the gradient, one of the sources, that its differences are held against, or None;
    ``control``: it asks that smooth network itself, and shows what the method alone does: it is paired with the reference only."""

    method: Estimator
    target: Target
    reference: str | None = None
    control: bool = False


@dataclass(eq=False)
class _Zeros:
    """Of one gradient: rows in which every component is exactly zero, rows that hold no number, components that are zero, and those that
    are more than ``EXPLODES`` times the root mean square."""

    rows: int = 0
    broken: int = 0
    pixels: int = 0
    of: int = 0
    large: int = 0
    held: int = 0

    def add(self, gradient: np.ndarray, scale: np.ndarray | None) -> None:
        zero = gradient == 0
        self.rows += int(zero.all(axis=1).sum())
        self.broken += int((~np.isfinite(gradient).all(axis=1)).sum())
        self.pixels += int(zero.sum())
        self.of += zero.size
        if scale is not None:
            self.large += int((np.abs(gradient) > EXPLODES * scale[:, None])[scale > 0].sum())
            self.held += int((scale > 0).sum()) * zero.shape[1]

    def figures(self, n: int) -> dict[str, Any]:
        large = share(self.large, self.held) if self.held else None
        return {"rows": share(self.rows, n), "pixels": share(self.pixels, self.of), "large": large, "not_finite": self.broken}


@dataclass(eq=False)
class _Differences:
    """Of one estimator: how many of its differences are exactly zero, how many explode, and the size of those that are not zero."""

    zero: int = 0
    of: int = 0
    explode: int = 0
    held: int = 0  # against a reference that is not zero in that row
    sizes: list[np.ndarray] = field(default_factory=list)

    def add(self, found: Estimate, scale: np.ndarray | None) -> None:
        """``scale``: ``(m,)`` root mean square of the reference gradient."""
        self.zero += int((found.difference == 0).sum())
        self.of += found.difference.size
        if scale is None:
            return
        there = scale > 0
        size = np.abs(found.difference[there]) / (scale[there, None] * found.length[there])
        self.explode += int((size > EXPLODES).sum())
        self.held += size.size
        self.sizes.append(size[(size > 0) & np.isfinite(size)])

    def figures(self) -> dict[str, Any]:
        sizes = np.concatenate(self.sizes) if self.sizes else np.empty(0)
        return {
            "zero": share(self.zero, self.of),
            "explode": share(self.explode, self.held) if self.sizes else None,
            "median_size": float(np.median(sizes)) if sizes.size else None,
        }


@dataclass(eq=False)
class _Pair:
    """Two gradients of the same rows."""

    cosines: list[np.ndarray] = field(default_factory=list)
    signs: list[np.ndarray] = field(default_factory=list)
    apart: int = 0

    def add(self, a: Found, b: Found) -> None:
        (x, of_x), (y, of_y) = a, b
        if of_x is None and of_y is not None:
            x = np.take_along_axis(x, of_y, axis=1)
        elif of_x is not None and of_y is None:
            y = np.take_along_axis(y, of_x, axis=1)
        x, y = x.astype(np.float64), y.astype(np.float64)
        usable = np.isfinite(x).all(1) & np.isfinite(y).all(1) & x.any(1) & y.any(1)
        self.apart += int((~usable).sum())
        self.cosines.append(cosine(x[usable], y[usable]))
        self.signs.append(sign_agreement(x[usable], y[usable]))

    def figures(self, seed: int) -> dict[str, Any]:
        cosines, signs = np.concatenate(self.cosines), np.concatenate(self.signs)
        signs = signs[np.isfinite(signs)]
        some = len(cosines) > 0
        return {
            "mean": float(cosines.mean()) if some else None,
            "interval": bootstrap(lambda i: cosines[i].mean(), len(cosines), seed),
            "median": float(np.median(cosines)) if some else None,
            "signs": float(signs.mean()) if len(signs) else None,
            "rows": len(cosines),
            "apart": self.apart,
        }


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(n,) float64`` of ``(n, k)`` vectors that are not zero (B19 section 5.2.3)."""
    a, b = (v / np.abs(v).max(axis=1, keepdims=True) for v in (a, b))  # so that no square under- or overflows
    return (a * b).sum(1) / np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))


def sign_agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(n,) float64``: of the components that are zero in neither, the share with one sign; NaN where there is none. Chance gives 1/2."""
    both = (a != 0) & (b != 0)
    count = both.sum(1)
    return np.divide((both & ((a > 0) == (b > 0))).sum(1), count, out=np.full(len(a), np.nan), where=count > 0)


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> list[float] | None:
    """The percentile interval, 95 %, of ``statistic(index (n,))`` over ``n`` rows drawn with replacement; None below two rows."""
    if n < 2:
        return None
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, n, n)) for _ in range(RESAMPLES)]
    return [float(v) for v in np.percentile(drawn, (2.5, 97.5))]


def align(
    sources: Mapping[str, Differentiable],
    estimators: Mapping[str, Asked],
    images: Callable[[slice], np.ndarray],
    rows: Rows,
    objective: str,
    seed: int,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Everything about gradients at the clean images, JSON-able. ``sources``: name -> gradients; ``estimators``: name -> what was asked;
    ``images``: a slice of the rows -> ``(m, h, w, c) uint8``; ``objective``: a name of :mod:`edgeq.objectives`.

    ``gradients``: exact zeros of each, and where it is a source how many of its own components the rule of ``EXPLODES`` would call
    exploding; ``cosines``: of each pair, rows in which either is zero, or no number, counted ``apart``; ``differences``: of each estimator.
    """
    loss: Objective = plugins.load(plugins.OBJECTIVES, objective)()
    zeros = {name: _Zeros() for name in (*sources, *estimators)}
    differences = {name: _Differences() for name in estimators}
    pairs = {(a, b): _Pair() for a, b in combinations(zeros, 2) if _paired(estimators, a, b)}
    size = 0

    def shown(stage: str, start: int) -> Callable[[int], None]:
        return lambda done: progress(stage, start + done, len(rows))

    for part in _slices(len(rows), CHUNK):
        clean, some = images(part), rows[part]
        size = clean[0].size
        x, found = clean.astype(np.float32) / np.float32(255), dict[str, Found]()
        for name, source in sources.items():
            found[name] = value_and_grad(source, loss, x, some)[1].reshape(len(clean), -1) / np.float32(255), None
            progress("gradients", part.stop, len(rows))
        scales = {name: _scale(gradient) for name, (gradient, _) in found.items()}
        for name, asked in estimators.items():
            estimate = _estimate(asked, clean, some, loss, seed, shown(name, part.start))
            found[name] = estimate.slope, estimate.pixels
            differences[name].add(estimate, scales.get(asked.reference or ""))
        for name, (gradient, _) in found.items():
            zeros[name].add(gradient, scales.get(name))
        for (a, b), pair in pairs.items():
            pair.add(found[a], found[b])
    return {
        "objective": objective,
        "size": size,
        "explodes": EXPLODES,
        "gradients": {name: z.figures(len(rows)) for name, z in zeros.items()},
        "cosines": [{"a": a, "b": b, **pair.figures(seed)} for (a, b), pair in pairs.items()],
        "differences": {name: {**_about(estimators[name], size), **d.figures()} for name, d in differences.items()},
    }


def _paired(estimators: Mapping[str, Asked], a: str, b: str) -> bool:
    controls = [name for name in (a, b) if name in estimators and estimators[name].control]
    return not controls or (controls == [b] and estimators[b].reference == a)


def _scale(gradient: np.ndarray) -> np.ndarray:
    """``(m,) float64``: root mean square of a row's components; 0 where one is no number."""
    scale = np.sqrt(np.square(gradient.astype(np.float64)).mean(1))
    return np.where(np.isfinite(scale), scale, 0)


def logit_variance(float_logits: np.ndarray, file_logits: np.ndarray, seed: int) -> dict[str, Any]:
    """B19 5.1.2, which gives no formula: an image's variance over its ``(n, k)`` logits, averaged over the images, of both networks; the
    ratio file / float and its interval by a paired bootstrap over the images. ``apart``: images left out, whose logits do not vary in the
    float network, or are no numbers."""
    of_float, of_file = (v.astype(np.float64).var(axis=1) for v in (float_logits, file_logits))
    usable = np.isfinite(of_float) & np.isfinite(of_file) & (of_float > 0)
    of_float, of_file = of_float[usable], of_file[usable]
    some = usable.any()
    return {
        "float": float(of_float.mean()) if some else None,
        "file": float(of_file.mean()) if some else None,
        "ratio": float(of_file.mean() / of_float.mean()) if some else None,
        "interval": bootstrap(lambda i: of_file[i].mean() / of_float[i].mean(), len(of_float), seed),
        "rows": len(of_float),
        "apart": int((~usable).sum()),
    }


def _about(asked: Asked, size: int) -> dict[str, Any]:
    ceiling = getattr(asked.method, "ceiling", None)
    return {
        "params": asdict(asked.method),  # type: ignore[call-overload]  # a dataclass
        "runtime": asked.target.name,
        "reference": asked.reference,
        "control": asked.control,
        "queries": asked.method.queries(size),
        "ceiling": ceiling(size) if ceiling else None,
    }


def _estimate(asked: Asked, clean: np.ndarray, rows: Rows, objective: Objective, seed: int, progress: Callable[[int], None]) -> Estimate:
    """A few rows at a time, so that their queries fit into memory."""
    parts, size = [], clean[0].size
    for part in _slices(len(clean), max(1, MEMORY // (size * asked.method.queries(size)))):
        some = rows[part]

        def loss(images: np.ndarray, index: np.ndarray, some: Rows = some) -> np.ndarray:
            # in float64: the loss of a confident row is far below the rounding of its float32 logits
            return objective(asked.target.answer(images).logits().astype(np.float64), some.labels[index])[0]

        parts.append(asked.method.estimate(loss, clean[part], some.ids, seed))
        progress(part.stop)
    pixels = [p.pixels for p in parts if p.pixels is not None]
    joined = (np.concatenate(v) for v in ([p.difference for p in parts], [p.length for p in parts]))
    return Estimate(np.concatenate([p.slope for p in parts]), np.concatenate(pixels) if pixels else None, *joined)


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def share(k: Any, of: Any) -> dict[str, Any]:
    return as_share(k, of).to_json()
