"""Every objective in the package goes through its contract: one file in edgeq/objectives is enough to be tested here."""

import numpy as np
import pytest

from edgeq.core import plugins

NAMES = plugins.names(plugins.OBJECTIVES)
N, K = 40, 5


def setting():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, K, N)
    return draw.normal(0, 3, (N, K)), labels, (labels + draw.integers(1, K, N)) % K


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("targeted", [False, True])
def test_the_slope_is_the_derivative_of_the_loss(name, targeted):
    objective = plugins.load(plugins.OBJECTIVES, name)()
    logits, labels, wanted = setting()
    wanted = wanted if targeted else None
    _, slope = objective(logits, labels, wanted)
    step = 1e-6
    for k in range(K):
        nudge = step * np.eye(K)[k]
        up, down = (objective(logits + sign * nudge, labels, wanted)[0] for sign in (1, -1))
        np.testing.assert_allclose(slope[:, k], (up - down) / (2 * step), atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_larger_is_worse_for_the_defender(name):
    objective = plugins.load(plugins.OBJECTIVES, name)()
    logits, labels, wanted = setting()
    rows = np.arange(N)
    _, slope = objective(logits, labels)
    assert (slope[rows, labels] < 0).all()
    _, slope = objective(logits, labels, wanted)
    assert (slope[rows, wanted] > 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_stand_alone_in_the_dtype_of_the_logits_which_are_left_alone(name, dtype):
    objective = plugins.load(plugins.OBJECTIVES, name)()
    logits, labels, wanted = setting()
    logits = np.ascontiguousarray(logits, dtype)
    for goal in (None, wanted):
        before = logits.copy()
        loss, slope = objective(logits, labels, goal)
        np.testing.assert_array_equal(logits, before)
        assert (loss.shape, slope.shape, loss.dtype, slope.dtype) == ((N,), (N, K), dtype, dtype)
        for row in (0, 17, N - 1):
            part = slice(row, row + 1)
            alone = objective(logits[part], labels[part], None if goal is None else goal[part])
            np.testing.assert_array_equal(alone[0], loss[part])
            np.testing.assert_array_equal(alone[1], slope[part])


@pytest.mark.parametrize("name", NAMES)
def test_large_and_equal_logits_give_numbers(name):
    objective = plugins.load(plugins.OBJECTIVES, name)()
    logits = np.array([[1e4, -1e4, 0], [7, 7, 7], [-1e4, 1e4, 1e4]], np.float32)
    for wanted in (None, np.array([1, 2, 1])):
        loss, slope = objective(logits, np.zeros(3, int), wanted)
        assert np.isfinite(loss).all()
        assert np.isfinite(slope).all()
        np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-6)  # a shift of all logits changes nothing


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_a_value(name):
    cls = plugins.load(plugins.OBJECTIVES, name)
    assert cls() == cls()
    assert hash(cls()) == hash(cls())
