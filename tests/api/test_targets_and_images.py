"""Targets opened by hand, images from arrays and from data sets, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from PIL import Image

import edgeq
from edgeq import EdgeqError, Images
from edgeq.api import words
from edgeq.core.reporter import Silent
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run

X = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8, 1)
Y = np.array([0, 1, 2, 3, 4, 5])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.tflite"
    file.write_bytes(tiny_tflite.classifier(seed=3))
    return file


def test_a_target_answers_by_hand_row_by_row(model: Path) -> None:
    with edgeq.open(model, runtime="litert-reference", threads=1) as target:
        assert target.spec.id == "model/litert-reference"
        assert (target.signature.input.shape, target.signature.classes) == ((8, 8, 1), 10)
        whole = target.answer(X)
        assert (whole.raw.dtype, whole.raw.shape) == (np.int8, (6, 10))
        np.testing.assert_array_equal(target.answer(X[2:3]).raw, whole.raw[2:3])
        assert "8 x 8 x 1" in repr(target)
    target.close()
    with pytest.raises(EdgeqError, match="closed"):
        target.answer(X)


def test_without_a_runtime_the_first_that_runs_it_is_taken(model: Path) -> None:
    with edgeq.open(str(model)) as target:
        assert target.spec.runtime == "litert-xnnpack"


@pytest.mark.parametrize(
    "images", [X.astype(np.float32), X[..., 0], np.zeros((2, 9, 8, 1), np.uint8), X[:0]], ids=["float", "flat", "large", "none"]
)
def test_images_that_are_not_the_models_are_refused(model: Path, images: np.ndarray) -> None:
    with edgeq.open(model, runtime="litert-reference") as target, pytest.raises(EdgeqError, match=r"takes \(m, 8, 8, 1\) uint8"):
        target.answer(images)


def test_what_cannot_be_opened_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="no such file"):
        edgeq.open(tmp_path / "none.tflite")
    with pytest.raises(EdgeqError, match="litert-xnnpack"):
        edgeq.open(model, runtime="litert-xnnpak")
    float_file = tmp_path / "float.tflite"
    float_file.write_bytes(tiny_tflite.classifier(dtype="float32"))
    with pytest.raises(EdgeqError, match="does not say what they mean"):
        edgeq.open(float_file, runtime="litert-reference")
    with edgeq.open(float_file, runtime="litert-reference", preprocess="mean=0,std=255") as target:
        assert target.answer(X).raw.dtype == np.float32


BAD: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "nan": (np.full((2, 8, 8, 1), np.nan), Y[:2], {}, "contains NaN or infinity"),
    "float": (X / 255, Y, {}, "contains float64; give pixels as uint8"),
    "wide": (X.astype(np.int32), Y, {}, "contains int32; give pixels as uint8"),
    "text": (["a"], Y[:1], {}, "give pixels as uint8"),
    "shape": (X[0], Y[:1], {}, "labels in y"),
    "flat": (X.reshape(6, 64), Y, {}, r"has shape \(6, 64\)"),
    "channels": (np.zeros((6, 8, 8, 4), np.uint8), Y, {}, "1 or 3 channels"),
    "empty": (X[:0], Y[:0], {}, "has shape"),
    "length": (X, Y[:5], {}, "6 images in x, 5 labels"),
    "names": (X, Y, {"names": ["a"]}, "1 names"),
    "twice": (X, Y, {"names": list("abcdea")}, "'a' stands there twice"),
    "negative": (X, Y - 1, {}, "label -1 of image 0 is out of range"),
    "classes": (X, Y, {"classes": ["a", "b"]}, "label 2 of image 2 is out of range; classes count from 0 to 1"),
    "fraction": (X, Y + 0.5, {}, "not a whole number"),
    "nan label": (X, np.where(Y == 3, np.nan, Y), {}, "row 3 is not a whole number"),
    "one-hot": (X, np.eye(6), {}, "one whole number an image"),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_are_no_labelled_images_are_refused_with_a_sentence(case: str) -> None:
    x, y, more, said = BAD[case]
    with pytest.raises(EdgeqError, match=said) as caught:
        Images(x, y, **more)
    assert "\n" not in str(caught.value)


def test_images_keep_their_names_when_some_are_taken() -> None:
    images = Images(X[..., 0], Y.astype(float), classes="abcdef")
    assert (images.x.shape, images.y.dtype, images.names) == ((6, 8, 8, 1), np.int64, tuple("012345"))
    part = images[images.y >= 4]
    assert (part.names, part.y.tolist(), part.classes) == (("4", "5"), [4, 5], tuple("abcdef"))
    assert images[::2].names == ("0", "2", "4")
    assert images.sha256() == Images(X, Y).sha256() != part.sha256()


def test_a_data_set_is_loaded_as_the_device_would_show_it(model: Path) -> None:
    (model.with_name("model.edgeq.json")).write_text(json.dumps({"files": {}, "preprocess": "stretch,mean=0,std=255"}))
    with edgeq.open(model, runtime="litert-reference") as target:
        images = edgeq.load("digits", like=target, n=20, seed=1)
        assert images.x.shape == (20, 8, 8, 1)
        assert len(images.classes or ()) == 10
        assert target.answer(images.x).raw.shape == (20, 10)
    again = edgeq.load("digits", n=20, seed=1)
    np.testing.assert_array_equal(images.x, again.x)
    assert images.names == again.names
    assert len(edgeq.load("digits", n=None)) == 359


def test_data_of_other_classes_than_the_models_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "four.tflite"
    file.write_bytes(tiny_tflite.classifier(classes=4))
    with edgeq.open(file, runtime="litert-reference") as target:
        with pytest.raises(EdgeqError, match="has 10 classes and the model 4"):
            edgeq.load("digits", like=target)
        with pytest.raises(EdgeqError, match=r"outside the model's classes 0\.\.3"):
            edgeq.attack(target, Images(X, Y), "spsa", run=tmp_path / "r.sqlite")
    assert not (tmp_path / "r.sqlite").exists()


@pytest.fixture
def portraits(tmp_path: Path) -> str:
    """Four photographs stored on their side: grey, dark at the left as stored, which is the top once they stand upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = np.tile(np.arange(0, 256, 32, dtype=np.uint8), (8, 1))
    for name in ("0/a.png", "0/b.png", "1/c.png", "1/d.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sideways).save(tmp_path / "photos" / name, exif=exif)
    return f"folder:{tmp_path / 'photos'}"


def test_portraits_are_shown_upright_and_a_run_says_so(model: Path, portraits: str, tmp_path: Path) -> None:
    assert np.array_equal(edgeq.load(portraits).x[0, :, 0, 0], np.arange(0, 256, 32))
    assert np.array_equal(edgeq.load(portraits, exif=False).x[0, 0, :, 0], np.arange(0, 256, 32))
    asked: dict[str, Any] = {"attacks": "noise", "runtime": "litert-reference", "n": 4}
    notes = {}
    for exif in (True, False):
        path = tmp_path / f"{exif}.sqlite"
        with edgeq.attack(str(model), portraits, run=path, exif=exif, **asked), Run.open(path) as run:
            column = run.images(np.array([0]))[0, ..., 0]
            assert np.array_equal(column[:, 0] if exif else column[0], np.arange(0, 256, 32))
            notes[exif] = "\n".join(run.meta("notes"))
    assert "4 of 4 images are turned upright, as the EXIF orientation says (--no-exif leaves them as stored)" in notes[True]
    assert "EXIF" not in notes[False]


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Twelve photographs of two classes, of which the third in the order of the sample under seed 0 is cut off."""
    for i in range(12):
        (tmp_path / f"broken/{i % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(tmp_path / f"broken/{i % 2}/{i}.png")
    third = tmp_path / "broken" / edgeq.load(tmp_path / "broken").names[2]
    third.write_bytes(third.read_bytes()[:50])
    return third


def test_an_unreadable_image_is_left_out_where_that_is_asked_for(model: Path, broken: Path, tmp_path: Path) -> None:
    folder, name = f"folder:{tmp_path / 'broken'}", f"{broken.parent.name}/{broken.name}"
    for refused in (lambda: edgeq.load(folder, n=5), lambda: edgeq.attack(str(model), folder, "noise", n=5)):
        with pytest.raises(EdgeqError, match=f"{name}: is not an image that can be read .*--skip-unreadable"):
            refused()
    loaded = edgeq.load(folder, n=5, skip_unreadable=True)
    assert name not in loaded.names
    assert len(loaded) == 5

    asked: dict[str, Any] = {"runtime": "litert-reference", "n": 5, "skip_unreadable": True}
    with edgeq.attack(str(model), folder, "noise", run=tmp_path / "a.sqlite", **asked) as result:
        document = result.to_json()
        rows = {row[7] for row in result.rows()}
    assert rows == set(loaded.names)
    assert (document["unreadable"], document["plan"]["skip_unreadable"], document["run"]["n"]) == ([name], True, 5)
    assert any("1 image that cannot be read is left out" in note and name in note for note in document["notes"])

    # mended meanwhile, it stays left out of a run that began without it
    plan = Plan((str(model),), folder, runtimes=("litert-reference",), attacks=("noise",), n=5, skip_unreadable=True)
    setting = prepare(plan)
    assert any("5 images, 1 unreadable left out, seed 0" in line for line, _ in words.plan(setting, tmp_path / "b.sqlite"))
    setting.create(tmp_path / "b.sqlite", []).close()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(broken)
    assert {row[7] for row in edgeq.resume(tmp_path / "b.sqlite").rows()} == rows


def test_comparisons_and_alignments_leave_them_out_too(model: Path, broken: Path, tmp_path: Path) -> None:
    name = f"{broken.parent.name}/{broken.name}"
    asked: dict[str, Any] = {"data": f"folder:{tmp_path / 'broken'}", "n": 5, "skip_unreadable": True}
    compared = edgeq.compare(model, runtimes=("litert-reference", "litert-builtin"), inside=0, eps="16/255", **asked)
    aligned = edgeq.align(model, estimates=("spsa:pairs=2", "coordinate:pixels=2"), access="scores", eps=("16/255",), **asked)
    for found in (compared, aligned):
        assert (found.n, found.to_json()["unreadable"]) == (5, [name])


def test_images_are_named_by_the_caller_or_by_the_files_own_sidecar(model: Path, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"runtime": "litert-reference", "n": 3, "eps": "16/255"}
    two: dict[str, Any] = {"runtimes": ("litert-reference", "litert-builtin"), "inside": 0, "n": 3}
    for begin in (
        lambda: edgeq.attack(str(model), attacks="noise", **asked),
        lambda: edgeq.compare(model, **two),
        lambda: edgeq.align(model),
    ):
        with pytest.raises(EdgeqError, match=r"model.tflite: no sidecar says which images it is for; pass --data with them: digits, "):
            begin()
    with pytest.raises(EdgeqError, match="resnet8 has no images of its own"):
        edgeq.train("resnet8")
    with pytest.raises(EdgeqError, match="there is no such file"):
        edgeq.attack("none.tflite")

    beside, other = model.with_name("model.edgeq.json"), model.with_name("other.tflite")
    beside.write_text(json.dumps({"data": "digits:download"}))
    heard = Heard()
    with edgeq.attack(str(model), attacks="noise", reporter=heard, **asked) as result:
        assert result.to_json()["plan"]["data"] == "digits"  # and nothing is downloaded because a file says so
    assert "data: digits, as model.edgeq.json says (--data names others)" in heard.said
    assert edgeq.compare(model, **two).data == "digits"
    other.write_bytes(model.read_bytes())
    other.with_name("other.edgeq.json").write_text(json.dumps({"data": "svhn:here"}))
    with pytest.raises(EdgeqError, match=r"model.edgeq.json names the images digits, and other.edgeq.json svhn:here; pass --data"):
        edgeq.compare(model, other, **two)
    for outside in ("folder:/", "zip:../../photos.zip", "/"):
        beside.write_text(json.dumps({"data": outside}))
        with pytest.raises(EdgeqError, match=r"model.edgeq.json: names images outside of its folder .* pass --data"):
            edgeq.attack(str(model), attacks="noise", **asked)
    beside.write_text(json.dumps({"data": ["digits"]}))
    with pytest.raises(EdgeqError, match="no sidecar says"):
        edgeq.attack(str(model), attacks="noise", **asked)


class Heard(Silent):
    """All sentences that are said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str, style: str = "") -> None:
        self.said.append(sentence.strip())
