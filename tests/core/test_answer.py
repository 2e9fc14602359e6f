import numpy as np

from edgeq.core.answer import Answer


def test_fooled_is_strict_and_on_raw_scores():
    answer = Answer("probs", np.array([[127, 127, -128], [126, 127, -128], [127, 0, 0]], np.int8), 1 / 256, -128)
    labels = np.array([1, 0, 0])
    np.testing.assert_array_equal(answer.fooled(labels), [False, True, False])
    np.testing.assert_array_equal(answer.right(labels), [False, False, True])  # the tie's lowest index is not the truth
    np.testing.assert_array_equal(answer.right(np.array([0, 1, 0])), [True, True, True])
    np.testing.assert_array_equal(answer.tied(), [True, False, False])
    np.testing.assert_array_equal(answer.label(), [0, 1, 0])
    np.testing.assert_array_equal(answer.margin(labels), [0, 1, -127])


def test_int8_extremes_do_not_wrap_around():
    answer = Answer("logits", np.array([[-128, 127]], np.int8), 0.5, 3)
    assert answer.margin(np.array([0]))[0] == 255
    np.testing.assert_allclose(answer.values(), [[-65.5, 62]])


def test_probabilities_are_floored_at_half_a_step():
    answer = Answer("probs", np.array([[-128, 127]], np.int8), 1 / 256, -128)
    np.testing.assert_allclose(answer.logits(), [[np.log(1 / 512), np.log(255 / 256)]], rtol=1e-6)


def test_a_label_is_its_own_argmax():
    answer = Answer("label", np.array([3, 1]))
    np.testing.assert_array_equal(answer.fooled(np.array([3, 2])), [False, True])
    assert not answer.tied().any()
    assert answer.lsb == 0


def test_the_lead_of_a_wanted_class_is_strict_and_its_margin_turned_round():
    answer = Answer("probs", np.array([[127, 127, -128], [126, 127, -128], [127, 0, 0]], np.int8), 1 / 256, -128)
    np.testing.assert_array_equal(answer.lead(np.array([1, 1, 2])), [0, 1, -127])
    assert answer.classes == 3
    label = Answer("label", np.array([3, 1]))
    np.testing.assert_array_equal(label.lead(np.array([3, 2])), [1, -1])
    assert label.classes is None
