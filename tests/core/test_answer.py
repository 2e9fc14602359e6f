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


def test_one_score_is_that_of_class_1_and_its_rest_that_of_class_0():
    """Of int8 probabilities, -128 to 127 for 0 to 255/256, the middle is 0: there the two are equal, and the first of equals is class 0."""
    answer = Answer("probs", np.array([[-128], [-1], [0], [1], [127]], np.int8), 1 / 256, -128)
    assert answer.classes == 2
    np.testing.assert_array_equal(
        answer.values(), [[1, 0], [129 / 256, 127 / 256], [0.5, 0.5], [127 / 256, 129 / 256], [1 / 256, 255 / 256]]
    )
    np.testing.assert_array_equal(answer.label(), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(answer.tied(), [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(answer.margin(np.array([0, 0, 1, 1, 0])), [-256, -2, 0, -2, 254])
    np.testing.assert_array_equal(answer.fooled(np.array([1, 1, 1, 0, 1])), [True, True, False, True, False])
    np.testing.assert_array_equal(answer.lead(np.array([1, 1, 1, 1, 1])), [-256, -2, 0, 2, 254])
    assert answer.lsb == 1 / 256
    np.testing.assert_allclose(answer.logits()[0], np.log([1, 1 / 512]), rtol=1e-6)
    np.testing.assert_array_equal(answer.raw, answer[:].raw, strict=True)
    assert answer.raw.shape == (5, 1)


def test_a_single_logit_and_float_or_odd_steps():
    logit = Answer("logits", np.array([[3], [4], [5]], np.int8), 0.25, 4)
    np.testing.assert_array_equal(logit.values(), [[0, -0.25], [0, 0], [0, 0.25]])
    np.testing.assert_array_equal(logit.label(), [0, 0, 1])
    np.testing.assert_array_equal(logit.tied(), [0, 1, 0])
    half = np.float32(0.5)
    floats = Answer(
        "probs", np.array([[np.nextafter(half, np.float32(0))], [half], [np.nextafter(half, np.float32(1))], [1e-30]], np.float32)
    )
    np.testing.assert_array_equal(floats.label(), [0, 0, 1, 0])
    np.testing.assert_array_equal(floats.tied(), [0, 1, 0, 0])
    np.testing.assert_array_equal(np.sign(floats.margin(np.zeros(4, int))), [-1, 0, 1, -1])
    odd = Answer("probs", np.array([[127], [128]], np.uint8), 1 / 255, 0)  # no code is in the middle
    np.testing.assert_array_equal(odd.label(), [0, 1])
    assert not odd.tied().any()
