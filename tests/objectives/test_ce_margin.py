"""The objectives by hand."""

import numpy as np
import pytest

from edgeq.objectives import margin
from edgeq.objectives.ce import CE
from edgeq.objectives.margin import Margin

LOGITS = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]], np.float32)
LABELS = np.array([0, 0])


def test_margin():
    loss, slope = Margin()(LOGITS, LABELS)
    np.testing.assert_array_equal(loss, [-1, 1])
    np.testing.assert_array_equal(slope, [[-1, 1, 0], [-1, 1, 0]])
    np.testing.assert_array_equal(margin.loss(LOGITS, LABELS), loss)
    wanted = np.array([2, 1])
    loss, slope = Margin()(LOGITS, LABELS, wanted)
    np.testing.assert_array_equal(loss, [-2, 1])
    np.testing.assert_array_equal(slope, [[-1, 0, 1], [-1, 1, 0]])
    np.testing.assert_array_equal(margin.loss(LOGITS, LABELS, wanted), loss)


def test_the_slope_of_a_tied_margin_is_shared():
    _, slope = Margin()(np.array([[0, 3, 3, 3]], np.float32), np.array([0]))
    np.testing.assert_allclose(slope, [[-1, 1 / 3, 1 / 3, 1 / 3]])


def test_cross_entropy():
    p = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    loss, slope = CE()(LOGITS, LABELS)
    np.testing.assert_allclose(loss, -np.log(p[:, 0]), rtol=1e-6)
    np.testing.assert_allclose(slope, p - [[1, 0, 0]] * 2, rtol=1e-6)
    loss, slope = CE()(LOGITS, LABELS, np.array([2, 1]))
    np.testing.assert_allclose(loss, np.log(p[[0, 1], [2, 1]]), rtol=1e-6)
    np.testing.assert_allclose(slope, [[0, 0, 1], [0, 1, 0]] - p, rtol=1e-5)


def test_the_loss_of_a_confident_row_is_not_lost_in_float32():
    loss, _ = CE()(np.array([[40, 26, 24]], np.float32), np.array([0]))
    assert loss[0] == pytest.approx(np.exp(-14) + np.exp(-16), rel=0.1)
