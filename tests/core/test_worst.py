"""Of several candidates the worst for the defender."""

import numpy as np
import toys

from edgeq.core.protocols import Crafted
from edgeq.core.worst import worst


def crafted(images, loss):
    nothing = np.zeros(len(images), bool)
    return Crafted(images, images.astype(np.float32), np.asarray(loss, np.float32), np.zeros((1, len(images)), np.float32), nothing)


def test_what_fools_comes_first_and_then_the_higher_loss():
    target = toys.LinearTarget()
    _, images = toys.rows_and_images(40)
    label = target.answer(images).label()
    a, b = images[:20], images[20:]
    truth = np.where(np.arange(20) % 2, label[:20], label[20:])  # one of the two fools, unless both have one label
    loss = np.where(np.arange(20) < 10, 1.0, np.nan).astype(np.float32)
    candidates, kept = worst([crafted(a, np.zeros(20)), crafted(b, loss)], target, truth)
    fooled = [target.answer(x).fooled(truth) for x in (a, b, candidates)]
    np.testing.assert_array_equal(fooled[2], fooled[0] | fooled[1])
    same = fooled[0] == fooled[1]
    assert same.any()
    np.testing.assert_array_equal(candidates[same & (loss == 1)], b[same & (loss == 1)])
    np.testing.assert_array_equal(candidates[same & np.isnan(loss)], a[same & np.isnan(loss)])  # FGSM knows no loss: the first one stays
    assert (kept[same & (loss == 1)] == 1).all()


def test_a_single_one_is_taken_unasked():
    _, images = toys.rows_and_images(3)
    candidates, loss = worst([crafted(images, np.arange(3))], None, np.zeros(3, np.int64))
    np.testing.assert_array_equal(candidates, images)
    np.testing.assert_array_equal(loss, np.arange(3))
