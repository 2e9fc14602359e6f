"""Whether the gradients that attacks follow are the network's: cosines between the float network's, the file's own and estimates from
queries (B19 figure 4), what is exactly zero or explodes (B19 5.1.2), and the variance of the logits (docs/concepts.md: *Straight-through*).

All figures are made of what :mod:`edgeq.measure.gradients` and :mod:`edgeq.measure.value_shift` measured of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from edgeq.core.jsonable import as_json
from edgeq.measure.figures import Share, share
from edgeq.measure.gradients import EXPLODES, Asked, Subjects, called
from edgeq.measure.value_shift import Shift
from edgeq.runs.reader import Reader

FORMAT = 1
RESAMPLES = 1000

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class Zeros:
    """Of one gradient: rows in which every component is exactly zero, components that are, of a source the components that the rule of
    ``EXPLODES`` would call exploding (None for an estimate), and rows that hold no number."""

    rows: Share
    pixels: Share
    large: Share | None
    not_finite: int


@dataclass(frozen=True)
class Cosine:
    """Of two gradients over ``rows`` rows, with a bootstrap interval of the mean; ``signs``: mean share of components of one sign;
    ``apart``: rows left out, in which either is zero, or no number. None where there are no rows."""

    a: str
    b: str
    mean: float | None
    interval: Interval
    median: float | None
    signs: float | None
    rows: int
    apart: int


@dataclass(frozen=True)
class Differences:
    """Of one estimator: how many differences are exactly zero, how many explode (None without a reference), and the median size of those
    that are not zero, in units of the reference. ``queries``: of a row; ``ceiling``: the cosine that a linear loss would give."""

    params: Mapping[str, Any]
    runtime: str
    reference: str | None
    control: bool
    queries: int
    ceiling: float | None
    zero: Share
    explode: Share | None
    median_size: float | None


@dataclass(frozen=True)
class LogitVariance:
    """B19 5.1.2, which gives no formula: an image's variance over its logits, averaged over the images, of both networks; the ratio file /
    float and its interval by a paired bootstrap. ``apart``: images left out, whose logits do not vary in the float network, or are no
    numbers."""

    of_float: float | None
    of_file: float | None
    ratio: float | None
    interval: Interval
    rows: int
    apart: int

    def to_json(self) -> dict[str, Any]:
        return {{"of_float": "float", "of_file": "file"}.get(f.name, f.name): as_json(getattr(self, f.name)) for f in fields(self)}


@dataclass(frozen=True)
class File:
    file: str
    sha256: str


@dataclass(frozen=True)
class Crafter:
    """The attack whose candidates the value shift is of."""

    name: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Aligned:
    """Everything. ``size``: components of an image; ``gradients``, ``differences``: by name; ``notes``: what was left out, and why;
    ``unreadable``: names of the images that were left out of the sample."""

    format: int
    warnings: tuple[str, ...]
    target: File
    source: File | None
    runtime: str
    identity: Any
    data: str
    n: int
    seed: int
    objective: str
    size: int
    explodes: float
    gradients: Mapping[str, Zeros]
    cosines: tuple[Cosine, ...]
    differences: Mapping[str, Differences]
    attack: Crafter
    shift: tuple[Shift, ...]
    logit_variance: LogitVariance | None
    notes: tuple[str, ...]
    unreadable: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {f.name: as_json(getattr(self, f.name)) for f in fields(self)}


def gradients(run: Reader, subjects: Subjects, seed: int) -> dict[str, Any]:
    """The figures of :class:`Aligned` that are about gradients at the clean images, by field. ``seed``: of the bootstrap."""
    size = int(np.prod(run.shape))
    return {
        "objective": subjects.objective,
        "size": size,
        "explodes": EXPLODES,
        "gradients": {name: _zeros(_of(run, called("zeros", name), 5)) for name in subjects.names},
        "cosines": tuple(_cosine(a, b, _of(run, called("cosine", a, b), 2), seed) for a, b in subjects.pairs),
        "differences": {name: _differences(run, name, asked, size) for name, asked in subjects.estimators.items()},
        "logit_variance": None if subjects.logits is None else logit_variance(_of(run, called("variance"), 2), seed),
    }


def _of(run: Reader, name: str, size: int) -> np.ndarray:
    """``(n, size) float64``."""
    return np.stack(run.measurements(0, name, size))


def _zeros(rows: np.ndarray) -> Zeros:
    zero, components, broken, large, looked_at = rows.T
    some = share(large.sum(), looked_at.sum()) if looked_at.any() else None
    return Zeros(share((zero == components).sum(), len(rows)), share(zero.sum(), components.sum()), some, int(broken.sum()))


def _cosine(a: str, b: str, rows: np.ndarray, seed: int) -> Cosine:
    cosines, signs = rows[~np.isnan(rows[:, 0])].T
    signs = signs[np.isfinite(signs)]
    some, n = len(cosines) > 0, len(cosines)
    return Cosine(
        a,
        b,
        float(cosines.mean()) if some else None,
        bootstrap(lambda i: cosines[i].mean(), n, seed),
        float(np.median(cosines)) if some else None,
        float(signs.mean()) if len(signs) else None,
        n,
        len(rows) - n,
    )


def _differences(run: Reader, name: str, asked: Asked, size: int) -> Differences:
    zero, of, explode, looked_at = _of(run, called("differences", name), 4).sum(0)
    sizes = np.concatenate(run.measurements(0, called("sizes", name)))
    ceiling = getattr(asked.method, "ceiling", None)
    return Differences(
        asdict(asked.method),  # type: ignore[call-overload]  # a dataclass
        asked.target.name,
        asked.reference,
        asked.control,
        asked.method.queries(size),
        ceiling(size) if ceiling else None,
        share(zero, of),
        None if asked.reference is None else share(explode, looked_at),
        float(np.median(sizes)) if sizes.size else None,
    )


def logit_variance(variances: np.ndarray, seed: int) -> LogitVariance:
    """``variances``: ``(n, 2) float64``, of each image's logits in the float network and in the file."""
    of_float, of_file = variances.T
    usable = np.isfinite(of_float) & np.isfinite(of_file) & (of_float > 0)
    apart = int((~usable).sum())
    of_float, of_file = of_float[usable], of_file[usable]
    if not len(of_float):
        return LogitVariance(None, None, None, None, 0, apart)
    interval = bootstrap(lambda i: of_file[i].mean() / of_float[i].mean(), len(of_float), seed)
    mean, other = float(of_float.mean()), float(of_file.mean())
    return LogitVariance(mean, other, float(of_file.mean() / of_float.mean()), interval, len(of_float), apart)


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> Interval:
    """The percentile interval, 95 %, of ``statistic(index (n,))`` over ``n`` rows drawn with replacement; None below two rows."""
    if n < 2:
        return None
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)
