"""What looks wrong about answers to clean images: the thresholds, and what raises no doubt."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from edgeq.core.doubts import CODES, Doubt, at_least, by_chance, of_answers, of_codes


@pytest.mark.parametrize(("k", "n", "p"), [(0, 5, 0.3), (3, 5, 0.3), (5, 5, 0.3), (7, 50, 0.1), (60, 100, 0.5), (6, 5, 0.5), (1, 4, 0.0)])
def test_the_tail_of_the_binomial_is_exact(k: int, n: int, p: float) -> None:
    q = Fraction(p)
    wanted = sum(math.comb(n, i) * q**i * (1 - q) ** (n - i) for i in range(k, n + 1))
    assert at_least(k, n, p) == pytest.approx(float(wanted), rel=1e-12)


def test_many_images_do_not_underflow() -> None:
    assert at_least(10_000, 1_000_000, 0.01) == pytest.approx(0.5, abs=0.01)
    assert 0 <= at_least(900_000, 1_000_000, 0.01) < 1e-300


def kinds(answered: np.ndarray, truth: np.ndarray, classes: int) -> list[str]:
    return [doubt.kind for doubt in of_answers(np.asarray(answered), np.asarray(truth), classes)]


def spread(truth: np.ndarray, right: int, classes: int) -> np.ndarray:
    """Answers of which the first ``right`` are, and the others are spread over the other classes."""
    n = np.arange(len(truth))
    return np.where(n < right, truth, (truth + 1 + n % (classes - 1)) % classes)


def test_chance_is_what_an_exact_interval_does_not_lie_above() -> None:
    truth = np.arange(100) % 10
    assert kinds(spread(truth, 16, 10), truth, 10) == ["chance"]  # Clopper and Pearson's interval of 16 of 100 begins at .094
    assert kinds(spread(truth, 17, 10), truth, 10) == []  # and that of 17 at .102
    (doubt,) = of_answers(spread(truth, 12, 10), truth, 10)
    says = "m gets 12 of 100 clean images right (.120), which cannot be told from chance (1 in 10)."
    assert doubt.of("m") == Doubt("chance", says, True)


def test_of_many_classes_a_few_right_are_no_better() -> None:
    truth = np.arange(500) % 500
    (doubt,) = of_answers(spread(truth, 8, 1000), truth, 1000)
    assert (doubt.kind, doubt.void) == ("chance", True)
    assert not by_chance(8, 500, 1000)
    assert kinds(spread(truth, 60, 1000), truth, 1000) == []
    assert "(1 in 1,001)" in of_answers(spread(truth, 0, 1001), truth, 1001)[0].sentence


def test_one_class_for_most_images_unless_the_data_have_it() -> None:
    truth = np.arange(100) % 4
    most = np.where(np.arange(100) < 70, 2, truth)
    (doubt,) = of_answers(most, truth, 4)
    assert (doubt.kind, doubt.void) == ("one class", True)
    assert doubt.of("m").sentence == "m calls 78 of 100 clean images class 2, which 25 of them are."
    assert kinds(np.full(50, 7), np.full(50, 7), 1000) == []  # data of one class
    skewed = (np.arange(100) < 8).astype(int)
    assert kinds(np.zeros(100, int), skewed, 2) == ["one class"]
    assert kinds(np.where(np.arange(100) < 6, 1, 0), skewed, 2) == []  # 94 of 100 are called 0, and 92 are


def test_of_few_images_nothing_is_said() -> None:
    assert kinds(np.zeros(9, int), np.ones(9, int), 10) == []
    assert kinds(np.zeros(10, int), np.arange(10), 10) == ["one class"]


def test_codes_that_pixels_reach() -> None:
    table = np.zeros((256, 1), np.int8)
    assert of_codes(CODES, table) == []
    (doubt,) = of_codes(2, table)
    assert doubt.of("m").sentence == "The 256 values of a pixel reach 2 codes of its input in m: it hardly sees the image."
    assert not doubt.void
