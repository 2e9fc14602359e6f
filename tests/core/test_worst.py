"""Of several candidates the worst for the defender."""

import numpy as np
import toys

from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import Goal
from edgeq.core.protocols import Crafted
from edgeq.core.worst import worst


def crafted(images, loss):
    loss = np.asarray(loss, np.float32)
    return Crafted(images, images.astype(np.float32) / 255, loss, Diagnostics(trace=loss[:, None]))


def test_what_fools_comes_first_and_then_the_higher_loss():
    target = toys.LinearTarget()
    _, images = toys.rows_and_images(40)
    label = target.answer(images).label()
    a, b = images[:20], images[20:]
    truth = np.where(np.arange(20) % 2, label[:20], label[20:])  # one of the two fools, unless both have one label
    loss = np.where(np.arange(20) < 10, 1.0, np.nan).astype(np.float32)
    kept = worst([crafted(a, np.zeros(20)), crafted(b, loss)], target, truth)
    fooled = [target.answer(x).fooled(truth) for x in (a, b, kept.candidates)]
    np.testing.assert_array_equal(fooled[2], fooled[0] | fooled[1])
    same = fooled[0] == fooled[1]
    assert same.any()
    np.testing.assert_array_equal(kept.candidates[same & (loss == 1)], b[same & (loss == 1)])
    first = same & np.isnan(loss)  # FGSM knows no loss: the first one stays
    np.testing.assert_array_equal(kept.candidates[first], a[first])
    assert (kept.loss[same & (loss == 1)] == 1).all()
    np.testing.assert_array_equal(kept.iterates, kept.candidates.astype(np.float32) / 255)
    np.testing.assert_array_equal(kept.diagnostics.trace[:, 0], kept.loss)


def test_a_wanted_class_comes_before_any_wrong_one():
    target, goal = toys.LinearTarget(), Goal("class", 3)
    _, images = toys.rows_and_images(200)
    label = target.answer(images).label()
    wanted, other = images[label == 3][:5], images[label == 2][:5]
    truth = np.full(5, 1)
    truth[0] = 3  # not attackable: neither reaches it, so the loss decides
    kept = worst([crafted(other, np.ones(5)), crafted(wanted, np.zeros(5))], target, truth, goal)
    np.testing.assert_array_equal(kept.candidates[1:], wanted[1:])
    np.testing.assert_array_equal(kept.candidates[0], other[0])


def test_a_single_one_is_taken_unasked():
    _, images = toys.rows_and_images(3)
    made = crafted(images, np.arange(3))
    assert worst([made], None, np.zeros(3, np.int64)) is made
