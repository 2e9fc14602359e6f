"""The comparison's figures, by hand on made-up sides, and under each other's adversarial examples on linear toys."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from toy_runs import toy_run
from toys import LinearSource, LinearTarget, rows_and_images

from edgeq.attacks.pgd import PGD
from edgeq.attacks.spsa import SPSA
from edgeq.core.answer import Answer
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.rows import Rows
from edgeq.measure.comparison import Adversarial, Comparison, Discordant, compare, gates
from edgeq.measure.figures import share
from edgeq.measure.layers import Layers

NONE = Layers("A", "B", 0, reason="not asked for")
SIDES = {"A": {"target": "a", "file": "a.tflite"}, "B": {"target": "b", "file": "b.tflite"}}


class Table:
    """Answers row ``i`` of a table to an image whose first pixel is ``4 i`` (noise of a pixel does not move it to another row)."""

    batch = 8

    def __init__(self, answer: Answer) -> None:
        self.table = answer

    def answer(self, images: np.ndarray) -> Answer:
        return self.table[(images[:, 0, 0, 0].astype(int) + 2) // 4]


IMAGES = (4 * np.arange(4, dtype=np.uint8)).reshape(4, 1, 1, 1)
ROWS = Rows(np.arange(4), np.array([0, 1, 0, 1]))
A = Answer("probs", np.array([[100, 27], [0, 127], [-10, 10], [5, 5]], np.int8), 1 / 256, -128)
B = Answer("probs", np.array([[97, 30], [0, 127], [10, -10], [5, 4]], np.int8), 1 / 256, -128)


def noise(pixels: int) -> Cell:
    return Cell(1, "noise", {}, "linf", pixels / 255, kind="noise")


@pytest.fixture
def by_hand(tmp_path: Path):
    def of(a: Answer = A, b: Answer = B) -> Comparison:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
        with toy_run(path, {"a": Table(a), "b": Table(b)}, ROWS, IMAGES, [noise(1)], sides=SIDES) as run:
            return compare(run, NONE, {})

    return of


def test_clean_figures(by_hand) -> None:
    found = by_hand()
    clean = found.clean
    assert (clean.accuracy["A"].k, clean.accuracy["B"].k) == (2, 3)  # the fourth row's argmax is 0, in A by a tie
    assert (clean.with_ties["A"].k, clean.with_ties["B"].k) == (3, 3)
    assert clean.mcnemar == Discordant(0, 1, 1.0)
    assert (clean.flips.k, clean.flips.of) == (1, 4)  # only the third row's top class moves
    assert (clean.ties["A"].k, clean.ties["B"].k) == (1, 0)
    low, high = clean.flips.interval
    assert low < 0.25 < high
    assert (found.noise.accuracy, found.noise.ties, found.noise.flips) == (
        clean.accuracy,
        clean.ties,
        clean.flips,
    )  # this table sees no noise
    assert (found.warnings, found.adversarial, found.attack, found.pixels) == ((), (), None, 1)
    assert by_hand(b=Answer("probs", np.full((4, 2), 9, np.int8))).warnings[0].startswith("B answers all 4 clean images with the same")
    assert clean.scores.largest == pytest.approx(20 / 256)
    assert clean.scores.mean == pytest.approx((3 + 3 + 20 + 20 + 1) / 8 / 256)
    assert clean.scores.lsb == {"A": 1 / 256, "B": 1 / 256}


def test_the_json_has_the_keys_that_scripts_read(by_hand) -> None:
    value = by_hand().to_json()
    assert list(value) == [
        *("format", "sides", "data", "warnings", "n", "norm", "eps", "pixels", "seed", "attack", "clean", "noise", "adversarial"),
        *("layers", "gates", "unreadable"),
    ]
    assert value["sides"]["A"] == {"file": "a.tflite", "sha256": "a", "runtime": "a", "kind": "probs", "identity": {"engine": "toy"}}
    assert list(value["clean"]) == ["accuracy", "mcnemar", "with_ties", "flips", "ties", "scores"]
    assert value["clean"]["accuracy"]["A"]["share"] == 0.5


def test_scores_of_other_kinds(by_hand) -> None:
    probs = np.array([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    as_logits = Answer("logits", (np.log(probs) + 3).astype(np.float32))
    quantised = Answer("probs", np.rint(256 * probs - 128).astype(np.int8), 1 / 256, -128)
    assert by_hand(as_logits, quantised).clean.scores.largest == pytest.approx(0, abs=1e-6)
    assert by_hand(as_logits, as_logits).clean.scores.kind == "logits"
    assert by_hand(Answer("label", np.array([0, 1, 0, 1])), quantised).clean.scores is None
    assert by_hand(as_logits, Answer("logits", np.full((4, 2), np.nan, np.float32))).clean.scores is None


def test_scores_do_not_depend_on_how_many_are_read_at_once(by_hand, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = by_hand().clean.scores
    monkeypatch.setattr("edgeq.measure.comparison.CHUNK", 3)
    assert by_hand().clean.scores == whole


@pytest.mark.parametrize("value", [PGD(steps=5, step=0.5), SPSA(steps=5, batch=8, lr=0.02)])
def test_adversarial_examples_of_each_on_both(tmp_path: Path, value) -> None:
    rows, images = rows_and_images(40)
    a, b = LinearTarget(), LinearTarget(seed=2)
    b.weights = a.weights + np.random.default_rng(5).integers(-2, 3, a.weights.shape)
    rows = Rows(rows.ids, a.answer(images).label())
    name, kind = ("pgd", "gradient") if isinstance(value, PGD) else ("spsa", "query")
    crafted = [Cell(2 + at, name, asdict(value), "linf", 8 / 255, on, "scores", kind) for at, on in enumerate("ab")]
    sources = {"a": LinearSource(a), "b": LinearSource(b)}
    with toy_run(tmp_path / "r.sqlite", {"a": a, "b": b}, rows, images, [noise(8), *crafted], sources, sides=SIDES) as run:
        found = compare(run, NONE, {})
        candidates = [run.candidates(cell.cell, np.arange(40)) for cell in crafted]
    assert (found.attack.name, found.attack.params) == (name, asdict(value))
    assert [made.crafted_on for made in found.adversarial] == ["A", "B"]
    clean = [t.answer(images).label() == rows.labels for t in (a, b)]
    for made, shown in zip(found.adversarial, candidates, strict=True):
        for side, target, right in zip("AB", (a, b), clean, strict=True):
            stands = ~target.answer(shown).fooled(rows.labels)
            assert made.robust_accuracy[side].k == (right & stands).sum()
            assert made.b19_acc[side].k == (target.answer(shown).label() == rows.labels).sum()
            assert made.ties[side].k == target.answer(shown).tied().sum()
            assert made.success[side] == share((right & ~stands).sum(), right.sum())
        assert made.flips.k == (a.answer(shown).label() != b.answer(shown).label()).sum()
    assert found.adversarial[0].robust_accuracy["A"].k < found.noise.accuracy["A"].k  # the attack does more than noise does


def test_one_target_may_be_both_sides(tmp_path: Path) -> None:
    same = {"A": {"target": "a", "file": "a.tflite"}, "B": {"target": "a", "file": "copy.tflite"}}
    with toy_run(tmp_path / "r.sqlite", {"a": Table(A)}, ROWS, IMAGES, [noise(1)], sides=same) as run:
        found = compare(run, NONE, {"max_flips": 0.0})
    assert (found.clean.flips.k, found.clean.scores.largest, found.gates[0].met) == (0, 0, True)
    assert [side.file for side in found.sides.values()] == ["a.tflite", "copy.tflite"]


@pytest.mark.parametrize("sides", [None, [], {"A": {"target": "a"}}, {**SIDES, "B": {"target": "c"}}, {**SIDES, "B": "b"}])
def test_a_run_without_two_sides_compares_nothing(tmp_path: Path, sides) -> None:
    run = toy_run(tmp_path / "r.sqlite", {"a": Table(A), "b": Table(B)}, ROWS, IMAGES, sides=sides)
    with run, pytest.raises(EdgeqError, match="no run of edgeq compare"):
        compare(run, NONE, {})


def test_gates(by_hand) -> None:
    clean = by_hand().clean
    assert gates(clean, (), {"max_flips": None, "max_accuracy_drop": None, "max_robust_drop": None}) == []
    met, not_met = gates(clean, (), {"max_flips": 0.25, "max_accuracy_drop": 0.0}), gates(clean, (), {"max_flips": 0.24})
    assert [gate.met for gate in met] == [True, True]
    assert [asdict(gate) for gate in not_met] == [{"gate": "max_flips", "limit": 0.24, "value": 0.25, "met": False}]
    rest = (clean.accuracy, clean.accuracy, clean.mcnemar, clean.flips, clean.ties)
    made = [
        Adversarial("A", {"A": share(5, 10), "B": share(9, 10)}, *rest),
        Adversarial("B", {"A": share(9, 10), "B": share(4, 10)}, *rest),
    ]
    assert [gate.met for limit in (0.1, 0.09) for gate in gates(clean, made, {"max_robust_drop": limit})] == [True, False]
