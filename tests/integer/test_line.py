import numpy as np
import pytest

from edgeq.integer import line
from edgeq.integer.rounding import RUNTIMES, requantiser

WEIGHTS, BIAS = np.array([1e-3, 2.0**-9, 3 * 2.0**-9, 0.7, 1.7]), np.array([100, -(2**18), 2**18, 7, -5])


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
@pytest.mark.parametrize("runtime", [r for r in RUNTIMES if r != "litert-xnnpack"])
@pytest.mark.parametrize(("bounds", "zero"), [((-128, 127), 0), ((0, 255), -128), ((-131, 124), 3), ((0, 0), 5)])
def test_it_is_the_formula_at_every_accumulator(runtime: str, kind: str, bounds: tuple[int, int], zero: int) -> None:
    exact = requantiser(runtime, kind, 1.0, WEIGHTS, 1.0, len(WEIGHTS))
    found = line.line(exact, BIAS, bounds, zero)
    assert found
    acc = np.arange(-(2**17), 2**17, dtype=np.int64)[:, None] - BIAS
    low, high = bounds[0] + zero, bounds[1] + zero
    np.testing.assert_array_equal(np.clip(found(acc), low, high), np.clip(exact(acc + BIAS) + zero, low, high))


def test_halves_below_zero_go_the_other_way() -> None:
    twice = requantiser("tflm", "conv", 1.0, WEIGHTS, 1.0, len(WEIGHTS))
    assert line.proven(twice, line._line(twice, BIAS, one_sided=False), (-128, 127))
    assert not line.proven(twice, line._line(twice, BIAS, one_sided=True), (-128, 127))


def test_what_float64_does_not_hold_is_no_line() -> None:
    tiny = requantiser("tflm", "conv", 1.0, np.full(len(BIAS), 2.0**-28), 1.0, len(BIAS))
    assert line.line(tiny, BIAS, (-128, 127)) is None
