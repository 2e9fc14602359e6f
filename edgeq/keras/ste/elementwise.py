"""Addition, pools, padding and reshaping of codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer import rounding
from edgeq.integer.ops import Call, clamp_range, limits, padding, quantisation
from edgeq.keras import engine
from edgeq.keras.ste.clamp import straight
from edgeq.keras.ste.rounding import double_rounding

Step = Callable[..., Any]


def add(call: Call, clamp: str) -> Step:
    """The sum in the runtime's fixed point (:mod:`edgeq.integer.ops.elementwise`); what a term contributes is a table of its 256 codes."""
    tf = engine.tensorflow()
    a, b = call.inputs[:2]
    if a is None or b is None or a.data is not None or b.data is not None or a.shape != b.shape:
        raise EdgeqError(f"{call.output.name}: adds something else than two activations of one shape, which has no gradient here")
    (sa, za), (sb, zb), (so, _) = quantisation(a), quantisation(b), quantisation(call.output)
    least = limits(a.dtype)[0]
    codes = np.arange(least, least + 256, dtype=np.int64)
    if call.xnnpack:
        ra, rb = sa / so, sb / so
        shift = 20 - (int(np.frexp(max(ra, rb))[1]) - 1)
        tables = [(codes - z) * int(np.rint(np.ldexp(np.float64(r), shift))) for z, r in ((za, ra), (zb, rb))]

        def total(left: Any, right: Any) -> Any:
            return tf.bitwise.right_shift(left + right + (1 << (shift - 1)), np.int64(shift))
    else:
        twice = np.float64(np.float32(2) * max(sa, sb))
        tables = [
            rounding.double_rounding((codes - z) << 20, *rounding.quantised_multiplier(np.float64(s) / twice))
            for z, s in ((za, sa), (zb, sb))
        ]
        q, exponent = (np.asarray(p) for p in rounding.quantised_multiplier(twice / np.float64(np.float32(2**20) * so)))

        def total(left: Any, right: Any) -> Any:
            return double_rounding(left + right, q, exponent)

    left_of, right_of = (tf.constant(t, tf.int64) for t in tables)
    finish = straight(call.output, clamp_range(call), call.op.options.get("activation", "none"), clamp)
    slopes = float(sa / so), float(sb / so)

    def run(x: Any, y: Any) -> Any:
        @tf.custom_gradient
        def layer(p: Any, r: Any) -> Any:
            terms = (tf.gather(table, tf.cast(t, tf.int32) - least) for table, t in ((left_of, p), (right_of, r)))
            value, passes = finish(tf.cast(total(*terms), tf.float32))
            return value, lambda upstream: tuple(upstream * passes * slope for slope in slopes)

        return layer(x, y)

    return run


def average_pool(call: Call, clamp: str) -> Step:
    """The mean of the codes inside the image, halves away from zero; backwards the plain average pool."""
    tf = engine.tensorflow()
    o = call.op.options
    strides, pads = (1, *o["stride"], 1), o["padding"].upper()
    channels = call.given.shape[-1]
    ones = tf.ones((*o["window"], channels, 1))
    top, left = padding(call.given.shape[:2], o["window"], o["stride"], (1, 1), o["padding"] == "same")
    inside = np.pad(np.ones(call.given.shape[:2], np.int32), (top, left))
    (sh, sw), (oh, ow) = o["stride"], call.output.shape[:2]
    taps = (
        inside[i : i + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw] for i in range(o["window"][0]) for j in range(o["window"][1])
    )
    count = tf.constant(np.sum(list(taps), axis=0)[..., None], tf.float32)
    low, high = (float(v) for v in clamp_range(call))
    del clamp  # a mean of codes leaves their range only where an activation is fused

    def run(x: Any, *_: Any) -> Any:
        @tf.custom_gradient
        def layer(q: Any) -> Any:
            total = tf.nn.depthwise_conv2d(q, ones, strides, pads)
            mean = tf.sign(total) * tf.floor((tf.abs(total) + tf.floor(count / 2)) / count)
            passes = tf.cast((mean >= low) & (mean <= high), tf.float32)

            def backward(upstream: Any) -> Any:
                return tf.nn.depthwise_conv2d_backprop_input(tf.shape(q), ones, upstream * passes / count, strides, pads)

            return tf.clip_by_value(mean, low, high), backward

        return layer(x)

    return run


def max_pool(call: Call, clamp: str) -> Step:
    tf = engine.tensorflow()
    o, (low, high) = call.op.options, clamp_range(call)
    del clamp
    return lambda x, *_: tf.clip_by_value(tf.nn.max_pool2d(x, o["window"], o["stride"], o["padding"].upper()), float(low), float(high))


def pad(call: Call, clamp: str) -> Step:
    tf = engine.tensorflow()
    o, zero = call.op.options, float(quantisation(call.given)[1])
    del clamp
    pairs = [(0, 0), *zip(o["before"], o["after"], strict=True)]
    return lambda x, *_: tf.pad(x, pairs, constant_values=zero)


def reshape(call: Call, clamp: str) -> Step:
    tf = engine.tensorflow()
    shape = call.output.shape
    del clamp
    return lambda x, *_: tf.reshape(x, (-1, *shape))
