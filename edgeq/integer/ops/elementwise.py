"""ADD, SUB and MUL of two quantised tensors."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops import Call, Step, clamp_range, quantisation, to_codes
from edgeq.integer.rounding import double_rounding, float_product, quantised_multiplier


def _operands(call: Call) -> tuple[tuple[np.float32, int], tuple[np.float32, int], tuple[np.float32, int]]:
    a, b = call.inputs[:2]
    assert a is not None
    assert b is not None
    return quantisation(a), quantisation(b), quantisation(call.output)


def add(call: Call) -> Step:
    """TFLite ``AddElementwise``: both inputs on a common 20-bit grid, three double roundings; XNNPACK ``vadd``: one 21-bit multiplier
    each, one rounding with halves up."""
    return _xnnpack_add(call, 1) if call.xnnpack else _fixed_point_add(call, 1)


def sub(call: Call) -> Step:
    """As :func:`add`, with the second term negated."""
    return _xnnpack_add(call, -1) if call.xnnpack else _fixed_point_add(call, -1)


def _xnnpack_add(call: Call, sign: int) -> Step:
    (sa, za), (sb, zb), (so, zo) = _operands(call)
    lo, hi = clamp_range(call)
    ra, rb = sa / so, sb / so
    shift = 20 - (int(np.frexp(max(ra, rb))[1]) - 1)
    ma, mb = (int(np.rint(np.ldexp(np.float64(r), shift))) for r in (ra, rb))
    bias = (1 << (shift - 1)) - ma * za - sign * mb * zb

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        acc = a.astype(np.int64) * ma + b.astype(np.int64) * (sign * mb) + bias
        return to_codes(acc >> shift, zo, lo, hi, call.output.dtype)

    return run


def _fixed_point_add(call: Call, sign: int) -> Step:
    (sa, za), (sb, zb), (so, zo) = _operands(call)
    lo, hi = clamp_range(call)
    twice = np.float64(np.float32(2) * max(sa, sb))
    qa, qb = quantised_multiplier(np.float64(sa) / twice), quantised_multiplier(np.float64(sb) / twice)
    qo = quantised_multiplier(twice / np.float64(np.float32(2**20) * so))

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left = double_rounding((a.astype(np.int64) - za) << 20, *qa)
        right = double_rounding((b.astype(np.int64) - zb) << 20, *qb)
        return to_codes(double_rounding(left + sign * right, *qo), zo, lo, hi, call.output.dtype)

    return run


def mul(call: Call) -> Step:
    (sa, za), (sb, zb), (so, zo) = _operands(call)
    lo, hi = clamp_range(call)
    q, m = quantised_multiplier(np.float64(np.float32(sa * sb / so))), sa * sb / so

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        acc = (a.astype(np.int64) - za) * (b.astype(np.int64) - zb)
        return to_codes(float_product(acc, m) if call.xnnpack else double_rounding(acc, *q), zo, lo, hi, call.output.dtype)

    return run
