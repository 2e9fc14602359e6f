"""The runtimes' requantisation (:mod:`edgeq.integer.rounding`) in TensorFlow, without integers: :mod:`edgeq.integer.line`.

What that does not hold is left to the simulator's own formula, in numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.integer import line, rounding
from edgeq.keras import engine


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
    fitted = line.line(requantiser, bias, bounds)
    if fitted is None:
        return lambda acc: tf.ensure_shape(
            tf.numpy_function(lambda a: _in_numpy(requantiser, a, bias), [acc], tf.float32, False), acc.shape
        )
    slope, below, above = (tf.constant(v) for v in (fitted.slope, fitted.middle - fitted.half, fitted.middle + fitted.half))
    middle, straight = tf.constant(-bias, tf.float64), not fitted.half.any()

    def run(acc: Any) -> Any:
        wide = tf.cast(acc, tf.float64)
        return tf.cast(tf.floor(wide * slope + (above if straight else tf.where(wide < middle, below, above))), tf.float32)

    return run


def _in_numpy(requantiser: rounding.Requantiser, acc: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.asarray(requantiser(acc + bias), np.float32)
