"""Cosines, exact zeros, exploding differences and the variance of logits, by hand and on toys whose gradients are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runs import toy_run
from toys import LinearSource, LinearTarget, rows_and_images

from edgeq.core.answer import Answer
from edgeq.core.jsonable import as_json
from edgeq.core.rows import Rows
from edgeq.estimators.coordinate import Coordinate
from edgeq.estimators.spsa import SPSA
from edgeq.measure import alignment
from edgeq.measure import gradients as measured
from edgeq.measure.alignment import bootstrap, logit_variance
from edgeq.measure.gradients import EXPLODES, Asked, Subjects, cosine, sign_agreement


@pytest.fixture
def align(tmp_path: Path):
    """Measures a run of toys, part by part, and gives the figures as JSON."""

    def of(subjects: Subjects, rows: Rows, images: np.ndarray) -> Any:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.sqlite"
        with toy_run(path, {}, rows, images) as run:
            for chunk in measured.slices(len(rows), measured.CHUNK):
                index, done = np.arange(chunk.start, chunk.stop), np.zeros(chunk.stop - chunk.start, bool)
                for part, values in measured.measure(subjects, images[index], rows[index], 0, done):
                    run.add_measurements(0, index[part], values)
            assert run.measured(0).all()
            return json.loads(json.dumps(as_json(alignment.gradients(run, subjects, 0)), allow_nan=False))

    return of


def test_cosine_and_signs_by_hand() -> None:
    a = np.array([[3.0, 4, 0], [1e-200, 0, 0], [1, 1, 0]])
    b = np.array([[4.0, 3, 0], [-1e-200, 0, 0], [0, 0, 2.0]])
    np.testing.assert_allclose(cosine(a, b), [24 / 25, -1, 0])
    np.testing.assert_array_equal(sign_agreement(a, b), [1, 0, np.nan])
    np.testing.assert_array_equal(sign_agreement(np.array([[1, -2, 3, 0.0]]), np.array([[5, 2, 0, 1.0]])), [0.5])


def test_bootstrap_is_seeded_and_as_wide_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap(lambda i: values[i].mean(), 400, 0)
    assert (low, high) == bootstrap(lambda i: values[i].mean(), 400, 0)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert bootstrap(lambda i: 1.0, 1, 0) is None


def test_variance_of_logits_by_hand(align) -> None:
    of_float = np.array([[0.0, 2], [0, 4], [1, 1]], np.float32)
    both = (lambda images: of_float, lambda images: np.array([[0.0, 4], [0, 8], [0, 9]], np.float32))
    rows, images = Rows(np.arange(3), np.zeros(3, np.int64)), np.zeros((3, 1, 3, 1), np.uint8)
    found = align(Subjects({"a": Fixed(np.ones((3, 3)))}, {}, "ce", both), rows, images)["logit_variance"]
    assert (found["float"], found["file"], found["ratio"]) == (2.5, 10, 4)
    assert found["interval"] == [4, 4]
    assert (found["rows"], found["apart"]) == (2, 1)  # an image whose float logits are all one
    nothing = logit_variance(np.array([[np.nan, 1.0], [0.0, 1.0]]), 0)
    assert (nothing.ratio, nothing.rows, nothing.apart) == (None, 0, 2)


class Fixed:
    """A source with one gradient a row, whatever the image."""

    def __init__(self, gradient: np.ndarray) -> None:
        self.gradient = gradient

    batch = 128

    def fused(self, objective):
        return lambda x, labels: (np.zeros(len(x), np.float32), self.gradient.reshape(x.shape).astype(np.float32))


def test_rows_that_are_zero_or_no_number_are_counted_apart(align) -> None:
    rows, images = Rows(np.arange(4), np.zeros(4, np.int64)), np.zeros((4, 1, 3, 1), np.uint8)
    a = np.array([[1, 0, 0], [0, 0, 0], [1, 2, 3], [1, 1, 1.0]])
    b = np.array([[1, 1, 0], [1, 0, 0], [np.nan, 2, 3], [-1, -1, -1.0]])
    found = align(Subjects({"a": Fixed(a), "b": Fixed(b)}, {}, "ce"), rows, images)
    (pair,) = found["cosines"]
    assert (pair["rows"], pair["apart"]) == (2, 2)
    assert pair["mean"] == pytest.approx((np.sqrt(0.5) - 1) / 2)
    assert pair["signs"] == pytest.approx(0.5)  # 1 of 1, 0 of 3
    assert found["gradients"]["a"]["rows"]["k"] == 1
    assert (found["gradients"]["a"]["pixels"]["k"], found["gradients"]["a"]["pixels"]["of"]) == (5, 12)
    assert found["gradients"]["b"]["not_finite"] == 1
    assert found["differences"] == {}
    assert found["logit_variance"] is None


class Stairs(LinearTarget):
    """The linear toy, its scores rounded down to whole stairs."""

    def __init__(self, height: int) -> None:
        super().__init__()
        self.height = height

    def answer(self, images: np.ndarray) -> Answer:
        return Answer("logits", np.floor(super().answer(images).raw / self.height) * self.height / 500)


@pytest.fixture
def of_toys(align):
    def of(target: LinearTarget) -> tuple[Any, Rows]:
        rows, images = rows_and_images(30)
        asked = {
            "spsa": Asked(SPSA(pairs=20), target, "own"),
            "coordinate": Asked(Coordinate(pixels=12), target, "own"),
            "control": Asked(Coordinate(pixels=12), Stairs(1), "own", control=True),
        }
        return align(Subjects({"own": LinearSource(LinearTarget())}, asked, "margin"), rows, images), rows

    return of


def pair(found, a: str, b: str):
    return next(p for p in found["cosines"] if (p["a"], p["b"]) == (a, b))


def test_estimates_of_a_linear_network_are_its_gradient(of_toys) -> None:
    target = Stairs(1)
    found, rows = of_toys(target)
    assert pair(found, "own", "coordinate")["median"] > 0.9999
    assert pair(found, "own", "coordinate")["signs"] > 0.99
    assert pair(found, "own", "spsa")["mean"] == pytest.approx(SPSA(pairs=20).ceiling(30), abs=0.1)
    assert found["differences"]["spsa"]["ceiling"] == SPSA(pairs=20).ceiling(30)
    assert found["differences"]["coordinate"]["explode"]["k"] == 0
    assert target.seen == len(rows) * (2 * 20 + 2 * 12)  # exactly what the methods say they ask
    assert [found["differences"][k]["queries"] for k in ("spsa", "coordinate")] == [40, 24]


def test_a_control_is_paired_with_its_reference_only(of_toys) -> None:
    pairs = [("own", "spsa"), ("own", "coordinate"), ("own", "control"), ("spsa", "coordinate")]
    assert [(p["a"], p["b"]) for p in of_toys(Stairs(1))[0]["cosines"]] == pairs


def test_stairs_make_differences_vanish_and_explode(of_toys) -> None:
    """Weights are within +-8, so a stair of 600 is never climbed by more than one pixel's difference of 32."""
    found = of_toys(Stairs(600))[0]
    smooth, steep = found["differences"]["control"], found["differences"]["coordinate"]
    assert smooth["explode"]["share"] == 0
    assert smooth["zero"]["share"] < 0.2  # a weight of 0, or twice the same
    assert steep["zero"]["share"] > 0.9
    assert steep["zero"]["k"] + steep["explode"]["k"] == steep["zero"]["of"] == 30 * 12
    assert steep["median_size"] > EXPLODES
    assert found["gradients"]["coordinate"]["rows"]["k"] == 30 - pair(found, "own", "coordinate")["rows"]
    assert found["gradients"]["own"]["large"]["k"] == 0


def test_nothing_depends_on_chunks_parts_or_memory(of_toys, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_toys(Stairs(100))[0]
    for name, value in (("CHUNK", 7), ("PART", 3), ("MEMORY", 1)):
        monkeypatch.setattr(measured, name, value)
    assert of_toys(Stairs(100))[0] == whole


def test_parts_that_are_done_are_left_out_and_change_nothing() -> None:
    rows, images = rows_and_images(40)
    subjects = Subjects({"own": LinearSource(LinearTarget())}, {"c": Asked(Coordinate(pixels=4), Stairs(100), "own")}, "margin")

    def parts(done: np.ndarray) -> dict[int, dict[str, list[np.ndarray]]]:
        return {part.start: values for part, values in measured.measure(subjects, images, rows, 0, done)}

    every, rest = parts(np.zeros(40, bool)), parts(np.arange(40) < 20)  # a part that is not whole is done again
    assert ([*every], [*rest]) == ([0, 16, 32], [16, 32])
    for name, vectors in rest[16].items():
        for a, b in zip(vectors, every[16][name], strict=True):
            np.testing.assert_array_equal(a, b)
    assert parts(np.ones(40, bool)) == {}


def test_a_confident_rows_loss_is_not_rounded_away(align) -> None:
    """Scores 40 apart: the cross-entropy is 1e-17, below float32's and float64's steps beside 1, but no difference of it is zero."""

    class Sure(LinearTarget):
        def answer(self, images: np.ndarray) -> Answer:
            raw = super().answer(images).raw / 500
            raw[:, 0] += np.float32(25)
            return Answer("logits", raw.astype(np.float32))

    rows, images = rows_and_images(10)
    sure = Rows(rows.ids, np.zeros(10, np.int64))
    found = align(Subjects({}, {"c": Asked(Coordinate(pixels=12), Sure())}, "ce"), sure, images)
    assert found["differences"]["c"]["zero"]["share"] < 0.1
    assert found["differences"]["c"]["explode"] is None  # there is no reference
