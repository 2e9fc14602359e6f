"""What each kind of op computes in real numbers, in TensorFlow: a file's float ops, and what is differentiated where codes are rounded.

A function takes the op's inputs as ``(n, ...)`` float32 tensors, constants included, and leaves out the fused activation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import Call, convert, move, padding, resize
from edgeq.keras import engine

Function = Callable[..., Any]


def dequantised(call: Call, constant: Tensor) -> np.ndarray:
    """The real values of a constant, float32."""
    assert constant.data is not None
    if not constant.quantised:
        return constant.data.astype(np.float32)
    return np.asarray(convert.dequantize(replace(call, inputs=(constant,), runtime="litert-reference"))(constant.data))


def layer(call: Call, weights: np.ndarray) -> Function:
    """The product of a ``conv``, ``depthwise`` or ``dense`` op with ``weights``, laid out as the graph has them, in their own dtype.

    Dilation is written into the kernel as zeros: TensorFlow's kernels for the CPU do not know it backwards.
    """
    tf = engine.tensorflow()
    if call.op.kind == "dense":
        matrix = tf.constant(weights.T)
        return lambda x, *_: tf.matmul(tf.reshape(x, (-1, weights.shape[1])), matrix)
    o, pads, depth = call.op.options, call.op.options["padding"].upper(), call.given.shape[-1]
    first, kh, kw, last = weights.shape
    dh, dw = o["dilation"]
    spread = np.zeros((first, (kh - 1) * dh + 1, (kw - 1) * dw + 1, last), weights.dtype)
    spread[:, ::dh, ::dw] = weights
    if call.op.kind == "depthwise":
        kernel = tf.constant(spread.reshape(*spread.shape[1:3], depth, last // depth))
        sh, sw = o["stride"]
        if sh == sw:
            return lambda x, *_: tf.nn.depthwise_conv2d(x, kernel, (1, sh, sw, 1), pads)
        # TensorFlow has no such strides: every place is computed, and some are taken
        around = [(0, 0), *padding(call.given.shape[:2], spread.shape[1:3], o["stride"], (1, 1), o["padding"] == "same"), (0, 0)]
        return lambda x, *_: tf.nn.depthwise_conv2d(tf.pad(x, around), kernel, (1, 1, 1, 1), "VALID")[:, ::sh, ::sw]
    groups = [tf.constant(part) for part in np.split(spread.transpose(1, 2, 3, 0), depth // last, axis=-1)]
    if len(groups) == 1:
        return lambda x, *_: tf.nn.conv2d(x, groups[0], o["stride"], pads)

    def grouped(x: Any, *_: Any) -> Any:
        parts = tf.split(x, len(groups), axis=-1)
        return tf.concat([tf.nn.conv2d(p, k, o["stride"], pads) for p, k in zip(parts, groups, strict=True)], axis=-1)

    return grouped


def _linear(call: Call) -> Function:
    tf = engine.tensorflow()
    w, b = (*call.inputs[1:], None)[:2]
    assert w is not None
    product = layer(call, dequantised(call, w))
    if b is None or call.output.quantised:  # a bias does not change a derivative
        return product
    bias = tf.constant(dequantised(call, b).reshape(-1))
    return lambda x, *_: product(x) + bias


def _pool(call: Call) -> Function:
    tf = engine.tensorflow()
    o, pool = call.op.options, tf.nn.avg_pool2d if call.op.kind == "average_pool" else tf.nn.max_pool2d
    return lambda x: pool(x, o["window"], o["stride"], o["padding"].upper())


def _mean(call: Call) -> Function:
    tf = engine.tensorflow()
    return lambda x: tf.reshape(tf.reduce_mean(x, call.op.options["axes"]), (-1, *call.output.shape))


def _pad(call: Call) -> Function:
    tf = engine.tensorflow()
    pairs = [(0, 0), *zip(call.op.options["before"], call.op.options["after"], strict=True)]
    return lambda x: tf.pad(x, pairs)


def _reshape(call: Call) -> Function:
    tf = engine.tensorflow()
    return lambda x: tf.reshape(x, (-1, *call.output.shape))


def _moved(kernel: Callable[[Call], Any]) -> Callable[[Call], Function]:
    """An op that only moves elements: the simulator's own kernel says from where."""

    def make(call: Call) -> Function:
        tf = engine.tensorflow()
        size = int(np.prod(call.given.shape))
        source = kernel(call)(np.arange(size, dtype=np.int32).reshape(1, *call.given.shape))[0]
        return lambda x: tf.gather(tf.reshape(x, (-1, size)), source, axis=1)

    return make


def _concatenation(call: Call) -> Function:
    tf = engine.tensorflow()

    def run(*parts: Any) -> Any:
        n = tf.reduce_max([tf.shape(p)[0] for p in parts])  # a constant stands there once
        return tf.concat([tf.broadcast_to(p, (n, *p.shape[1:])) for p in parts], call.op.options["axis"] + 1)

    return run


def _bilinear(call: Call) -> Function:
    tf = engine.tensorflow()
    o = call.op.options
    places = {"align_corners": o["align_corners"], "half_pixel_centers": o["half_pixel_centers"]}
    return lambda x: tf.raw_ops.ResizeBilinear(images=x, size=o["size"], **places)


def _plain(name: str) -> Callable[[Call], Function]:
    """A function of TensorFlow's, by its name."""
    return lambda call: getattr(engine.tensorflow(), name)


def _softmax(call: Call) -> Function:
    tf = engine.tensorflow()
    return lambda x: tf.nn.softmax(x * call.op.options.get("beta", 1.0))


def _hard_swish(call: Call) -> Function:
    tf = engine.tensorflow()
    return lambda x: x * tf.clip_by_value(x + 3, 0.0, 6.0) / 6


def _leaky_relu(call: Call) -> Function:
    tf = engine.tensorflow()
    return lambda x: tf.where(x > 0, x, x * call.op.options["alpha"])


def _hard_sigmoid(call: Call) -> Function:
    tf = engine.tensorflow()
    return lambda x: tf.clip_by_value(x * call.op.options["alpha"] + call.op.options["beta"], 0.0, 1.0)


def _dynamic_quantize(call: Call) -> Function:
    """Straight through: what is rounded lies within the range that its own image sets."""
    tf = engine.tensorflow()

    def rounded(x: Any) -> Any:
        axes = list(range(1, len(x.shape)))
        low, high = tf.minimum(tf.reduce_min(x, axes, True), 0.0), tf.maximum(tf.reduce_max(x, axes, True), 0.0)
        scale = tf.where(high == low, 1.0, (high - low) / 255.0)
        zero = tf.round(-low / scale)
        return (tf.clip_by_value(tf.round(x / scale) + zero, 0.0, 255.0) - zero) * scale

    return tf.custom_gradient(lambda x: (rounded(x), lambda upstream: upstream))


def _identity(call: Call) -> Function:
    return lambda x: x


REAL: dict[str, Callable[[Call], Function]] = {
    **dict.fromkeys(("conv", "depthwise", "dense"), _linear),
    **dict.fromkeys(("average_pool", "max_pool"), _pool),
    **{kind: _plain(kind) for kind in ("add", "minimum", "maximum", "tanh")},
    "sub": _plain("subtract"),
    "mul": _plain("multiply"),
    "logistic": _plain("sigmoid"),
    "mean": _mean,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _moved(move.transpose),
    "strided_slice": _moved(move.strided_slice),
    "resize_nearest": _moved(resize.nearest),
    "resize_bilinear": _bilinear,
    "concatenation": _concatenation,
    "softmax": _softmax,
    "hard_swish": _hard_swish,
    "hard_sigmoid": _hard_sigmoid,
    "dynamic_quantize": _dynamic_quantize,
    "leaky_relu": _leaky_relu,
    **dict.fromkeys(("relu", "relu6", "relu_n1_to_1", "quantize", "dequantize"), _identity),
}
"""Kind -> its function of real numbers. A standing RELU is all activation: :mod:`edgeq.keras.ste.clamp` and ``floats.BOUNDS`` cut it."""
