"""The access ladder: what an attack sees, what decides, and what a file gives."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import qdq_files
import tiny_onnx
import tiny_tflite
import toys
from random_graphs import random_graph

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.goal import Goal
from edgeq.targets import access, views


class Fixed:
    """A target with one answer to each image, known by its first pixel; counts what it is asked."""

    name, batch = "fixed", 4

    def __init__(self, raw, kind="probs"):
        self.raw, self.kind, self.asked = np.asarray(raw), kind, 0

    def answer(self, images):
        self.asked += len(images)
        return Answer(self.kind, self.raw[images[:, 0, 0, 0]])


SCORES = np.array([[5, 5, 1], [5, 6, 1], [7, 6, 1]], np.int8)  # a tie, class 1, class 0
LOGITS = np.array([[50, 51, 10], [50, 60, 10], [70, 60, 10]], np.int8)  # the tie was none before the softmax
IMAGES = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)


def test_logits_are_seen_and_the_files_own_output_decides():
    real = Fixed(SCORES)
    answer = views.View(real, Fixed(LOGITS, "logits").answer).answer(IMAGES)
    np.testing.assert_array_equal(answer.logits(), LOGITS.astype(np.float32))
    assert answer.margin(np.array([0, 0, 0])).tolist() == [0, 10, -10]  # the tie fools nobody, though its logits do
    assert answer.fooled(np.array([0, 0, 0])).tolist() == [False, True, False]
    assert real.asked == 4  # twice the two rows whose logits are fooled; what they say of the third is enough
    part = answer[np.array([1])]
    assert part.fooled(np.array([0])).tolist() == [True]
    assert len(part) == 1


def test_a_label_shows_no_score_and_a_tie_at_the_top_is_no_success():
    answer = views.labels(Fixed(SCORES)).answer(IMAGES)
    assert answer.kind == "label"
    with pytest.raises(TypeError, match="no logits"):
        answer.logits()
    assert answer.margin(np.array([1, 0, 0])).tolist() == [0, 1, -1]  # row 0 is named 0 and merely ties with 1


def test_a_wanted_class_counts_only_where_the_files_own_output_names_it_strictly():
    goal, labels = Goal("class", 1), np.array([0, 0, 0])
    real = Fixed(SCORES)
    answer = views.View(real, Fixed(LOGITS, "logits").answer).answer(IMAGES)
    assert goal.margin(answer, labels).tolist() == [0, 10, -10]
    assert real.asked == 2
    assert goal.reached(views.labels(Fixed(SCORES)).answer(IMAGES), labels).tolist() == [False, True, False]
    assert Goal("class", 0).margin(views.labels(Fixed(SCORES)).answer(IMAGES), np.array([1, 1, 1])).tolist() == [0, -1, 1]


def test_another_network_is_no_view_of_this_one():
    shape = (6, 5, 1)
    with pytest.raises(EdgeqError, match="names other classes"):
        views.logits(toys.LinearTarget(seed=1), toys.LinearTarget(seed=2), shape)
    views.logits(toys.LinearTarget(seed=1, kind="probs"), toys.LinearTarget(seed=1), shape)


def test_an_attack_through_a_view_is_the_attack_on_the_target_where_nothing_ties():
    from edgeq.attacks.spsa import SPSA
    from edgeq.core import scheduler
    from edgeq.core.threat import Threat

    rows, clean = toys.rows_and_images(12)
    found = []
    for target in (toys.LinearTarget(), views.View(toys.LinearTarget(), toys.LinearTarget().answer)):
        out = np.zeros_like(clean)
        for done in scheduler.run(SPSA(steps=4, batch=8), target, rows, lambda i: clean[i], Threat("linf", 4 / 255), 0, 30, 5):
            out[done.index] = done.candidates
        found.append(out)
    np.testing.assert_array_equal(*found)


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("options", "kind", "level"),
    [({}, "probs", "gradients"), ({"softmax": False}, "logits", "gradients"), ({"label": True}, "label", "logits")],
)
def test_the_strongest_that_a_file_gives(tmp_path, options, kind, level):
    if find_spec("tensorflow") is None:
        pytest.skip('TensorFlow is not installed: pip install "edgeq[keras]"')
    path = write(tmp_path, "m.tflite", tiny_tflite.classifier(**options))
    found, why = access.strongest(path, "litert-reference", kind)
    assert found == level
    assert bool(why) == (level != "gradients")


def test_without_tensorflow_it_says_what_to_install(tmp_path, monkeypatch):
    for name in ("tensorflow", "tf_keras"):
        monkeypatch.setitem(sys.modules, name, None)
    path = write(tmp_path, "m.tflite", tiny_tflite.classifier())
    assert access.strongest(path, "litert-reference", "probs") == ("logits", ['gradients need TensorFlow; pip install "edgeq[keras]"'])
    path = write(tmp_path, "n.tflite", tiny_tflite.classifier(softmax=False))
    assert access.strongest(path, "litert-reference", "logits")[0] == "logits"  # it returns them itself


def test_an_onnx_file_gives_its_gradients_where_tensorflow_is_there_and_else_its_logits(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    path = write(tmp_path, "m.onnx", tiny_onnx.classifier())
    monkeypatch.setattr(access, "find_spec", lambda name: object())
    assert access.strongest(path, "ort", "probs") == ("gradients", [])
    monkeypatch.setattr(access, "find_spec", lambda name: None)
    level, (why,) = access.strongest(path, "ort", "probs")
    assert level == "logits"
    assert "need TensorFlow" in why
    assert "the .onnx" in (access.hindrance("logits", tmp_path / "m.tflite", "ort", "probs") or "")


def test_sums_that_a_processor_cuts_are_said(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    paths = [write(tmp_path, f"{i}.onnx", qdq_files.write(random_graph(1), "uint8", kind)) for i, kind in enumerate(("int8", "uint8"))]
    monkeypatch.setattr(access.cpu, "u8s8_saturates", lambda: True)
    assert "at 16 bits" in (access.caveat(paths[0], "ort") or "")
    assert access.caveat(paths[1], "ort") is None
    monkeypatch.setattr(access.cpu, "u8s8_saturates", lambda: False)
    assert access.caveat(paths[0], "ort") is None


def test_each_level_has_its_attack():
    assert [access.attack_for(level) for level in access.LEVELS] == ["rays", "spsa", "spsa", "pgd"]
