"""Exponential, logistic and hyperbolic tangent in gemmlowp's fixed point (``fixedpoint.h``), on int64 arrays that hold int32 values.

``Qm`` has m integer bits: the value is ``raw / 2^(31 - m)``.
"""

from __future__ import annotations

import numpy as np

from edgeq.integer.rounding import Int, divide_by_power_of_two, high_mul

ONE = 2**31 - 1  # of Q0
_MULTIPLIERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)  # exp(-2^k) in Q0, k = -2 ... 4


def saturating_shift(x: Int, bits: int) -> Int:
    """``x * 2^bits`` within int32; ``Rescale`` to fewer integer bits."""
    return np.clip(x << bits, -(2**31), ONE)


def exp_on_negative_values(a: Int, integer_bits: int) -> Int:
    """``exp(a)`` in Q0 for ``a <= 0`` in Q(integer_bits): a Taylor step on (-1/4, 0), then products of stored powers."""
    fraction = 31 - integer_bits
    quarter = 1 << (fraction - 2)
    reduced = (a & (quarter - 1)) - quarter
    x = saturating_shift(reduced, integer_bits) + 2**28  # around -1/8
    x2 = high_mul(x, x)
    x3, x4 = high_mul(x2, x), high_mul(x2, x2)
    terms = divide_by_power_of_two(high_mul(divide_by_power_of_two(x4, 2) + x3, 715827883) + x2, 1)
    result = 1895147668 + high_mul(x + terms, 1895147668)
    remainder = reduced - a
    for k, multiplier in zip(range(-2, integer_bits), _MULTIPLIERS, strict=False):
        result = np.where(remainder & (1 << (fraction + k)), high_mul(result, multiplier), result)
    return np.where(a == 0, ONE, result)


def _reciprocal(a: Int) -> Int:
    """``2 / (1 + a)`` in Q2 for ``a`` in [0, 1] of Q0, by three Newton steps."""
    total = a + ONE
    half = (total + np.where(total >= 0, 1, -1)) // 2  # positive here
    x = 1515870810 + high_mul(half, -1010580540)
    for _ in range(3):
        x = x + saturating_shift(high_mul(x, 2**29 - high_mul(half, x)), 2)
    return x


def one_over_one_plus(a: Int) -> Int:
    """``1 / (1 + a)`` in Q0."""
    return saturating_shift(_reciprocal(a), 1)


def logistic(a: Int, integer_bits: int) -> Int:
    """``1 / (1 + exp(-a))`` in Q0."""
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(a), integer_bits))
    return np.where(a == 0, 2**30, np.where(a > 0, positive, ONE - positive))


def tanh(a: Int, integer_bits: int) -> Int:
    """``tanh(a)`` in Q0; ``exp(2a)`` is had by reading the number with one integer bit more."""
    t = saturating_shift(_reciprocal(exp_on_negative_values(-np.abs(a), integer_bits + 1)) - 2**29, 2)
    return np.sign(a) * t


def input_radius(integer_bits: int, left_shift: int) -> int:
    """How large a rescaled input may be; TFLite ``CalculateInputRadius``."""
    return int(np.floor((2.0**integer_bits - 1) * 2.0 ** (31 - integer_bits) / 2.0**left_shift))


def reciprocal_of_sum(total: Int, integer_bits: int) -> tuple[Int, Int]:
    """``1 / total`` for a positive Q(integer_bits): the Q0 of its mantissa and how many bits it lies over one; TFLite ``GetReciprocal``."""
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)  # leading zeros of 32 bits
    return one_over_one_plus((total << headroom) - 2**31), integer_bits - headroom
