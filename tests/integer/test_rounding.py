import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.integer import rounding

INT32 = st.integers(-(2**31), 2**31 - 1)


def _half_up(top: int, bottom: int) -> int:
    return (2 * top + bottom) // (2 * bottom)


def _half_away(top: int, bottom: int) -> int:
    return _half_up(top, bottom) if top >= 0 else -_half_up(-top, bottom)


@settings(max_examples=200, deadline=None)
@given(st.floats(2.0**-31, 2.0**10))
def test_multiplier_is_within_half_a_step(real: float) -> None:
    q, shift = (int(v) for v in rounding.quantised_multiplier(real))
    assert 2**30 <= q < 2**31
    assert abs(q * 2.0 ** (shift - 31) / real - 1) <= 2.0**-31


def test_multiplier_of_powers_of_two_is_exact() -> None:
    q, shift = rounding.quantised_multiplier(2.0 ** np.arange(-31, 5))
    assert set(q.tolist()) == {2**30}
    assert shift.tolist() == list(range(-30, 6))
    assert rounding.quantised_multiplier(np.nextafter(1.0, 0))[0] == 2**30  # a fraction that rounds up to 1


def test_multiplier_that_is_too_small_vanishes() -> None:
    assert rounding.quantised_multiplier(2.0**-34)[0] == 0


@settings(max_examples=300, deadline=None)
@given(INT32, st.integers(2**30, 2**31 - 1), st.integers(-20, 0))
def test_formulas_in_rational_arithmetic(acc: int, q: int, shift: int) -> None:
    a = np.array([acc], np.int64)
    high = _half_up(acc * q, 2**31)
    assert rounding.high_mul(a, q)[0] == high
    assert rounding.double_rounding(a, q, shift)[0] == _half_away(high, 2**-shift)
    assert rounding.half_up(a, q, shift)[0] == _half_up(high, 2**-shift)


@settings(max_examples=300, deadline=None)
@given(INT32, st.floats(2.0**-31, 0.99))
def test_one_product_in_float64_rounded_half_away(acc: int, multiplier: float) -> None:
    """The product itself is rounded to float64 first, as the kernel's is."""
    assert rounding.real_product(np.array([acc]), multiplier)[0] == _half_away(*(acc * multiplier).as_integer_ratio())


def test_formulas_part_at_ties() -> None:
    """-2.5 and 2.5 steps: to even, away from zero, towards plus infinity."""
    acc, q, shift = np.array([-10, 10]), *rounding.quantised_multiplier(0.25)
    assert rounding.float_product(acc, 0.25).tolist() == [-2, 2]
    assert rounding.double_rounding(acc, q, shift).tolist() == [-3, 3]
    assert rounding.half_up(acc, q, shift).tolist() == [-2, 3]
    assert rounding.real_product(acc, 0.25).tolist() == [-3, 3]


def test_two_roundings_are_not_one() -> None:
    """Just below 1.5 steps: the first rounding reaches the half, the second goes up from there."""
    acc, q, shift = np.array([3 * 2**20]), 2**31 - 1, -21
    assert rounding.real_product(acc, q * 2.0 ** (shift - 31)).tolist() == [1]
    assert rounding.half_up(acc, q, shift).tolist() == [2]
    assert rounding.double_rounding(acc, q, shift).tolist() == [2]


@pytest.mark.parametrize("runtime", rounding.RUNTIMES)
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_requantisation_is_monotone_and_near_the_real_product(runtime: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    acc = np.sort(rng.integers(-(2**20), 2**20, 4000))[:, None]
    scales = (2.0 ** rng.uniform(-12, -3, 19)).astype(np.float32)
    codes = rounding.requantiser(runtime, kind, 1.0, scales, 1.0, 19)(np.repeat(acc, 19, axis=1))
    assert codes.shape == (4000, 19)
    assert np.all(np.diff(codes, axis=0) >= 0)
    assert np.all(np.abs(codes - acc * scales.astype(np.float64)) <= 0.75)  # two roundings


def test_builtin_depthwise_rounds_left_over_channels_otherwise() -> None:
    parts = rounding.formulas("litert-builtin", "depthwise", "int8", 19)
    assert parts == [(slice(0, 16), rounding.half_up), (slice(16, 19), rounding.double_rounding)]
    assert rounding.formulas("litert-builtin", "depthwise", "uint8", 19) == [(slice(0, 19), rounding.double_rounding)]
    acc = np.full((1, 19), -10)
    assert rounding.requantiser("litert-builtin", "depthwise", 1.0, 0.25, 1.0, 19)(acc)[0].tolist() == [-2] * 16 + [-3] * 3
