"""Goals: which rows are reached, which cannot be attacked, and what is refused."""

import json

import numpy as np
import pytest

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.goal import UNTARGETED, Goal

SCORES = Answer("logits", np.array([[5, 3, 1], [5, 5, 1], [1, 5, 3], [0, 1, 9]], np.int8), 0.5, 3)
LABELS = np.array([0, 0, 1, 2])


@pytest.mark.parametrize("text", ["untargeted", "next", "class:3", "class:0"])
def test_a_goal_is_its_text(text):
    goal = Goal.parse(text)
    assert str(goal) == text
    assert Goal.parse(json.loads(json.dumps(str(goal)))) == goal
    assert hash(goal) == hash(Goal.parse(text))
    assert goal.targeted == (text != "untargeted")


@pytest.mark.parametrize(
    "text", ["", "class", "class:", "class:-1", "class:1.5", "class:x", "class:²", "next:1", "any", "class:99999999999"]
)
def test_what_is_no_goal_is_refused(text):
    with pytest.raises(EdgeqError, match="is not a goal; write untargeted, next, or class:3"):
        Goal.parse(text)


def test_any_wrong_class_is_what_fools():
    np.testing.assert_array_equal(UNTARGETED.margin(SCORES, LABELS), SCORES.margin(LABELS))
    np.testing.assert_array_equal(UNTARGETED.reached(SCORES, LABELS), SCORES.fooled(LABELS))
    assert UNTARGETED.attackable(LABELS).all()
    assert UNTARGETED.wanted(LABELS, 3) is None


def test_a_wanted_class_must_lead_strictly():
    goal = Goal("next")
    np.testing.assert_array_equal(goal.wanted(LABELS, 3), [1, 1, 2, 0])
    np.testing.assert_array_equal(goal.margin(SCORES, LABELS), [-2, 0, -2, -9])
    assert not goal.reached(SCORES, LABELS).any()  # the second row is a tie
    np.testing.assert_array_equal(goal.reached(SCORES, np.array([2, 0, 0, 1])), [True, False, True, True])
    assert goal.attackable(LABELS).all()


def test_a_row_of_the_wanted_class_itself_cannot_be_attacked_and_is_never_reached():
    goal = Goal("class", 1)
    np.testing.assert_array_equal(goal.attackable(LABELS), [True, True, False, True])
    np.testing.assert_array_equal(goal.margin(SCORES, LABELS), [-2, 0, np.nan, -8])
    assert not goal.reached(SCORES, LABELS)[2]  # although it answers class 1
    np.testing.assert_array_equal(goal.reached(Answer("label", np.array([1, 0, 1, 1])), LABELS), [True, False, False, True])


def test_classes_that_do_not_exist_or_are_not_known_are_refused():
    with pytest.raises(EdgeqError, match="class:3 wants a class that does not exist; there are 3"):
        Goal("class", 3).reached(SCORES, LABELS)
    with pytest.raises(EdgeqError, match="next needs the number of classes"):
        Goal("next").reached(Answer("label", LABELS), LABELS)
    with pytest.raises(EdgeqError, match="only one"):
        Goal("next").wanted(LABELS, 1)
    for bad in ({"rule": "class"}, {"rule": "next", "label": 1}, {"rule": "class", "label": -1}, {"rule": "nearest"}):
        with pytest.raises(ValueError, match="a goal"):
            Goal(**bad)
