"""A network that normalises its own pixels: its graph says so, they go in as they are, and doing it twice is warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.build.export import export
from edgeq.core.reporter import Silent
from edgeq.keras import engine
from edgeq.keras.load import load
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tf_keras") and engine.tensorflow()
PACKAGES = {"Keras 2": tf.keras, "Keras 3": engine.need("keras")}
OWN = "the network normalises its own input (Rescaling 1/127.5, offset -1)"


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str, style: str = "") -> None:
        self.said.append(style + sentence)


def network(k, *layers, channels=1):
    body = [k.layers.Conv2D(4, 3, activation="relu"), k.layers.Flatten(), k.layers.Dense(10, activation="softmax")]
    return k.Sequential([k.layers.Input((8, 8, channels)), *layers, *body])


def imagenet(k):
    return [k.layers.Rescaling(1 / 255), k.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.229**2, 0.224**2, 0.225**2])]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("layers", "channels", "words", "preprocess"),
    [
        (lambda k: [k.layers.RandomFlip(), k.layers.Rescaling(1 / 127.5, -1)], 1, OWN, "mean=0,std=1"),
        (imagenet, 3, "(Rescaling 1/58.395, 1/57.12, 1/57.375, offset -2.1179, -2.03571, -1.80444)", "mean=0,std=1"),
        (lambda k: [k.layers.Rescaling(2.0, -1)], 1, "(Rescaling 2, offset -1)", None),  # of pixels that are 0..1 already
        (lambda k: [], 1, "None", None),
    ],
)
def test_it_is_read_off_the_graph(tmp_path: Path, package, layers, channels, words, preprocess) -> None:
    k = PACKAGES[package]
    network(k, *layers(k), channels=channels).save(tmp_path / "m.keras")
    read = load(tmp_path / "m.keras")
    assert words in str(read.normalised)
    assert read.preprocess == preprocess


def test_pixels_go_in_as_they_are_unless_someone_says_otherwise(tmp_path: Path) -> None:
    model, path = network(tf.keras, tf.keras.layers.Rescaling(1 / 127.5, -1)), tmp_path / "own.keras"
    model.save(path)
    asked = {"data": "digits", "n": 4, "attacks": ("fgsm",)}
    notes = prepare(Plan((str(path),), **asked)).notes
    assert f"{OWN}; pixels 0..255 go in as they are" in notes
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    with edgeq.open(path) as target:
        kept = target.answer(images).values()
        wanted = load(path).logits(tf.constant(images.astype(np.float32)))
        np.testing.assert_allclose(kept, wanted, atol=1e-4)
    twice = prepare(Plan((str(path),), **asked, preprocess="mean=127.5,std=127.5")).notes
    warned = "and pixels are normalised with mean 127.5 and std 127.5 before; pass --preprocess mean=0,std=1 to have it done once"
    assert f"warning: {OWN}, {warned}" in twice
    heard = Heard()
    export(path, tmp_path / "out", calibrate="digits", n=20, formats=("tflite",), layers=1, reporter=heard)
    assert f"{OWN}; pixels 0..255 go in as they are" in heard.said
    tflite = tmp_path / "out" / "own.tflite"
    (tmp_path / "out" / "own.edgeq.json").unlink()
    lent = prepare(Plan((str(tflite),), sources=(str(path),), **asked)).notes
    assert any(note.startswith("own.keras takes pixels as 0..255, as stated: mean=0,std=1") for note in lent)
