"""The fidelity table by hand: made-up runtimes whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.core.answer import Answer
from edgeq.measure.fidelity import compare, distance


class Fixed:
    """Answers row ``i`` of a table to an image whose first pixel is ``i``."""

    batch = 4

    def __init__(self, answer: Answer) -> None:
        self.held = answer

    def answer(self, images: np.ndarray) -> Answer:
        return self.held[images[:, 0, 0, 0].astype(int)]


IMAGES = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
LABELS = np.array([0, 1, 0, 1])
REFERENCE = Answer("probs", np.array([[100, 27], [0, 127], [-10, 10], [5, 5]], np.int8), 1 / 256, -128)
OTHER = Answer("probs", np.array([[97, 30], [0, 127], [10, -10], [5, 5]], np.int8), 1 / 256, -128)


def batches(labels=LABELS):
    for part in (slice(0, 3), slice(3, 4)):
        yield IMAGES[part], None if labels is None else labels[part]


def test_counts() -> None:
    reference, other, absent = compare({"litert-reference": Fixed(REFERENCE), "ort": Fixed(OTHER), "tflm": "hybrid"}, batches())
    assert (reference.n, reference.right, reference.tied, reference.lsb) == (4, 2, 1, 0)  # the tie's lowest index is not the truth
    assert (other.n, other.right, other.tied, other.lsb) == (4, 3, 1, 20)
    assert (reference.with_ties, other.with_ties, other.to_json()["with_ties"]) == (3, 4, 1)
    assert other.constant is None
    assert reference.flips == {"ort": 1}
    assert other.flips == {"litert-reference": 1}
    assert (absent.reason, absent.n, absent.accuracy) == ("hybrid", 0, None)
    assert reference.accuracy[0] == 0.5
    assert reference.accuracy[1] < 0.5 < reference.accuracy[2]


def test_a_dead_export_is_said() -> None:
    dead = Answer("probs", np.full((4, 2), 0, np.int8), 1 / 256, -128)
    (line,) = compare({"ort": Fixed(dead)}, batches())
    assert line.accuracy[0] == 0.5  # of two classes
    assert line.to_json()["constant"] == {"what": "scores", "label": 0, "dead": True}


def test_without_labels_there_is_no_accuracy() -> None:
    (line,) = compare({"ort": Fixed(OTHER)}, batches(None))
    assert line.accuracy is None
    assert line.lsb is None  # the reference kernels did not run
    assert line.to_json()["accuracy"] is None


def test_float_logits_are_compared_after_their_softmax() -> None:
    probs = np.array([[0.75, 0.25], [0.5, 0.5]])
    quantised = Answer("probs", (np.array([[0.75, 0.25], [0.5 + 3 / 256, 0.5]]) * 256 - 128).astype(np.int8), 1 / 256, -128)
    floats = Answer("logits", (np.log(probs) + 7).astype(np.float32))
    assert distance(floats, quantised) == pytest.approx(3, abs=1e-3)
    assert distance(Answer("label", np.array([0, 1])), quantised) == np.inf
