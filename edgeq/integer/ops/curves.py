"""SOFTMAX, and functions of one code: LOGISTIC, TANH, HARD_SWISH, LEAKY_RELU, RELU, RELU6, RELU_N1_TO_1, as tables of 256 codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edgeq.integer import fixed_point
from edgeq.integer.ops import Call, Step, clamp_range, limits, quantisation, to_codes
from edgeq.integer.rounding import divide_by_power_of_two, double_rounding, high_mul, quantised_multiplier


def softmax(call: Call) -> Step:
    """Along the last axis. TFLM and reference: gemmlowp's fixed point; builtin: a float table, for XNNPACK too, which has no int8 one."""
    return _fixed_softmax(call) if call.runtime in ("tflm", "litert-reference") else _float_softmax(call)


def _float_softmax(call: Call) -> Step:
    beta = np.float32(call.op.options.get("beta", 1.0))
    (scale, _), (out_scale, zero) = quantisation(call.given), quantisation(call.output)
    lo, hi = limits(call.output.dtype)
    table = np.exp((-scale * beta * np.arange(256, dtype=np.float32)).astype(np.float64)).astype(np.float32)

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        codes = x.astype(np.int16)
        exps = table[codes.max(-1, keepdims=True) - codes]
        total = np.cumsum(exps, axis=-1, dtype=np.float32)[..., -1:]  # one after the other, as the kernel adds
        return to_codes(np.floor(exps * (np.float32(1) / (total * out_scale)) + np.float32(0.5)), zero, lo, hi, call.output.dtype)

    return run


def _fixed_softmax(call: Call) -> Step:
    scale, _ = quantisation(call.given)
    lo, hi = limits(call.output.dtype)
    real = min(float(call.op.options.get("beta", 1.0)) * float(scale) * 2.0**26, 2.0**31 - 1)
    q, left = quantised_multiplier(real)
    diff = np.arange(256, dtype=np.int64)
    table = fixed_point.exp_on_negative_values(high_mul(-diff << max(int(left), 0), q), 5)
    table[diff > fixed_point.input_radius(5, int(left))] = 0

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        codes = x.astype(np.int16)
        exps = table[codes.max(-1, keepdims=True) - codes]
        total = divide_by_power_of_two(exps, 12).sum(-1, keepdims=True)
        shifted, over = fixed_point.reciprocal_of_sum(total, 12)
        return to_codes(divide_by_power_of_two(high_mul(exps, shifted), over + 23), lo, lo, hi, call.output.dtype)

    return run


def _table(call: Call, of_codes: Callable[[np.ndarray], np.ndarray]) -> Step:
    """A step that looks up ``of_codes`` of all input codes."""
    lo, hi = limits(call.given.dtype)
    table = of_codes(np.arange(lo, hi + 1, dtype=np.int64))
    return lambda x, *_: table[x.astype(np.int32) - lo]


def _real_table(call: Call, function: Callable[[np.ndarray], np.ndarray]) -> Step:
    """The function of the dequantised code, in float32, quantised: halves away from zero in TFLite, to even in XNNPACK."""
    (scale, zero), (out_scale, out_zero) = quantisation(call.given), quantisation(call.output)
    lo, hi = limits(call.output.dtype)

    def of_codes(q: np.ndarray) -> np.ndarray:
        value = function((scale * (q - zero).astype(np.float32)).astype(np.float64)).astype(np.float32)
        steps = value * (np.float32(1) / out_scale)
        rounded = np.rint(steps) if call.xnnpack else np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps)
        return to_codes(rounded, out_zero, lo, hi, call.output.dtype)

    return _table(call, of_codes)


def _fixed_table(call: Call, function: Callable[[np.ndarray, int], np.ndarray], bits: int, zero: int) -> Step:
    """A gemmlowp function of the code in Q4, its Q0 result rounded to ``bits`` fractional bits; beyond the radius the extreme codes."""
    scale, given_zero = quantisation(call.given)
    lo, hi = limits(call.output.dtype)
    q, left = quantised_multiplier(float(scale) * 2.0**27)
    radius = fixed_point.input_radius(4, int(np.frexp(float(scale) * 2.0**27)[1]))  # not cut at 31 bits

    def of_codes(codes: np.ndarray) -> np.ndarray:
        centred = codes - given_zero
        inside = np.clip(centred, -radius, radius)
        result = divide_by_power_of_two(function(double_rounding(inside, q, left), 4), 31 - bits) + zero
        result = np.where(centred <= -radius, lo, np.where(centred >= radius, hi, result))
        return np.clip(result, lo, hi).astype(call.output.dtype)

    return _table(call, of_codes)


def logistic(call: Call) -> Step:
    if call.runtime == "tflm":
        return _fixed_table(call, fixed_point.logistic, 8, limits(call.output.dtype)[0])
    return _real_table(call, lambda v: np.float32(1) / (np.float32(1) + np.exp(-v).astype(np.float32)))


def tanh(call: Call) -> Step:
    if call.runtime == "tflm":
        return _fixed_table(call, fixed_point.tanh, 7, 0)
    return _real_table(call, np.tanh)


def relu(call: Call) -> Step:
    """RELU, RELU6 or RELU_N1_TO_1 standing alone: rescaled where the scales differ, then clamped. TFLM's RELU6 clamps the input's codes."""
    (_, zero), (_, out_zero) = quantisation(call.given), quantisation(call.output)
    if call.runtime == "tflm" and call.op.kind == "relu6":
        lo, hi = clamp_range(replace(call, output=call.given), "relu6")
        return lambda x, *_: np.clip(x, lo, hi).astype(x.dtype)
    lo, hi = clamp_range(call, call.op.kind)
    scale, out_scale = scales(call)
    q = quantised_multiplier(np.float64(scale / out_scale))
    return _table(call, lambda c: to_codes(double_rounding(c - zero, *q), out_zero, lo, hi, call.output.dtype))


def scales(call: Call) -> tuple[np.floating, np.floating]:
    """The input's and the output's, in the type that the multipliers of RELU, LEAKY_RELU and HARD_SWISH are computed in."""
    real = np.float64 if call.runtime == "tflm" else np.float32
    return real(quantisation(call.given)[0]), real(quantisation(call.output)[0])


def leaky_relu(call: Call) -> Step:
    (_, zero), (_, out_zero) = quantisation(call.given), quantisation(call.output)
    alpha = np.float32(call.op.options["alpha"])
    lo, hi = limits(call.output.dtype)
    scale, out_scale = scales(call)
    above, below = scale / out_scale, scale * alpha / out_scale

    def of_codes(codes: np.ndarray) -> np.ndarray:
        centred = codes - zero
        if call.xnnpack:  # 8 fractional bits, halves up
            multiplier = np.where(centred >= 0, int(np.rint(256 * above)), int(np.rint(256 * alpha * above)))
            return to_codes((centred * multiplier + 128) >> 8, out_zero, lo, hi, call.output.dtype)
        q, s = quantised_multiplier(np.abs(np.where(centred >= 0, np.float64(above), np.float64(below))))
        q = np.where((centred < 0) & (alpha < 0), -q, q)
        return to_codes(double_rounding(centred, q, s), out_zero, lo, hi, call.output.dtype)

    return _table(call, of_codes)


def hard_swish(call: Call) -> Step:
    """``x * relu6(x + 3) / 6`` in TFLite's 16-bit fixed point; XNNPACK leaves it to the builtin kernel."""
    (_, zero), (_, out_zero) = quantisation(call.given), quantisation(call.output)
    lo, hi = limits(call.output.dtype)
    scale, out_scale = scales(call)
    fine = scale / scale.dtype.type(128)
    out_q, out_shift = _multiplier16(np.float64(fine / out_scale))
    relu_q, relu_shift = _multiplier16(np.float64(fine / scale.dtype.type(3 / 32768)))

    def of_codes(codes: np.ndarray) -> np.ndarray:
        fine_codes = (codes - zero) << 7
        out = _high_mul16(fine_codes, out_q)
        part = fine_codes
        if relu_shift > 0:
            part = _saturate16(part << (relu_shift - 1))
        part = _high_mul16(part, relu_q)
        if relu_shift > 0:
            part = _saturate16(part << 1)
        if relu_shift < 0:
            part = divide_by_power_of_two(part, -relu_shift)
        part = (part + 2**15) >> 1
        product = (part * out) >> 15  # SaturatingDoublingHighMul, which truncates
        product = np.where((part * out < 0) & ((part * out) & (2**15 - 1) != 0), product + 1, product)
        return to_codes(divide_by_power_of_two(product, -out_shift), out_zero, lo, hi, call.output.dtype)

    return _table(call, of_codes)


def _multiplier16(real: np.float64) -> tuple[int, int]:
    """A quantised multiplier with 15 bits, and its shift."""
    q, shift = (int(v) for v in quantised_multiplier(real))
    return (2**15 - 1 if q >= 2**31 - 1 - 2**15 else (q + 2**15) >> 16), shift


def _high_mul16(a: np.ndarray, b: int) -> np.ndarray:
    return _saturate16((a * b + 2**14) >> 15)


def _saturate16(a: np.ndarray) -> np.ndarray:
    return np.clip(a, -(2**15), 2**15 - 1)
