"""What XNNPACK's delegate takes of a file, and what it leaves to LiteRT's builtin kernels: the conditions of its ``Visit`` functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.integer.graph import Op, Tensor

LAYERS = ("conv", "depthwise", "dense")


def left_to_builtin(op: Op, inputs: Sequence[Tensor | None], output: Tensor) -> bool:
    """Whether XNNPACK's delegate leaves ``op``, with these tensors, to LiteRT's builtin kernels; False for ops on floats alone."""
    kind, given = op.kind, next(iter(inputs), None)
    if given is None or not (output.quantised or given.quantised):
        return False
    w = inputs[1] if kind in LAYERS else None
    if any(t is not None and t.quantised and t.axis for t in (*(inputs if w is None else (given,)), output)):
        return True  # a quantised dimension is stated where there is one scale
    if w is not None:
        if len(inputs) > 2 and inputs[2] is not None and not _takes_bias(inputs[2]):
            return True
        packed = w.dtype == "int4" and (kind != "dense" or w.shape[1] % 2 == 1)
        return packed or (w.dtype == "uint8" and w.axis != 0)
    if kind in ("add", "sub", "mul"):
        return not _takes_scales(kind, inputs, output)
    if kind == "leaky_relu":
        above, below = slopes(op, given, output)
        return not (2.0**-8 <= above <= 128 and -127.99609375 <= below <= 128 and abs(below) >= 2.0**-8)
    if kind == "quantize":
        return given.quantised and (given.dtype != output.dtype or not 2.0**-8 <= ratio(given, output) <= 128)
    if kind == "max_pool":
        window, stride = op.options["window"], op.options["stride"]
        return any(s > k for s, k in zip(stride, window, strict=True))
    return kind in ("average_pool", "minimum", "maximum", "softmax", "hard_swish", "relu", "relu6", "relu_n1_to_1", "resize_nearest")


def ratio(a: Tensor, b: Tensor) -> float:
    """The scale of ``a`` over that of ``b``, both per tensor, divided in float32 before it is widened as kernels do it."""
    return float(np.float32(a.scale[0]) / np.float32(b.scale[0]))


def slopes(op: Op, given: Tensor, output: Tensor) -> tuple[float, float]:
    """Of LEAKY_RELU, in output codes per input code: above zero and below."""
    above = np.float32(given.scale[0]) / np.float32(output.scale[0])
    return float(above), float(above * np.float32(op.options["alpha"]))


def _takes_bias(bias: Tensor) -> bool:
    """By what the file states of it; the scale itself enters no sum."""
    normal = bias.scale >= np.finfo(np.float32).tiny  # not where it is NaN
    return bias.quantised and bias.axis == 0 and not bias.zero.any() and bool((normal & np.isfinite(bias.scale)).all())


def _takes_scales(kind: str, inputs: Sequence[Tensor | None], output: Tensor) -> bool:
    """Of ADD, SUB and MUL."""
    a, b = (t for t in inputs if t is not None)
    if kind == "mul":
        return 2.0**-16 <= float(np.float32(a.scale[0]) * np.float32(b.scale[0]) / np.float32(output.scale[0])) < 256
    return all(2.0**-10 <= ratio(t, output) < 256 for t in (a, b))
