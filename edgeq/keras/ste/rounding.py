"""The runtimes' requantisation (:mod:`edgeq.integer.rounding`) in TensorFlow, without integers: one product, one sum and one ``floor``.

With ``M = q / 2^(31 + r)`` every fixed-point formula is ``floor(acc M + 1/2 + offset)``. Rounding ``acc q / 2^31`` first moves the halves
of the second rounding by half a step of the first, ``2^-(r+1)``: down where halves go up, towards zero where they go away from it.
float64 holds this exactly as far as codes reach for all but the smallest multipliers. That is not taken for granted: it is checked at
every threshold of every channel, and as both sides are monotone in the accumulator, the check is a proof. What fails it is left to the
simulator's own formula, in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from edgeq.integer import rounding
from edgeq.keras import engine

_AROUND = np.arange(-2, 3)[:, None]  # accumulators around a threshold of the real function: the kernels' lies within one of it


def requantise(requantiser: rounding.Requantiser, bias: np.ndarray, bounds: tuple[float, float]) -> Callable[[Any], Any]:
    """From an accumulator without its bias (float32 or float64, holding integers exactly) to float32 codes less the zero point.

    ``bias``: ``(channels,) int64``. ``bounds``: to where codes will be clamped; beyond, they may differ from the formula's.
    """
    tf = engine.tensorflow()
    _, formula, multipliers = requantiser.parts[0]
    if formula is rounding.float_product:
        slope, offset = tf.constant(multipliers[0]), tf.constant(bias)
        # without a bias, TensorFlow would multiply a convolution's kernel with the slope; rounding whole numbers only keeps it from that
        whole = (lambda acc: acc + tf.cast(offset, acc.dtype)) if bias.any() else tf.round
        return lambda acc: tf.round(tf.cast(whole(acc), tf.float32) * slope)
    line = Line.of(requantiser, bias, one_sided=bounds[0] >= 0)
    if not proven(requantiser, line, bounds):
        return lambda acc: tf.ensure_shape(
            tf.numpy_function(lambda a: _in_numpy(requantiser, a, bias), [acc], tf.float32, False), acc.shape
        )
    slope, below, above = (tf.constant(v) for v in line[:3])
    middle = tf.constant(-bias, tf.float64)
    one = bool((line.below == line.above).all())

    def run(acc: Any) -> Any:
        wide = tf.cast(acc, tf.float64)
        return tf.cast(tf.floor(wide * slope + (above if one else tf.where(wide < middle, below, above))), tf.float32)

    return run


class Line(NamedTuple):
    """``floor(acc slope + below)`` of an accumulator without its bias that is negative with it, ``floor(acc slope + above)`` of others."""

    slope: np.ndarray
    below: np.ndarray
    above: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, requantiser: rounding.Requantiser, bias: np.ndarray, one_sided: bool) -> Line:
        parts = []
        for _, formula, (q, shift) in requantiser.parts:
            first = np.where(shift < 0, np.ldexp(0.5, shift), 0)  # half a step of the first rounding
            below, above = {
                rounding.half_up: (first, first),
                rounding.double_rounding: (-first, first),
                rounding.single_rounding: (-np.ldexp(0.5, shift - 31), 0 * first),  # halves away from zero, in one rounding
            }[formula]
            parts.append(np.stack([np.ldexp(q.astype(np.float64), shift - 31), below, above]))
        slope, below, above = np.concatenate(parts, axis=1)
        rest = slope * bias + 0.5
        return cls(slope, rest + (above if one_sided else below), rest + above, bias)

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        return np.floor(acc * self.slope + np.where(acc < -self.bias, self.below, self.above))


def proven(requantiser: rounding.Requantiser, line: Line, bounds: tuple[float, float]) -> bool:
    """Whether the line gives the formula's codes for every accumulator, once clamped."""
    if not line.slope.all():
        return False
    levels = np.arange(bounds[0] + 1, bounds[1] + 1)
    for some in np.array_split(levels, 8):
        level = some[:, None, None]
        acc = np.floor((level - 0.5) / line.slope).astype(np.int64) - line.bias + _AROUND
        exact = np.clip(requantiser(acc + line.bias), *bounds)
        crossed = (exact[:, 0] < level[:, 0]) & (exact[:, -1] >= level[:, 0])
        if not crossed.all() or not np.array_equal(exact, np.clip(line(acc), *bounds)):
            return False
    return True


def _in_numpy(requantiser: rounding.Requantiser, acc: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.asarray(requantiser(acc + bias), np.float32)
