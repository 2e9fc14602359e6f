"""The simulator's kernels. A kernel takes a :class:`Call` and gives a function from input arrays to the output array.

Arrays of activations are ``(n, *shape)`` in the tensor's dtype, constants are as in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgeq.integer.delegate import left_to_builtin
from edgeq.integer.graph import Op, Tensor

Step = Callable[..., np.ndarray]
EXACT32, EXACT64 = 2**24, 2**53  # integers below are exact in float32, float64, in whatever order they are added up


@dataclass(frozen=True, eq=False)
class Call:
    """One op with its tensors, for one runtime."""

    op: Op
    inputs: tuple[Tensor | None, ...]
    output: Tensor
    runtime: str

    @property
    def given(self) -> Tensor:
        """The first input."""
        assert self.inputs[0] is not None
        return self.inputs[0]

    @property
    def xnnpack(self) -> bool:
        """Whether XNNPACK computes it: on that runtime, and taken by its delegate."""
        return self.runtime == "litert-xnnpack" and not left_to_builtin(self.op, self.inputs, self.output)

    @property
    def kernels(self) -> str:
        """The runtime whose kernel computes it: what XNNPACK's delegate leaves out is computed by LiteRT's builtin kernels."""
        return "litert-builtin" if self.runtime == "litert-xnnpack" and not self.xnnpack else self.runtime

    @property
    def twice(self) -> bool:
        """Whether both inputs are one tensor."""
        return len(self.op.inputs) == 2 and self.op.inputs[0] == self.op.inputs[1]

    @property
    def same(self) -> bool:
        """Whether the first input and the output have one scale and one zero point."""
        return quantisation(self.given) == quantisation(self.output)


def quantisation(tensor: Tensor) -> tuple[np.float32, int]:
    """Scale and zero point of a per-tensor quantised tensor."""
    return np.float32(tensor.scale[0]), int(tensor.zero[0])


def limits(dtype: str) -> tuple[int, int]:
    """Least and greatest code."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def clamp_range(call: Call, activation: str | None = None) -> tuple[int, int]:
    """The output codes that the activation, by default the fused one, lets pass.

    TFLite ``CalculateActivationRangeQuantized``: the zero point plus the bound divided by the scale in float32, halves away from zero.
    XNNPACK ``xnn_qs8_quantize``: the zero point is added before the one rounding, halves to even; with a bound between two codes, an odd
    zero point makes that another code. ONNX Runtime: the zero point after the rounding, halves to even.
    """
    lo, hi = limits(call.output.dtype)
    bounds = {"relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}.get(
        activation or call.op.options.get("activation", "none")
    )
    if bounds is not None:
        lo = max(lo, min(hi, bound_code(call, bounds[0])))
        hi = hi if bounds[1] is None else min(hi, max(lo, bound_code(call, bounds[1])))
    return lo, hi


def bound_code(call: Call, bound: float) -> int:
    """The output code of a real bound of the activation; it may lie beyond the type's."""
    (scale, zero), (lo, hi) = quantisation(call.output), limits(call.output.dtype)
    ratio = np.float32(bound) / scale
    if call.xnnpack:
        return int(np.rint(np.clip(ratio + np.float32(zero), np.float32(lo), np.float32(hi))))
    return zero + int(np.rint(ratio) if call.runtime == "ort" else np.copysign(np.floor(np.abs(np.float64(ratio)) + 0.5), ratio))


def to_codes(values: np.ndarray, zero: int, lo: int, hi: int, dtype: str) -> np.ndarray:
    """Integers (int64 or float) plus the zero point, clamped, as codes."""
    return (np.clip(values, lo - zero, hi - zero).astype(np.int64 if abs(zero) > 2**14 else np.int16) + zero).astype(dtype)


def padding(size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], same: bool) -> tuple:
    """``((top, bottom), (left, right))``; SAME puts the odd one behind, as TensorFlow does."""
    if not same:
        return (0, 0), (0, 0)
    total = (max((-(-s // t) - 1) * t + (k - 1) * d + 1 - s, 0) for s, k, t, d in zip(size, kernel, stride, dilation, strict=True))
    return tuple((t // 2, t - t // 2) for t in total)
