"""Several targets as one, by hand-counted votes, and by the mean of two linear networks."""

import numpy as np
import toys

from edgeq.core.answer import ABSTAINS, Answer
from edgeq.targets.ensemble import Ensemble, Mean


class Says:
    batch = 4

    def __init__(self, labels):
        self.labels = np.array(labels)

    def answer(self, images):
        return Answer("label", self.labels[: len(images)])


IMAGES = np.zeros((4, 1, 1, 1), np.uint8)
MEMBERS = {"a": Says([0, 1, 2, 3]), "b": Says([0, 1, 1, 2]), "c": Says([0, 2, 3, 2])}


def test_the_class_that_enough_members_name_is_the_answer_and_else_there_is_none():
    assert Ensemble("e", MEMBERS, 1).answer(IMAGES).label().tolist() == [0, 1, 1, 2]  # of equals the lowest
    assert Ensemble("e", MEMBERS, 2).answer(IMAGES).label().tolist() == [0, 1, ABSTAINS, 2]
    assert Ensemble("e", MEMBERS, 3).answer(IMAGES).label().tolist() == [0, ABSTAINS, ABSTAINS, ABSTAINS]


def test_who_abstains_is_neither_right_nor_fooled():
    answer = Ensemble("e", MEMBERS, 3).answer(IMAGES)
    truth = np.array([0, 1, 2, 3])
    assert answer.right(truth).tolist() == [True, False, False, False]
    assert answer.fooled(truth).tolist() == [False] * 4
    assert Ensemble("e", MEMBERS, 2).answer(IMAGES).fooled(truth).tolist() == [False, False, False, True]


def test_a_mean_of_sources_is_the_source_of_the_mean():
    _, images = toys.rows_and_images(5)
    x = images.astype(np.float32) / np.float32(255)
    one, two = (toys.LinearSource(toys.LinearTarget(seed=seed)) for seed in (1, 2))
    mean = Mean("m", {"one": one, "two": two})
    logits, pullback = mean.logits(x)
    (a, back_a), (b, back_b) = one.logits(x), two.logits(x)
    np.testing.assert_allclose(logits, (a + b) / 2, rtol=1e-6)
    slope = np.random.default_rng(0).normal(size=logits.shape).astype(np.float32)
    np.testing.assert_allclose(pullback(slope), (back_a(slope) + back_b(slope)) / 2, rtol=1e-5, atol=1e-7)
    assert logits.dtype == pullback(slope).dtype == np.float32
