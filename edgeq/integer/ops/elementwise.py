"""ADD, SUB and MUL of two quantised tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeq.integer.ops import Call, Step, clamp_range, quantisation, to_codes
from edgeq.integer.rounding import double_rounding, float_product, high_mul, quantised_multiplier


def _operands(call: Call) -> tuple[tuple[np.float32, int], tuple[np.float32, int], tuple[np.float32, int]]:
    a, b = call.inputs[:2]
    assert a is not None
    assert b is not None
    return quantisation(a), quantisation(b), quantisation(call.output)


def ways(call: Call) -> list[Step]:
    """The functions of two codes that the kernel uses, one or several by an element's place; they broadcast as numpy does.

    Only LiteRT's builtin ADD has more than one (``optimized_integer_ops/add.h``): what is left over behind whole vectors is rounded
    as the reference does, which shifts after the multiplication; vectors shift before it, or cut off.
    """
    if call.op.kind == "mul":
        return [_xnnpack_square(call) if call.xnnpack and call.twice else _mul(call)]
    sign = 1 if call.op.kind == "add" else -1
    if call.xnnpack:
        return [_xnnpack_add(call, sign)]
    return _fixed_point_adds(call, sign)


def add(call: Call) -> Step:
    """TFLite ``AddElementwise``: both inputs on a common 20-bit grid, three roundings; XNNPACK ``vadd``: one 21-bit multiplier
    each, one rounding with halves up."""
    some = ways(call)
    if len(some) == 1:
        return some[0]
    place = _places(call)
    used = np.unique(place)

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        results = {int(i): some[i](a, b) for i in used}
        images = max((len(x) for x in (a, b) if x.ndim > len(call.output.shape)), default=1)  # a constant has no axis for them
        result = np.empty((images, *call.output.shape), call.output.dtype)
        for i, codes in results.items():
            np.copyto(result, codes, where=place == i)
        return result

    return run


def sub(call: Call) -> Step:
    """As :func:`add`, with the second term negated; the builtin kernel is the reference's."""
    return ways(call)[0]


def mul(call: Call) -> Step:
    """One rescaled product."""
    return ways(call)[0]


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


def _fixed_point_adds(call: Call, sign: int) -> list[Step]:
    (sa, za), (sb, zb), (so, zo) = _operands(call)
    lo, hi = clamp_range(call)
    twice = np.float64(np.float32(2) * max(sa, sb))
    qa, qb = quantised_multiplier(np.float64(sa) / twice), quantised_multiplier(np.float64(sb) / twice)
    qo = quantised_multiplier(twice / np.float64(np.float32(2**20) * so))

    def way(rescaled: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]) -> Step:
        def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            left, right = rescaled(a.astype(np.int64) - za, *qa), rescaled(b.astype(np.int64) - zb, *qb)
            return to_codes(double_rounding(left + sign * right, *qo), zo, lo, hi, call.output.dtype)

        return run

    ways = [way(lambda x, q, shift: double_rounding(x << 20, q, shift))]
    if call.kernels == "litert-builtin" and sign > 0:
        ways.append(way(lambda x, q, shift: high_mul(_shifted(x, 20 + shift), q)))
        ways.append(way(lambda x, q, shift: _shifted(high_mul(x << 20, q), shift)))
    return ways


def _shifted(x: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """To the left, or to the right, cutting off: ``vshlq_s32``."""
    return (x << np.maximum(bits, 0)) >> np.maximum(-bits, 0)


LEFT_OVER, VECTOR, BROADCAST = 0, 1, 2


def _places(call: Call) -> np.ndarray:
    """``(*output shape)``: which of :func:`ways` the builtin ADD takes for an element of one image.

    int8: sixteen at a time, eight where one code meets many; uint8: eight, and always as where one code meets many.
    """
    a, b = (t.shape if t.data is not None else (1, *t.shape) for t in call.inputs[:2] if t is not None)
    shape = (1, *call.output.shape)
    a, b = ((1,) * (len(shape) - len(s)) + tuple(s) for s in (a, b))
    length, single = _runs(a, b)
    small = call.output.dtype == "uint8" or single
    width = 8 if small else 16
    at = np.arange(int(np.prod(shape))) % length
    place = np.where(at < length // width * width, BROADCAST if small else VECTOR, LEFT_OVER)
    return (place if length else place * 0).reshape(call.output.shape)


def _runs(a: Sequence[int], b: Sequence[int]) -> tuple[int, bool]:
    """How many elements the kernel takes in a row, and whether one code meets them all (``ProcessBroadcastShapes``); 1 where it falls
    back to the reference's loop."""
    if a == b:
        return int(np.prod(a)), False
    pairs = list(zip(reversed(a), reversed(b), strict=True))
    fast = next(0 if x == 1 else 1 for x, y in pairs if x != y)  # the input whose innermost differing axis is 1
    runs: list[int] = []
    i = 0
    for equal in (True, False, True, False, True):  # axes that agree, axes along which the fast one broadcasts, ... the other one
        size, slow = 1, len(runs) == 3
        while i < len(pairs) and (pairs[i][0] == pairs[i][1] if equal else pairs[i][fast ^ slow] == 1):
            size, i = size * max(pairs[i]), i + 1
        runs.append(size)
    if i < len(pairs):
        return 1, False
    return (runs[0], False) if runs[0] > 1 else (runs[1], True)


def product_multiplier(call: Call) -> np.float64:
    """Of MUL: computed in float32 by LiteRT, in float64 by TFLite Micro (``mul_common.cc``)."""
    sa, sb, so = (scale for scale, _ in _operands(call))
    return np.float64(sa) * np.float64(sb) / np.float64(so) if call.runtime == "tflm" else np.float64(sa * sb / so)


def _mul(call: Call) -> Step:
    (sa, za), (sb, zb), (so, zo) = _operands(call)
    lo, hi = clamp_range(call)
    m, q = sa * sb / so, quantised_multiplier(product_multiplier(call))

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        acc = (a.astype(np.int64) - za) * (b.astype(np.int64) - zb)
        return to_codes(float_product(acc, m) if call.xnnpack else double_rounding(acc, *q), zo, lo, hi, call.output.dtype)

    return run


def _xnnpack_square(call: Call) -> Step:
    """A tensor times itself, which XNNPACK turns into SQUARE, a table of real squares: the zero point is added before the one rounding,
    so that halves go to even codes."""
    (scale, zero), _, (out_scale, out_zero) = _operands(call)
    lo, hi = clamp_range(call)

    def run(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        x, y = (scale * (q.astype(np.int32) - zero).astype(np.float32) for q in (a, b))
        with np.errstate(over="ignore"):
            codes = x * y * (np.float32(1) / out_scale) + np.float32(out_zero)
        return np.rint(np.clip(codes, lo, hi)).astype(call.output.dtype)

    return run
