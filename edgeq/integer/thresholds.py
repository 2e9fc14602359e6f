"""Whether several runtimes requantise every reachable accumulator of a layer alike.

Every formula is monotone in the accumulator, clamp included. So two of them are equal on a set of accumulators if, for every output code
between the clamps, the smallest accumulator of the set that reaches the code is the same. A layer's accumulators lie on a lattice,
``lowest + step * k`` for ``0 <= k <= count``; all of its points are checked, the few that no input reaches included.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from edgeq.integer import rounding
from edgeq.integer.rounding import Formula, Requantiser


@dataclass(frozen=True, eq=False)
class Lattice:
    """The accumulators of some channels: ``lowest + step * k``, ``0 <= k <= count``; ``(channels,)`` int64 each, ``step`` above 0."""

    lowest: np.ndarray
    step: np.ndarray
    count: np.ndarray

    @property
    def highest(self) -> np.ndarray:
        return np.asarray(self.lowest + self.step * self.count)

    def of(self, channels: np.ndarray | slice) -> Lattice:
        return Lattice(self.lowest[channels], self.step[channels], self.count[channels])


def lattice(weights: np.ndarray, bias: np.ndarray, values: np.ndarray) -> Lattice:
    """The accumulators ``bias + sum_j weights[:, j] v_j`` for ``v_j`` among ``values``, and maybe more between them.

    ``weights``: ``(channels, fan_in)`` integers of up to 16 bits; ``bias``: ``(channels,)`` int64; ``values``: codes less their zero point.
    """
    least, most = int(values.min()), int(values.max())
    negative, positive = np.minimum(weights, 0).sum(1, dtype=np.int64), np.maximum(weights, 0).sum(1, dtype=np.int64)
    lowest, highest = bias + positive * least + negative * most, bias + positive * most + negative * least
    step = np.gcd.reduce(weights, axis=1).astype(np.int64) * int(np.gcd.reduce(values - least))
    step = np.maximum(step, 1)  # 0 where there is only one accumulator
    return Lattice(lowest, step, (highest - lowest) // step)


class Rule(NamedTuple):
    """How one runtime makes codes, less the output's zero point, of the accumulators of some channels."""

    formula: Formula
    multipliers: tuple[np.ndarray, ...]
    low: int
    high: int

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        """``(..., channels)`` int64 to the same."""
        return np.clip(self.formula(acc, *self.multipliers), self.low, self.high).astype(np.int64)

    def room(self) -> np.ndarray:
        """The largest magnitude of an accumulator for which the kernel stays within 32 bits."""
        return rounding.room(self.formula, self.multipliers)

    def of(self, channels: np.ndarray) -> Rule:
        return self._replace(multipliers=tuple(m[channels] for m in self.multipliers))


def segments(requantisers: list[Requantiser], channels: int, most: int) -> list[slice]:
    """The channels in blocks of at most ``most``, in each of which every runtime has one formula."""
    cuts = {0, channels, *range(0, channels, most), *(part[0].stop for r in requantisers for part in r.parts)}
    return [slice(a, b) for a, b in pairwise(sorted(cuts))]


def rule(requantiser: Requantiser, channels: slice, clamp: tuple[int, int]) -> Rule:
    """The rule of one of the :func:`segments`. ``clamp``: least and greatest code less the zero point."""
    where, formula, multipliers = next(p for p in requantiser.parts if p[0].start <= channels.start and channels.stop <= p[0].stop)
    inside = slice(channels.start - where.start, channels.stop - where.start)
    return Rule(formula, tuple(np.asarray(m)[inside] for m in multipliers), *clamp)


class Comparison(NamedTuple):
    """``same``: ``(channels,) bool``. ``codes``: all that come out in these channels, less the zero point, where all are the same.

    ``example``: channel and accumulator where rules differ, as near to the middle of its range as there is one; None where none do.
    """

    same: np.ndarray
    codes: np.ndarray
    example: tuple[int, int] | None


def compare(rules: list[Rule], points: Lattice) -> Comparison:
    """Holds the rules against the first of them on every point of the lattice, which must be within their :meth:`Rule.room`."""
    first, low, high = rules[0], min(r.low for r in rules), max(r.high for r in rules)
    level = np.arange(low + 1, high + 1)[:, None]
    at = _reaching(first, level, points)
    reach = points.lowest + points.step * np.minimum(at, points.count)
    stay = points.lowest + points.step * np.maximum(at - 1, 0)
    differs_at, acc = np.zeros(at.shape, bool), reach
    for other in rules[1:]:
        late, early = (at <= points.count) & (other(reach) < level), (at > 0) & (other(stay) >= level)
        acc = np.where(early & ~differs_at, stay, acc)
        differs_at |= late | early
    example = None
    same = np.asarray(~differs_at.any(axis=0))
    if not same.all():
        channel = int(np.argmin(same))
        away = np.abs(acc[:, channel] - (points.lowest + points.highest)[channel] // 2)
        example = channel, int(acc[np.where(differs_at[:, channel], away, np.iinfo(np.int64).max).argmin(), channel])
    return Comparison(same, np.unique(np.concatenate([first(reach), first(points.lowest[None])])), example)


def _reaching(rule: Rule, level: np.ndarray, points: Lattice) -> np.ndarray:
    """``(levels, channels)``: which point of the lattice is the first whose code is at least the level; ``count + 1`` where none is."""
    last = np.full((len(level), len(points.count)), -1)  # that is known to stay below the level
    for bit in reversed(range(int(points.count.max() + 1).bit_length())):
        beyond = last + (1 << bit)
        below = (rule(points.lowest + points.step * beyond) < level) & (beyond <= points.count)
        last = np.where(below, beyond, last)
    return last + 1
