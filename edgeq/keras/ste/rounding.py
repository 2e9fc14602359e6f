"""The runtimes' requantisation (:mod:`edgeq.integer.rounding`) in TensorFlow: on int64 tensors, or on float32 for XNNPACK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.integer import rounding
from edgeq.keras import engine


def requantise(requantiser: rounding.Requantiser) -> Callable[[Any], Any]:
    """From an accumulator (float32 or float64, holding integers exactly) to float32 codes before zero point and clamp."""
    tf = engine.tensorflow()
    parts = [(where, _part(formula, parameters)) for where, formula, parameters in requantiser.parts]
    if len(parts) == 1:
        return parts[0][1]
    return lambda acc: tf.concat([part(acc[..., where]) for where, part in parts], axis=-1)


def _part(formula: Callable[..., np.ndarray], parameters: tuple[np.ndarray, ...]) -> Callable[[Any], Any]:
    tf = engine.tensorflow()
    if formula is rounding.float_product:
        multiplier = tf.constant(parameters[0], tf.float32)
        return lambda acc: tf.round(tf.cast(acc, tf.float32) * multiplier)
    q, shift = (np.asarray(p, np.int64) for p in parameters)
    twin = {
        rounding.double_rounding: double_rounding,
        rounding.half_up: half_up,
        rounding.single_rounding: single_rounding,
    }[formula]
    return lambda acc: tf.cast(twin(tf.cast(acc, tf.int64), q, shift), tf.float32)


def high_mul(a: Any, q: np.ndarray) -> Any:
    tf = engine.tensorflow()
    return tf.bitwise.right_shift(a * q + 2**30, tf.constant(31, tf.int64))


def double_rounding(acc: Any, q: np.ndarray, shift: np.ndarray) -> Any:
    tf = engine.tensorflow()
    x, right = high_mul(_left(acc, shift), q), np.maximum(-shift, 0)
    half = (np.int64(1) << right) >> 1
    away = tf.where(x < 0, -np.minimum(half, 1), np.int64(0))  # halves away from zero
    return tf.bitwise.right_shift(x + half + away, np.broadcast_to(right, np.shape(right)))


def half_up(acc: Any, q: np.ndarray, shift: np.ndarray) -> Any:
    tf = engine.tensorflow()
    right = np.maximum(-shift, 0)
    return tf.bitwise.right_shift(high_mul(_left(acc, shift), q) + ((np.int64(1) << right) >> 1), right)


def single_rounding(acc: Any, q: np.ndarray, shift: np.ndarray) -> Any:
    tf = engine.tensorflow()
    total = 31 - shift
    product = acc * q
    return tf.sign(product) * tf.bitwise.right_shift(tf.abs(product) + (np.int64(1) << (total - 1)), total)  # halves away from zero


def _left(acc: Any, shift: np.ndarray) -> Any:
    return acc if (shift <= 0).all() else acc * (np.int64(1) << np.maximum(shift, 0))
