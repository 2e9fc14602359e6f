"""One op of the graph in TensorFlow: forwards the runtime's codes, backwards the real function straight through the rounding.

Between ops a tensor holds codes less their zero point, or the reals of a float tensor, as float32. Gradients are those of the *real*
values, so nothing is rescaled on the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import Call
from edgeq.integer.ops.floats import BOUNDS
from edgeq.keras import engine
from edgeq.keras.ste import codes
from edgeq.keras.ste.clamp import activation, bounds, passing
from edgeq.keras.ste.linear import linear
from edgeq.keras.ste.real import REAL, Function, dequantised

LAYERS = ("conv", "depthwise", "dense")
FORWARD: dict[str, Callable[[Call], codes.Kernel]] = {
    **dict.fromkeys(LAYERS, linear),
    **dict.fromkeys(("add", "sub", "mul", "minimum", "maximum"), codes.two_inputs),
    **dict.fromkeys(("relu", "relu6", "relu_n1_to_1", "leaky_relu", "hard_swish", "logistic", "tanh"), codes.one_input),
    **dict.fromkeys(("quantize", "dequantize", "mean", "softmax", "resize_bilinear"), codes.simulated),
    "average_pool": codes.average_pool,
    "concatenation": codes.concatenation,
}
"""Kind -> how codes come about. The other ops move codes as they move reals."""


def step(call: Call, clamp: str) -> Function:
    """From the op's activations to its output."""
    if call.op.kind in FORWARD and (call.output.quantised or call.op.kind == "dequantize"):
        return _straight_through(call, clamp)
    tf = engine.tensorflow()
    real, inputs = REAL[call.op.kind](call), _inputs(call, lambda t: dequantised(call, t))
    low, high = bounds(call) if call.output.quantised else BOUNDS[activation(call)]
    if activation(call) == "none":
        return lambda *values: real(*inputs(values))
    return lambda *values: tf.clip_by_value(real(*inputs(values)), low, high)


def _straight_through(call: Call, clamp: str) -> Function:
    tf = engine.tensorflow()
    forward, real, passes = FORWARD[call.op.kind](call), REAL[call.op.kind](call), passing(call, clamp)
    code_inputs, real_inputs = _inputs(call, lambda t: codes.centred(t.data, t)), _inputs(call, lambda t: dequantised(call, t))
    # the derivative of a product with weights is the same at every point
    scales = [1.0 if call.op.kind in LAYERS else codes.grid(t)[0] for t in call.inputs if t is not None and t.data is None]
    unit = codes.grid(call.output)[0]

    def run(*values: Any) -> Any:
        value, before = forward(*code_inputs(values))

        def backward(upstream: Any) -> Any:
            reals = [v * s for v, s in zip(values, scales, strict=True)]
            with tf.GradientTape() as tape:
                tape.watch(reals)
                answer = real(*real_inputs(reals))
            return tape.gradient(answer, reals, passes(upstream, tf.round(answer * (1 / unit)) if before is None else before))

        return value, backward

    return tf.custom_gradient(run)


def _inputs(call: Call, value: Callable[[Tensor], np.ndarray]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """From the op's activations to all its inputs; a layer's weights are in its function."""
    tensors = [t for t in call.inputs if t is not None]
    if call.op.kind in LAYERS or all(t.data is None for t in tensors):
        return lambda activations: activations
    tf = engine.tensorflow()
    constants = [None if t.data is None else tf.constant(value(t)) for t in tensors]

    def fill(activations: Sequence[Any]) -> list[Any]:
        rest = iter(activations)
        return [next(rest) if c is None else c for c in constants]

    return fill
