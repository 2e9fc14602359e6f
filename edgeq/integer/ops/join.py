"""CONCATENATION, MINIMUM and MAXIMUM: codes of several inputs brought together."""

from __future__ import annotations

import numpy as np

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import Call, Step, clamp_range, limits, quantisation


def concatenation(call: Call) -> Step:
    """Inputs of another scale than the output's are rescaled in float32 (TFLite ``ConcatenationWithScaling``, uint8 only in LiteRT)."""
    axis = call.op.options["axis"] + 1
    lo, hi = clamp_range(call) if call.output.quantised else (0, 0)
    rescale = [_rescale(call, t) for t in call.inputs if t is not None]

    def run(*arrays: np.ndarray) -> np.ndarray:
        n = max(len(a) for a, t in zip(arrays, call.inputs, strict=True) if t is not None and t.data is None)
        parts = [
            np.broadcast_to(f(a), (n, *a.shape[1:])) if t is not None and t.data is not None else f(a)
            for f, a, t in zip(rescale, arrays, call.inputs, strict=True)
        ]
        joined = np.concatenate(parts, axis)
        return np.clip(joined, lo, hi) if call.output.quantised else joined

    return run


def _rescale(call: Call, tensor: Tensor) -> Step:
    if not call.output.quantised or quantisation(tensor) == quantisation(call.output):
        return lambda x: x
    (scale, zero), (out_scale, out_zero) = quantisation(tensor), quantisation(call.output)
    factor = scale * (np.float32(1) / out_scale)
    lo, hi = limits(call.output.dtype)

    def run(x: np.ndarray) -> np.ndarray:
        value = x.astype(np.float32) * factor + np.float32(-zero) * factor
        rounded = np.copysign(np.floor(np.abs(value) + np.float32(0.5)), value) + out_zero
        return np.clip(rounded, lo, hi).astype(call.output.dtype)

    return run


def minimum(call: Call) -> Step:
    return np.minimum


def maximum(call: Call) -> Step:
    return np.maximum
