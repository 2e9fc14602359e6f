"""Diagnostics are arrays by row that can be taken and put together."""

import numpy as np
import pytest

from edgeq.core.diagnostics import Diagnostics


def of(*values):
    return Diagnostics(trace=np.array([[v, v + 1] for v in values], np.float32), zero_differences=np.array(values))


def test_rows_are_taken_put_together_and_chosen():
    whole = Diagnostics.concatenate([of(1, 2), of(3)])
    np.testing.assert_array_equal(whole.trace, [[1, 2], [2, 3], [3, 4]])
    np.testing.assert_array_equal(whole.take(np.array([2, 0])).zero_differences, [3, 1])
    np.testing.assert_array_equal(whole.take(np.array([True, False, True])).trace, [[1, 2], [3, 4]])
    assert whole.take(slice(1)).zero is None
    chosen = Diagnostics.where(np.array([True, False]), of(1, 2), of(5, 6))
    np.testing.assert_array_equal(chosen.trace, [[1, 2], [6, 7]])
    assert Diagnostics.concatenate([]).trace is None


def test_those_of_different_attacks_do_not_mix():
    with pytest.raises(ValueError, match="different attacks"):
        Diagnostics.concatenate([of(1), Diagnostics()])
    assert Diagnostics.where(np.array([True]), of(1), Diagnostics()).trace is None
