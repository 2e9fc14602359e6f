"""Convolution, depthwise convolution and dense layer: an exact accumulator forwards, the plain float layer backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer import rounding
from edgeq.integer.ops import EXACT32, Call, clamp_range, limits, quantisation
from edgeq.keras import engine
from edgeq.keras.ste.clamp import straight
from edgeq.keras.ste.rounding import requantise

Step = Callable[..., Any]


def linear(call: Call, clamp: str) -> Step:
    """``conv``, ``depthwise`` or ``dense`` on float32 tensors that hold codes."""
    x, w = call.given, call.inputs[1]
    assert w is not None
    assert w.data is not None
    channels = 3 if call.op.kind == "depthwise" else 0
    weights = w.data.astype(np.int64) - w.zero.reshape([-1 if i == channels and len(w.zero) > 1 else 1 for i in range(w.data.ndim)])
    out = weights.shape[channels]
    b = call.inputs[2] if len(call.inputs) > 2 else None
    bias = np.zeros(out, np.int64) if b is None or b.data is None else b.data.astype(np.int64).reshape(out)
    apply, transpose = _layer(call, weights)

    zero = quantisation(x)[1]
    lowest, highest = limits(x.dtype)
    reach = np.abs(weights).sum(tuple(i for i in range(weights.ndim) if i != channels)) * max(zero - lowest, highest - zero) + np.abs(bias)
    accumulate = _exact(apply, weights, bias, int(reach.max(initial=0)), f"{call.output.name}")

    codes = requantise(rounding.requantiser(call.runtime, call.op.kind, x.scale, w.scale, call.output.scale, out, x.dtype))
    slope = (x.scale * w.scale / call.output.scale).astype(np.float32)
    finish = straight(call.output, clamp_range(call), call.op.options.get("activation", "none"), clamp)
    tf = engine.tensorflow()

    def run(codes_in: Any, *_: Any) -> Any:
        @tf.custom_gradient
        def layer(q: Any) -> Any:
            value, passes = finish(codes(accumulate(q - float(zero))))

            def backward(upstream: Any) -> Any:
                return transpose(upstream * passes * slope, tf.shape(q))

            return value, backward

        return layer(codes_in)

    return run


def _exact(apply: Step, weights: np.ndarray, bias: np.ndarray, reach: int, name: str) -> Step:
    """The accumulator as a float tensor without any rounding.

    A float32 layer adds integers exactly while no sum leaves 2^24. Where the weights allow more, they are split into ``16 * high + low``:
    two layers that stay inside, added in float64.
    """
    tf = engine.tensorflow()
    if reach < EXACT32:
        kernel, offset = tf.constant(weights, tf.float32), tf.constant(bias, tf.float32)
        return lambda x: apply(x, kernel) + offset
    low = (weights + 8) % 16 - 8
    high = (weights - low) // 16
    if reach >= 8 * EXACT32:
        raise EdgeqError(f"{name}: adds up more than {8 * EXACT32} in one accumulator, which float32 layers cannot hold exactly")
    parts, offset = (tf.constant(high, tf.float32), tf.constant(low, tf.float32)), tf.constant(bias, tf.float64)
    return lambda x: 16 * tf.cast(apply(x, parts[0]), tf.float64) + tf.cast(apply(x, parts[1]), tf.float64) + offset


def _layer(call: Call, weights: np.ndarray) -> tuple[Step, Step]:
    """``apply(x, kernel)`` with a kernel in the graph's layout, and the gradient with respect to ``x`` of the float layer."""
    tf = engine.tensorflow()
    plain = tf.constant(weights, tf.float32)
    if call.op.kind == "dense":

        def dense(x: Any, kernel: Any) -> Any:
            return tf.matmul(tf.reshape(x, (-1, weights.shape[1])), kernel, transpose_b=True)

        return dense, lambda upstream, shape: tf.reshape(tf.matmul(upstream, plain), shape)
    o = call.op.options
    pads = o["padding"].upper()
    if call.op.kind == "depthwise":
        depth = call.given.shape[-1]
        shape = (*weights.shape[1:3], depth, weights.shape[3] // depth)
        strides = (1, *o["stride"], 1)

        def depthwise(x: Any, kernel: Any) -> Any:
            return tf.nn.depthwise_conv2d(x, tf.reshape(kernel, shape), strides, pads, dilations=o["dilation"])

        def depthwise_back(upstream: Any, size: Any) -> Any:
            kernel = tf.reshape(plain, shape)
            return tf.nn.depthwise_conv2d_backprop_input(size, kernel, upstream, strides, pads, dilations=(1, *o["dilation"], 1))

        return depthwise, depthwise_back
    if weights.shape[3] != call.given.shape[-1]:
        raise EdgeqError(f"{call.output.name}: is a grouped convolution, which has no gradient here; attack it by queries instead")

    def hwio(kernel: Any) -> Any:
        return tf.transpose(kernel, (1, 2, 3, 0))

    def conv(x: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(x, hwio(kernel), o["stride"], pads, dilations=o["dilation"])

    def conv_back(upstream: Any, size: Any) -> Any:
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=size, filter=hwio(plain), out_backprop=upstream, strides=(1, *o["stride"], 1), padding=pads,
            dilations=(1, *o["dilation"], 1),
        )  # fmt: skip

    return conv, conv_back
