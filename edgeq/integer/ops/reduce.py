"""MEAN. The builtin kernels have a way of their own for the mean over an image that keeps its axes."""

from __future__ import annotations

import math

import numpy as np

from edgeq.integer.ops import Call, Step, limits, quantisation, to_codes
from edgeq.integer.rounding import double_rounding, half_up, quantised_multiplier


def mean(call: Call) -> Step:
    axes = tuple(call.op.options["axes"])
    count = math.prod(call.given.shape[a - 1] for a in axes)
    if call.output.dtype == "float32":
        return lambda x, *_: x.mean(axes, dtype=np.float32).reshape(len(x), *call.output.shape)
    finish = _finish(call, axes, count)
    return lambda x, *_: finish(x.sum(axes, dtype=np.int64)).reshape(len(x), *call.output.shape)


def _finish(call: Call, axes: tuple[int, ...], count: int) -> Step:
    """From the sum of codes to the output code."""
    spatial = call.op.options["keep"] and len(call.given.shape) == 3 and axes == (1, 2)
    if call.xnnpack:
        return _xnnpack(call, count)
    if spatial and call.runtime == "litert-builtin":
        return _one_bias(call, count)
    return _fixed_point(call, count)


def _xnnpack(call: Call, count: int) -> Step:
    """``rint(float32(sum of centred codes) * (in / out / count) + zero)``: ties go to the even code."""
    (scale, zero), (out_scale, out_zero) = quantisation(call.given), quantisation(call.output)
    factor = scale / out_scale / np.float32(count)
    lo, hi = limits(call.output.dtype)
    at = np.float32(out_zero)
    return lambda total: to_codes(np.rint((total - zero * count).astype(np.float32) * factor + at), 0, lo, hi, call.output.dtype)


def _one_bias(call: Call, count: int) -> Step:
    """``optimized_integer_ops::Mean``: the zero point becomes a rounded bias. int8 channels go sixteen at a time, halves up."""
    (scale, zero), (out_scale, out_zero) = quantisation(call.given), quantisation(call.output)
    ratio = np.float32(zero) * scale / out_scale
    bias = out_zero - int(ratio + np.float32(0.5 if ratio > 0 else -0.5))
    q, shift = quantised_multiplier(np.float64(scale / (np.float32(count) * out_scale)))
    lo, hi = limits(call.output.dtype)
    whole = call.output.shape[-1] // 16 * 16 if call.output.dtype == "int8" else 0

    def finish(total: np.ndarray) -> np.ndarray:
        steps = np.concatenate([half_up(total[..., :whole], q, shift), double_rounding(total[..., whole:], q, shift)], axis=-1)
        return to_codes(steps, bias, lo, hi, call.output.dtype)

    return finish


def _fixed_point(call: Call, count: int) -> Step:
    """``reference_integer_ops::Mean``: the multiplier is divided by the count in integers."""
    (scale, zero), (out_scale, out_zero) = quantisation(call.given), quantisation(call.output)
    q, shift = (int(v) for v in quantised_multiplier(np.float64(scale) / np.float64(out_scale)))
    room = min(count.bit_length() - 1, 32, 31 + shift)
    q, shift = (q << room) // count, shift - room
    lo, hi = limits(call.output.dtype)
    return lambda total: to_codes(double_rounding(total - zero * count, q, np.int64(shift)), out_zero, lo, hi, call.output.dtype)
