"""Networks of two classes that return one score: every command and runtime reads it as p of class 1 and 1 - p of class 0."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tiny_onnx
import tiny_tflite
from click.testing import CliRunner
from PIL import Image

import edgeq
from edgeq import runtimes
from edgeq.api.comparing import compare
from edgeq.cli.inspect import command as inspect
from edgeq.core.errors import EdgeqError
from edgeq.runs import board
from edgeq.runs.store import Run

pytest.importorskip("tflite_micro")
IMAGES = np.random.default_rng(3).integers(0, 256, (96, 8, 8, 1), np.uint8)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("single") / "two.tflite"
    path.write_bytes(tiny_tflite.classifier(classes=1, seed=7, sigmoid=True))
    return path


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory) -> Path:
    """Images in a folder for each of two classes, which the file has right."""
    path = tmp_path_factory.mktemp("photos")
    with edgeq.open(file) as target:
        for i, label in enumerate(target.answer(IMAGES).label()):
            place = path / ("cat", "dog")[label]
            place.mkdir(exist_ok=True)
            Image.fromarray(IMAGES[i, ..., 0]).save(place / f"{i}.png")
    assert len(list(path.iterdir())) == 2
    return path


def check(path: Path, name: str, dtype: str, output: str | None = None) -> np.ndarray:
    with edgeq.open(path, name, output=output, preprocess="mean=0,std=255") as target:
        answer = target.answer(IMAGES)
        assert target.signature.classes == 2
    assert (answer.raw.shape, str(answer.raw.dtype)) == ((96, 1), dtype)
    p = answer.scale * (answer.raw[:, 0].astype(np.float64) - answer.zero)
    middle = 0 if (answer.kind == "logits") else 0.5
    np.testing.assert_array_equal(answer.label(), p > middle)
    np.testing.assert_array_equal(answer.tied(), p == middle)
    np.testing.assert_allclose(answer.values(), np.stack([1 - p if middle else 0 * p, p], axis=1), atol=1e-6)
    assert 10 < answer.label().sum() < 86
    return answer.raw


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_every_runtime_reads_one_sigmoid_of_a_tflite_as_two_classes(tmp_path, dtype) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(classes=1, seed=7, sigmoid=True, dtype=dtype))
    for name in runtimes.listed(".tflite"):
        check(path, name, dtype)
    path.write_bytes(tiny_tflite.classifier(classes=1, seed=7, softmax=False, dtype=dtype))
    with pytest.raises(EdgeqError, match="a single number and no sigmoid makes it"):
        edgeq.open(path)
    check(path, "litert-xnnpack", dtype, "logits")


@pytest.mark.parametrize("floats", [False, True])
def test_one_sigmoid_of_an_onnx(tmp_path, floats) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "m.onnx"
    path.write_bytes(tiny_onnx.classifier(classes=1, c=1, softmax=False, sigmoid=True, floats=floats))
    with edgeq.open(path, preprocess="mean=0,std=255") as target:
        answer = target.answer(IMAGES)
    assert answer.kind == "probs"
    np.testing.assert_array_equal(answer.label(), answer.values()[:, 1] > 0.5)


def test_inspect_and_a_comparison_say_what_the_score_is(file, folder) -> None:
    printed = CliRunner().invoke(inspect, [str(file)])
    assert "read as probs, one score of two classes: class 1 has p, class 0 has 1" in " ".join(printed.output.split())
    compared = compare(file, runtimes=("litert-xnnpack", "tflm"), data=f"folder:{folder}", n=40, inside=4)
    scores = compared.to_json()["clean"]["scores"]
    assert (scores["kind"], scores["lsb"]["A"]) == ("probs", 1 / 256)
    assert 0 < scores["largest"] <= 8 / 256  # kernels round apart


@pytest.mark.parametrize("access", ["label", "scores", "logits"])
def test_queries_attack_it_by_what_they_see(file, folder, access) -> None:
    given = {"access": access, "n": 16, "eps": "16/255", "runtime": "litert-xnnpack", "replay": ["tflm"], "max_queries": 600}
    with edgeq.attack(file, f"folder:{folder}", **given) as result:
        figures = result["rays" if access == "label" else "spsa", "16/255"]
        assert figures.clean_accuracy == 1
        assert figures.robust_accuracy < 0.9


def test_a_board_returns_the_one_score_or_a_label(file, folder, tmp_path) -> None:
    path = tmp_path / "run.sqlite"
    edgeq.attack(file, f"folder:{folder}", "noise", n=12, eps="1/255", runtime="litert-xnnpack", run=path)
    with Run.open(path, write=True) as run:
        raw, ids = run.scores(0, "two/litert-xnnpack", np.arange(12)), run.ids()
        with open(tmp_path / "answers.csv", "w", newline="") as stream:
            lines = csv.writer(stream)
            lines.writerow(["id", "cell", "score_0"])
            lines.writerows([ids[i], 0, int(raw[i, 0])] for i in range(12))
        board.score(run, tmp_path / "answers.csv", "my board")
        assert (run.outcomes(0, "my board").right == 1).all()
