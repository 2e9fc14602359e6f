"""Convolution, depthwise convolution and dense layer: an accumulator that no rounding touches, then the runtime's requantisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.integer.ops import EXACT32, Call, limits, quantisation
from edgeq.integer.ops.linear import requantisation
from edgeq.keras import engine
from edgeq.keras.ste.clamp import bounds, clip
from edgeq.keras.ste.codes import Kernel
from edgeq.keras.ste.real import layer
from edgeq.keras.ste.rounding import requantise


def linear(call: Call) -> Kernel:
    """``conv``, ``depthwise`` or ``dense``.

    A float32 layer adds integers exactly while no sum leaves 2^24, whatever the order. Where the weights allow more, float64 does, and
    wraps around as the kernel's int32 does.
    """
    w, b = (*call.inputs[1:], None)[:2]
    assert w is not None
    assert w.data is not None
    axis = 3 if call.op.kind == "depthwise" else 0
    weights = w.data.astype(np.int64) - w.zero.reshape([-1 if i == axis and len(w.zero) > 1 else 1 for i in range(w.data.ndim)])
    bias = np.zeros(weights.shape[axis], np.int64) if b is None or b.data is None else b.data.astype(np.int64).reshape(-1)
    zero, (lowest, highest) = quantisation(call.given)[1], limits(call.given.dtype)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    reach = np.abs(weights).sum(others) * max(zero - lowest, highest - zero) + np.abs(bias)
    exact = np.float32 if reach.max(initial=0) < EXACT32 else np.float64
    accumulate = layer(call, weights.astype(exact)) if exact is np.float32 else _wrapping(layer(call, weights.astype(exact)), bias)
    codes = requantise(requantisation(call), bias if exact is np.float32 else 0 * bias, bounds(call))

    def run(x: Any) -> tuple[Any, Any]:
        before = codes(accumulate(x))
        return clip(before, *bounds(call)), before

    return run


def _wrapping(product: Any, bias: np.ndarray) -> Any:
    """An int32 accumulator, bias included, in float64."""
    tf = engine.tensorflow()
    return lambda x: tf.cast(tf.cast(tf.cast(product(tf.cast(x, tf.float64)), tf.int64) + bias, tf.int32), tf.float64)
