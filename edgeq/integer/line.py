"""The fixed-point formulas of :mod:`edgeq.integer.rounding` as one product, one sum and one ``floor`` in float64: what is fast.

With ``M = q / 2^(31 + r)`` each of them is ``floor(acc M + 1/2 + offset)``. Rounding ``acc q / 2^31`` first moves the halves of the second
rounding by half a step of the first, ``2^-(r+1)``: down where halves go up, towards zero where they go away from it.
float64 holds this exactly as far as codes reach for all but the smallest multipliers. That is not taken for granted: it is checked at
every threshold of every channel, and as both sides are monotone in the accumulator, the check is a proof.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edgeq.integer import rounding

_HAIR = 2.0**-36  # moves a half below zero down, and nothing that float64 tells from a half
_AROUND = np.arange(-2, 3)[:, None]  # accumulators around a threshold of the real function: the kernels' lies within one of it


class Line(NamedTuple):
    """``floor(acc slope + middle + half)`` of an accumulator without its bias, ``- half`` where it is negative with it.

    ``(channels,)``: float64, and ``bias`` int64. ``zero``: the output's zero point, which ``middle`` holds already.
    """

    slope: np.ndarray
    middle: np.ndarray
    half: np.ndarray
    bias: np.ndarray
    zero: int

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        """``(..., channels)``, integers in any dtype -> codes before the clamp, float64."""
        value = acc * self.slope
        if self.half.any():
            side = value + self.bias * self.slope if self.bias.any() else value
            value += np.copysign(self.half, side) + self.middle
        else:
            value += self.middle
        return np.asarray(np.floor(value, out=value))


def line(requantiser: rounding.Requantiser, bias: np.ndarray, bounds: tuple[float, float], zero: int = 0) -> Line | None:
    """The formula as a line, with the same codes for every accumulator once clamped; None where float64 does not give them.

    ``bias``: ``(channels,) int64``, what the accumulators given to the line lack. ``bounds``: least and greatest code less the zero point.
    """
    fitted = _line(requantiser, bias, one_sided=bounds[0] >= 0, zero=zero)
    return fitted if proven(requantiser, fitted, bounds) else None


def _line(requantiser: rounding.Requantiser, bias: np.ndarray, one_sided: bool, zero: int = 0) -> Line:
    """``one_sided``: what a negative accumulator gives is clamped."""
    parts = []
    for _, formula, parameters in requantiser.parts:
        if formula is rounding.real_product:  # halves away from zero, in one rounding
            slope, none = parameters[0], 0 * parameters[0]
            parts.append(np.stack([slope, none - _HAIR, none]))
            continue
        q, shift = parameters
        first = np.where(shift < 0, np.ldexp(0.5, shift), 0)  # half a step of the first rounding
        below, above = {rounding.half_up: (first, first), rounding.double_rounding: (-first, first)}[formula]
        parts.append(np.stack([np.ldexp(q.astype(np.float64), shift - 31), below, above]))
    slope, below, above = np.concatenate(parts, axis=1)
    if one_sided:
        below = above
    return Line(slope, slope * bias + 0.5 + (above + below) / 2 + zero, (above - below) / 2, bias, zero)


def proven(requantiser: rounding.Requantiser, fitted: Line, bounds: tuple[float, float]) -> bool:
    """Whether the line gives the formula's codes for every accumulator, once clamped."""
    if not fitted.slope.all():
        return False
    low, high = bounds[0] + fitted.zero, bounds[1] + fitted.zero
    for some in np.array_split(np.arange(low + 1, high + 1), 8):
        level = some[:, None, None]
        acc = np.floor((level - fitted.zero - 0.5) / fitted.slope).astype(np.int64) - fitted.bias + _AROUND
        exact = np.clip(requantiser(acc + fitted.bias) + fitted.zero, low, high)
        crossed = (exact[:, 0] < level[:, 0]) & (exact[:, -1] >= level[:, 0])
        if not crossed.all() or not np.array_equal(exact, np.clip(fitted(acc), low, high)):
            return False
    return True
