"""The comparison's figures, by hand on made-up sides, and its adversarial examples on linear toys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from toys import LinearSource, LinearTarget, rows_and_images

from edgeq.attacks.pgd import PGD
from edgeq.attacks.spsa import SPSA
from edgeq.core.answer import Answer
from edgeq.core.protocols import Crafted
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.measure.comparison import CHUNK, Attack, compare, gates

EIGHT = Threat("linf", 8 / 255)


class Table:
    """Answers row ``i`` of a table to an image whose first pixel is ``4 i`` (noise of a pixel does not move it to another row)."""

    batch = 8

    def __init__(self, answer: Answer) -> None:
        self.held = answer

    def answer(self, images: np.ndarray) -> Answer:
        return self.held[(images[:, 0, 0, 0].astype(int) + 2) // 4]


IMAGES = (4 * np.arange(4, dtype=np.uint8)).reshape(4, 1, 1, 1)
ROWS = Rows(np.arange(4), np.array([0, 1, 0, 1]))
A = Answer("probs", np.array([[100, 27], [0, 127], [-10, 10], [5, 5]], np.int8), 1 / 256, -128)
B = Answer("probs", np.array([[97, 30], [0, 127], [10, -10], [5, 4]], np.int8), 1 / 256, -128)
PIXEL = Threat("linf", 1 / 255)


def by_hand(a: Answer = A, b: Answer = B):
    return compare((Table(a), Table(b)), lambda part: IMAGES[part], ROWS, PIXEL, 0)


def test_clean_figures() -> None:
    clean = by_hand()["clean"]
    assert (clean["accuracy"]["A"]["k"], clean["accuracy"]["B"]["k"]) == (2, 3)  # the fourth row's argmax is 0, in A by a tie
    assert (clean["with_ties"]["A"]["k"], clean["with_ties"]["B"]["k"]) == (3, 3)
    assert (clean["mcnemar"]["only_a"], clean["mcnemar"]["only_b"], clean["mcnemar"]["p"]) == (0, 1, 1.0)
    assert (clean["flips"]["k"], clean["flips"]["of"]) == (1, 4)  # only the third row's top class moves
    assert (clean["ties"]["A"]["k"], clean["ties"]["B"]["k"]) == (1, 0)
    low, high = clean["flips"]["interval"]
    assert low < 0.25 < high
    noise = by_hand()["noise"]  # which this table does not see
    assert {k: noise[k] for k in ("accuracy", "ties")} == {k: clean[k] for k in ("accuracy", "ties")}
    assert by_hand()["warnings"] == []
    assert by_hand(b=Answer("probs", np.full((4, 2), 9, np.int8)))["warnings"][0].startswith("B answers all 4 clean images with the same")
    scores = clean["scores"]
    assert scores["largest"] == pytest.approx(20 / 256)
    assert scores["mean"] == pytest.approx((3 + 3 + 20 + 20 + 1) / 8 / 256)
    assert scores["lsb"] == {"A": 1 / 256, "B": 1 / 256}


def test_scores_of_other_kinds() -> None:
    probs = np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    as_logits = Answer("logits", (np.log(probs) + 3).astype(np.float32))
    quantised = Answer("probs", np.rint(256 * probs - 128).astype(np.int8), 1 / 256, -128)
    assert by_hand(as_logits, quantised)["clean"]["scores"]["largest"] == pytest.approx(0, abs=1e-6)
    assert by_hand(as_logits, as_logits)["clean"]["scores"]["kind"] == "logits"
    assert by_hand(Answer("label", np.array([0, 1, 0, 1])), quantised)["clean"]["scores"] is None
    assert by_hand(as_logits, Answer("logits", np.full((4, 2), np.nan, np.float32)))["clean"]["scores"] is None


def test_noise_is_of_the_threats_radius_and_the_same_for_both() -> None:
    shown = []

    class Watching(Table):
        def answer(self, images: np.ndarray) -> Answer:
            shown.append(images)
            return super().answer(images)

    figures = compare((Watching(A), Watching(B)), lambda part: IMAGES[part], ROWS, PIXEL, 0)
    clean, clean_too, noisy, noisy_too = shown
    assert clean is clean_too
    assert noisy is noisy_too
    assert PIXEL.contains(noisy, IMAGES).all()
    assert (noisy != IMAGES).any()
    assert figures["noise"]["flips"]["k"] == figures["clean"]["flips"]["k"]  # this table does not see one pixel
    assert figures["adversarial"] == []


@pytest.fixture
def toys():
    """Two linear networks, images that A gets right, and what both say of them."""
    rows, images = rows_and_images(40)
    a, b = LinearTarget(), LinearTarget(seed=2)
    b.weights = a.weights + np.random.default_rng(5).integers(-2, 3, a.weights.shape)
    return a, b, Rows(rows.ids, a.answer(images).label()), images


def attack_on(a, b, value) -> Attack:
    return Attack("toy", value, {"A": a, "B": b}, {"A": [LinearSource(a)], "B": [LinearSource(b)]}, None)


@pytest.mark.parametrize("value", [PGD(steps=5, step=0.5), SPSA(steps=5, batch=8, lr=0.02)])
def test_each_ones_adversarial_examples_on_the_other(toys, value) -> None:
    a, b, rows, images = toys
    figures = compare((a, b), lambda part: images[part], rows, EIGHT, 0, attack_on(a, b, value))
    assert [made["crafted_on"] for made in figures["adversarial"]] == ["A", "B"]
    clean = [t.answer(images).label() == rows.labels for t in (a, b)]
    for made, side in zip(figures["adversarial"], "AB", strict=True):
        candidates = attack_on(a, b, value).craft(side, images, rows, EIGHT, 0)
        assert EIGHT.contains(candidates, images).all()
        for name, target, right in zip("AB", (a, b), clean, strict=True):
            stands = ~target.answer(candidates).fooled(rows.labels)
            assert made["robust_accuracy"][name]["k"] == (right & stands).sum()
            assert made["b19_acc"][name]["k"] == (target.answer(candidates).label() == rows.labels).sum()
            assert made["ties"][name]["k"] == target.answer(candidates).tied().sum()
            assert (made["success"][name]["k"], made["success"][name]["of"]) == ((right & ~stands).sum(), right.sum())
        assert made["flips"]["k"] == (a.answer(candidates).label() != b.answer(candidates).label()).sum()
    own = figures["adversarial"][0]["robust_accuracy"]["A"]["k"]
    assert own < figures["noise"]["accuracy"]["A"]["k"]  # the attack does more than noise does


def test_of_two_sources_the_worst_candidate_is_kept(toys) -> None:
    """One craft fools odd rows, the other rows 0 to 9: together all of them; elsewhere the higher loss decides."""
    _, _, rows, images = toys
    n = len(images)

    class FooledByWhite:
        def answer(self, shown: np.ndarray) -> Answer:
            return Answer("label", np.where(shown.reshape(len(shown), -1).min(1) == 255, rows.labels[: len(shown)] + 1, rows.labels))

    @dataclass(frozen=True)
    class Painted:
        needs = "gradients"

        def craft(self, source, clean, rows, threat, seed, goal=None):
            made = np.where(source["white"][:, None, None, None], 255, source["level"]).astype(np.uint8)
            return Crafted(np.broadcast_to(made, clean.shape).copy(), clean, np.full(n, source["loss"], np.float32))

    odd, first = np.arange(n) % 2 == 1, np.arange(n) < 10
    sources = [{"white": odd, "level": 1, "loss": 1.0}, {"white": first, "level": 2, "loss": 2.0}]
    attack = Attack("painted", Painted(), {"A": FooledByWhite()}, {"A": sources})
    level = attack.craft("A", images, rows, EIGHT, 0)[:, 0, 0, 0]
    assert (level[odd | first] == 255).all()
    assert (level[~(odd | first)] == 2).all()


def test_the_budget_reaches_the_scheduler(toys) -> None:
    a, b, rows, images = toys
    a.seen = 0
    figures = compare((a, b), lambda part: images[part], rows, EIGHT, 0, Attack("s", SPSA(steps=50), {"A": a, "B": b}, {}, 3))
    assert figures["attack"]["max_queries"] == 3
    assert a.seen <= 40 * (4 + 3)  # clean, noise and two sets of candidates; and three queries a row


def test_chunks_do_not_matter(toys, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, rows, images = toys

    def figures():
        return compare((a, b), lambda part: images[part], rows, EIGHT, 0, attack_on(a, b, PGD(steps=3, step=0.5)))

    whole = figures()
    monkeypatch.setattr("edgeq.measure.comparison.CHUNK", 7)
    assert len(images) < CHUNK
    assert figures() == whole


def test_gates() -> None:
    figures = by_hand()
    assert gates(figures, {"max_flips": None, "max_accuracy_drop": None, "max_robust_drop": None}) == []
    met, not_met = gates(figures, {"max_flips": 0.25, "max_accuracy_drop": 0.0}), gates(figures, {"max_flips": 0.24})
    assert [g["met"] for g in met] == [True, True]
    assert not_met == [{"gate": "max_flips", "limit": 0.24, "value": 0.25, "met": False}]
    robust = {
        "clean": figures["clean"],
        "adversarial": [
            {"crafted_on": "A", "robust_accuracy": {"A": {"share": 0.5}, "B": {"share": 0.9}}},
            {"crafted_on": "B", "robust_accuracy": {"A": {"share": 0.9}, "B": {"share": 0.4}}},
        ],
    }
    assert [g["met"] for limit in (0.1, 0.09) for g in gates(robust, {"max_robust_drop": limit})] == [True, False]
