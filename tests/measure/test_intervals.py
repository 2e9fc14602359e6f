import math

import numpy as np
import pytest

from edgeq.measure.intervals import mcnemar, wilson


def test_wilson_against_worked_values():
    # Wilson's interval for 81 of 263 is .255 to .366 (Newcombe 1998, table I); 0 of 20: 0 to z^2 / (n + z^2)
    low, high = wilson(81, 263, 1.959964)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert wilson(0, 20) == pytest.approx((0, 1.96**2 / (20 + 1.96**2)))
    assert wilson(20, 20)[1] == 1.0
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_is_symmetric_and_holds_the_estimate():
    for n in (1, 7, 500):
        for k in range(0, n + 1, max(1, n // 7)):
            low, high = wilson(k, n)
            mirrored = wilson(n - k, n)
            assert 0 <= low <= k / n <= high <= 1
            assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (5, 5), (9, 2), (0, 12), (3, 1)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    a = np.array([1] * only_a + [0] * only_b + [1] * 30 + [0] * 10, bool)
    b = np.array([0] * only_a + [1] * only_b + [1] * 30 + [0] * 10, bool)
    n, k = only_a + only_b, min(only_a, only_b)
    exact = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(exact)


def test_mcnemar_of_many_rows_neither_overflows_nor_vanishes():
    a = np.arange(10_000) < 5_100
    assert 0 < mcnemar(a, ~a) == pytest.approx(0.0466, abs=2e-3)  # 5100 against 4900: z = 1.99 with continuity correction
