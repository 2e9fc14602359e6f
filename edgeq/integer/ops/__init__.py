"""The simulator's kernels. A kernel takes a :class:`Call` and gives a function from input arrays to the output array.

Arrays of activations are ``(n, *shape)`` in the tensor's dtype, constants are as in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
        return self.runtime == "litert-xnnpack"

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

    TFLite ``CalculateActivationRangeQuantized``: the bound divided by the scale in float32, halves away from zero; XNNPACK and ONNX
    Runtime: halves to even.
    """
    scale, zero = quantisation(call.output)
    lo, hi = limits(call.output.dtype)

    def code(value: float) -> int:
        ratio = np.float32(value) / scale
        even = call.runtime in ("litert-xnnpack", "ort")
        return zero + int(np.rint(ratio) if even else np.copysign(np.floor(np.abs(np.float64(ratio)) + 0.5), ratio))

    bounds = {"relu": (0.0, None), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0)}.get(
        activation or call.op.options.get("activation", "none")
    )
    if bounds is not None:
        lo = max(lo, min(hi, code(bounds[0])))
        hi = hi if bounds[1] is None else min(hi, max(lo, code(bounds[1])))
    return lo, hi


def to_codes(values: np.ndarray, zero: int, lo: int, hi: int, dtype: str) -> np.ndarray:
    """Integers (int64 or float) plus the zero point, clamped, as codes."""
    return np.clip(values, lo - zero, hi - zero).astype(np.int16 if dtype in ("int8", "uint8") else np.int64).__add__(zero).astype(dtype)


def padding(size: tuple[int, ...], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int], same: bool) -> tuple:
    """``((top, bottom), (left, right))``; SAME puts the odd one behind, as TensorFlow does."""
    if not same:
        return (0, 0), (0, 0)
    total = (max((-(-s // t) - 1) * t + (k - 1) * d + 1 - s, 0) for s, k, t, d in zip(size, kernel, stride, dilation, strict=True))
    return tuple((t // 2, t - t // 2) for t in total)
