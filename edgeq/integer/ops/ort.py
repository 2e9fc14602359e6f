"""ONNX Runtime's integer kernels where they are not TFLite's: real numbers in float32, rounded once, halves to even.

On x86-64 with AVX2, version 1.31. Layers need nothing here: their formula is ``float_product``. Sources: ``mlas/lib/intrinsics/avx2/
qladd_avx2.cpp``, ``qlmul.cpp``, ``qlgavgpool.cpp``, ``contrib_ops/cpu/quantization/qlinear_*.cc``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import Call, Step, clamp_range, limits, pool, quantisation, reduce, to_codes


def _fma(a: Any, b: np.float32, c: Any) -> np.ndarray:
    """``a * b + c``, rounded once to float32: a product of a code and a float32 is exact in float64, and so is all but any such sum."""
    return (np.asarray(a, np.float64) * np.float64(b) + np.asarray(c, np.float64)).astype(np.float32)


def _reals(codes: np.ndarray, tensor: Tensor) -> np.ndarray:
    scale, zero = quantisation(tensor)
    return scale * (codes.astype(np.int32) - zero).astype(np.float32)


def _codes(reals: np.ndarray, call: Call) -> np.ndarray:
    """``rint(real / scale) + zero``."""
    scale, zero = quantisation(call.output)
    steps = np.nan_to_num(np.rint(reals / scale))
    return to_codes(np.clip(steps, -(2.0**15), 2.0**15), zero, *limits(call.output.dtype), call.output.dtype)


def add(call: Call) -> Step:
    """QLinearAdd: ``rint(a s_a + (b s_b + fixed))`` with fused products, all scales in steps of the output."""
    (sa, za), (sb, zb), (so, zo) = (quantisation(t) for t in (*call.inputs[:2], call.output) if t is not None)
    left, right, (lo, hi) = sa / so, sb / so, clamp_range(call)
    fixed = np.float32(zo) - _fma(za, left, right * np.float32(zb))
    return lambda a, b: to_codes(np.rint(_fma(a, left, _fma(b, right, fixed))), 0, lo, hi, call.output.dtype)


def mul(call: Call) -> Step:
    """QLinearMul: the zero point is added before the one rounding, in float32."""
    (sa, za), (sb, zb), (so, zo) = (quantisation(t) for t in (*call.inputs[:2], call.output) if t is not None)
    (lo, hi), factor = clamp_range(call), sa * sb / so

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        product = ((a.astype(np.int32) - za) * (b.astype(np.int32) - zb)).astype(np.float32)
        return to_codes(np.rint(product * factor + np.float32(zo)), 0, lo, hi, call.output.dtype)

    return run


def _global(call: Call, count: int) -> Callable[[np.ndarray], np.ndarray]:
    """QLinearGlobalAveragePool, from the sum of the codes."""
    (scale, zero), (out_scale, out_zero) = quantisation(call.given), quantisation(call.output)
    factor = scale / (out_scale * np.float32(count))
    lo, hi = limits(call.output.dtype)
    return lambda total: to_codes(np.rint((total - zero * count).astype(np.float32) * factor), out_zero, lo, hi, call.output.dtype)


def mean(call: Call) -> Step:
    """As QLinearGlobalAveragePool."""
    if not call.output.quantised:
        return reduce.mean(call)
    axes = tuple(call.op.options["axes"])
    finish = _global(call, math.prod(call.given.shape[a - 1] for a in axes))
    return lambda x, *_: finish(x.sum(axes, dtype=np.int64)).reshape(len(x), *call.output.shape)


def average_pool(call: Call) -> Step:
    """QLinearAveragePool: the mean of the reals inside the image, added up in float32 one after the other."""
    o = call.op.options
    if "centre" in o:
        return pool.average_pool(call)
    if o["window"] == call.given.shape[:2] and call.output.shape[:2] == (1, 1):
        finish = _global(call, o["window"][0] * o["window"][1])
        return lambda x, *_: finish(x.sum((1, 2), keepdims=True, dtype=np.int64))
    taps, (lo, hi) = pool.taps(call, 0), limits(call.output.dtype)
    count = sum(t.astype(np.float32) for t in taps(np.ones((1, *call.given.shape[:2], 1), np.float32)))
    scale, zero = quantisation(call.output)

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        total = np.zeros((len(x), *call.output.shape), np.float32)
        for tap in taps(_reals(x, call.given)):
            total += tap
        return to_codes(np.rint(total / count / scale + np.float32(zero)), 0, lo, hi, call.output.dtype)

    return run


def quantize(call: Call) -> Step:
    """QuantizeLinear, behind a DequantizeLinear where codes come in."""
    if call.given.dtype == "float32":
        return lambda x, *_: _codes(x, call)
    return lambda x, *_: _codes(_reals(x, call.given), call)


def _table(function: Callable[[np.ndarray, Call], np.ndarray]) -> Callable[[Call], Step]:
    """A function of one code, looked up."""

    def kernel(call: Call) -> Step:
        lo, hi = limits(call.given.dtype)
        table = _codes(function(_reals(np.arange(lo, hi + 1), call.given), call), call)
        return lambda x, *_: table[x.astype(np.int32) - lo]

    return kernel


def _logistic(reals: np.ndarray, call: Call) -> np.ndarray:
    return (1 / (1 + np.exp(-reals.astype(np.float64)))).astype(np.float32)


def _leaky_relu(reals: np.ndarray, call: Call) -> np.ndarray:
    return np.where(reals >= 0, reals, np.float32(call.op.options["alpha"]) * reals)


def softmax(call: Call) -> Step:
    """QLinearSoftmax, along the last axis: a float32 table of exponentials, moved up as far as their sum stays finite."""
    (scale, _), (out_scale, zero) = quantisation(call.given), quantisation(call.output)
    (lo, hi), size = limits(call.output.dtype), call.output.shape[-1]
    up = max(0.0, float(np.log(np.finfo(np.float32).max / np.float32(size))) - 5) / float(scale)
    table = np.exp((up - np.arange(256)) * float(scale)).astype(np.float32)
    steps = np.floor(np.float32(1) / out_scale)

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        codes = x.astype(np.int16)
        exps = table[codes.max(-1, keepdims=True) - codes]
        total = np.cumsum(exps, axis=-1, dtype=np.float32)[..., -1:]
        return to_codes(np.rint(exps * steps / total), zero, lo, hi, call.output.dtype)

    return run


def concatenation(call: Call) -> Step:
    """QLinearConcat: inputs of another scale than the output's are dequantised and quantised again."""

    def rescaled(x: np.ndarray, tensor: Tensor) -> np.ndarray:
        same = not call.output.quantised or quantisation(tensor) == quantisation(call.output)
        return x if same else _codes(_reals(x, tensor), call)

    given = [t for t in call.inputs if t is not None]
    return lambda *parts: np.concatenate([rescaled(x, t) for x, t in zip(parts, given, strict=True)], call.op.options["axis"] + 1)


KERNELS: dict[str, Callable[[Call], Step]] = {
    "add": add,
    "mul": mul,
    "mean": mean,
    "average_pool": average_pool,
    "quantize": quantize,
    "softmax": softmax,
    "concatenation": concatenation,
    "logistic": _table(_logistic),
    "leaky_relu": _table(_leaky_relu),
}
"""Kinds whose kernel is ONNX Runtime's own."""
