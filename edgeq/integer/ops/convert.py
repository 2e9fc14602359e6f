"""QUANTIZE and DEQUANTIZE."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops import Call, Step, limits, quantisation, to_codes
from edgeq.integer.rounding import double_rounding, half_up, quantised_multiplier


def quantize(call: Call) -> Step:
    """From float32, or from one integer type or scale to another. Reals are divided by the scale, halves away from zero; XNNPACK and the
    vectors of the builtin kernel multiply by its reciprocal and round to even."""
    out_scale, out_zero = quantisation(call.output)
    lo, hi = limits(call.output.dtype)
    if call.given.dtype == "float32":

        def even(x: np.ndarray) -> np.ndarray:
            return np.rint(x * (np.float32(1) / out_scale))

        def away(x: np.ndarray) -> np.ndarray:
            steps = x / (np.float64(out_scale) if call.kernels == "litert-builtin" else out_scale)
            return np.trunc(steps + np.copysign(np.nextafter(steps.dtype.type(0.5), steps.dtype.type(0)), steps))

        def from_float(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
            flat = x.reshape(len(x), -1)
            rounded = _blocks(flat, 8, even, away) if call.kernels == "litert-builtin" else even(flat) if call.xnnpack else away(flat)
            return to_codes(np.clip(np.nan_to_num(rounded), -(2.0**15), 2.0**15), out_zero, lo, hi, call.output.dtype).reshape(x.shape)

        return from_float
    scale, zero = quantisation(call.given)
    eighth = int(np.rint(np.float32(256) * (scale / out_scale)))
    q, shift = quantised_multiplier(np.float64(scale) / np.float64(out_scale))

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        centred = x.astype(np.int64).reshape(len(x), -1) - zero
        if call.xnnpack:
            steps = (centred * eighth + 128) >> 8
        elif call.kernels == "litert-builtin":
            steps = _blocks(centred, 16, lambda c: half_up(c, q, shift), lambda c: double_rounding(c, q, shift))
        else:
            steps = double_rounding(centred, q, shift)
        return to_codes(steps.reshape(x.shape), out_zero, lo, hi, call.output.dtype)

    return run


def dequantize(call: Call) -> Step:
    """``scale * (code - zero)`` in float32, per tensor or per channel; the builtin kernel's blocks add ``-scale * zero`` last."""
    given = call.given
    if not given.quantised:  # constants that are stored as float16
        return lambda x, *_: x
    shape = [1] * len(given.shape)
    if len(given.scale) > 1:
        shape[given.axis] = -1
    scale, zero = (a.reshape(shape) if len(a) > 1 else a for a in (given.scale, given.zero.astype(np.int32)))

    def centred(x: np.ndarray) -> np.ndarray:
        return (x.astype(np.int32) - zero).astype(np.float32) * scale

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        if call.runtime != "litert-builtin" or len(given.scale) > 1 or given.data is not None:
            return centred(x)
        bias = np.float32(-float(zero[0]) * float(scale[0]))
        return _blocks(x.reshape(len(x), -1), 8, lambda c: c.astype(np.float32) * scale + bias, centred).reshape(x.shape)

    return run


def _blocks(x: np.ndarray, block: int, vector: Step, scalar: Step) -> np.ndarray:
    """``(n, m)``: the builtin kernels compute whole blocks with vector instructions and what is left one by one, rounded otherwise.

    This is the kernel's answer to one image at a time: in a batch the rest is that of the whole batch.
    """
    whole = x.shape[1] // block * block
    return np.concatenate([vector(x[:, :whole]), scalar(x[:, whole:])], axis=1)
