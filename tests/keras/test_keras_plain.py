"""Networks as users of Keras 2 and 3 write them, snapped for every runtime: their pixels' normalisation folded, and one proven function."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from random_graphs import TFLITE, interpret

import edgeq
from edgeq import data
from edgeq.build.export import export
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Silent
from edgeq.integer import portable
from edgeq.integer.read import graph
from edgeq.keras import engine
from edgeq.keras.load import load
from edgeq.keras.plain import plain
from edgeq.measure.inspection import inspect

pytest.importorskip("tensorflow_model_optimization")
pytest.importorskip("onnxruntime")
pytest.importorskip("tflite_micro")
tf = pytest.importorskip("tf_keras") and engine.tensorflow()

pytestmark = pytest.mark.tensorflow
PACKAGES = {"Keras 2": tf.keras, "Keras 3": engine.need("keras")}


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str, style: str = "") -> None:
        self.said.append(sentence)


PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3)).astype(np.float32)


def users(k, scale, offset, padding):
    """A network in a network, augmentation, fused activations, normalisation before and behind a ReLU, dropout, a softmax of its own."""
    base = [k.layers.Input((12, 12, 3)), k.layers.Conv2D(6, 3, padding=padding, activation="relu"), k.layers.Conv2D(6, 3, use_bias=False)]
    base = k.Sequential([*base, k.layers.BatchNormalization(), k.layers.ReLU(6.0), k.layers.MaxPooling2D(2)])
    x = given = k.layers.Input((12, 12, 3))
    x = base(k.layers.Rescaling(scale, offset)(k.layers.RandomFlip()(x)))
    x = k.layers.Activation("relu")(k.layers.Add()([x, k.layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)]))
    x = k.layers.Dropout(0.3)(k.layers.GlobalAveragePooling2D()(k.layers.BatchNormalization()(x)))
    model = k.Model(given, k.layers.Softmax()(k.layers.Dense(5)(x)))
    rng = np.random.default_rng(0)  # averages and gains as after training
    model.set_weights([np.abs(w) + rng.uniform(0.5, 1, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
    return model


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("scale", "offset", "padding", "zero"), [(1 / 255, 0.0, "same", 0), (1 / 127.5, -1.0, "valid", 0), (0.01, -1.2, "same", 120)]
)
def test_the_plain_form_is_the_same_function_of_whole_pixels(package, scale, offset, padding, zero) -> None:
    model = users(PACKAGES[package], scale, offset, padding)
    form = plain(model, Path("x"), np.full(3, 2.0), np.zeros(3))
    assert (form.zero, form.exact) == (zero // 2, True)
    assert form.folded
    wanted = np.log(np.asarray(model(2 * PIXELS, training=False)))
    got = np.log(form.model(PIXELS - form.zero, training=False).numpy())
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(got, wanted, atol=2e-4)
    kinds = {type(layer).__name__ for layer in form.model.layers}
    assert not kinds & {"Rescaling", "RandomFlip", "Sequential", "Dropout", "Functional"}


def test_a_zero_between_two_pixels_is_said() -> None:
    form = plain(users(tf.keras, 1 / 127.5, -1.0, "same"), Path("x"), np.ones(3), np.zeros(3))
    assert form.zero in (127, 128)
    assert not form.exact
    assert f"pad with the pixel {form.zero}, the nearest" in form.sentences[1]


def dense(k, *layers):
    return k.Sequential([k.layers.Input((12, 12, 3)), *layers, k.layers.Flatten(), k.layers.Dense(4)])


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (lambda k: [k.layers.Conv2D(3, 3, activation="tanh")], "has the activation tanh, which has no portable form"),
        (lambda k: [k.layers.Conv2D(3, 3), k.layers.Conv2D(3, 3)], "takes the sums of another layer with weights, with no ReLU"),
        (lambda k: [k.layers.Conv2D(3, 3, activation="relu"), k.layers.Rescaling(2.0)], "normalises what other layers computed"),
        (lambda k: [k.layers.UpSampling2D()], "is of the kind UpSampling2D, which has no portable form"),
        (
            lambda k: [k.layers.Conv2D(3, 3, activation="relu"), k.layers.BatchNormalization(), k.layers.Conv2D(3, 3, padding="same")],
            "pads what batch normalisation behind a ReLU shifted",
        ),
    ],
)
def test_what_has_no_portable_form_is_named(package, layers, words) -> None:
    k = PACKAGES[package]
    with pytest.raises(EdgeqError, match=rf"^x: its layer \w+ {words}.*--portable cannot snap it"):
        plain(dense(k, *layers(k)), Path("x"), np.ones(3), np.zeros(3))


@pytest.mark.parametrize("package", PACKAGES)
def test_normalised_inputs_are_exported_as_one_function_of_bytes(tmp_path, package) -> None:
    k, digits = PACKAGES[package], data.open("digits", "train")
    images = np.stack([digits.image(i) for i in range(len(digits))])
    layers = [k.layers.Conv2D(8, 3, padding="same", activation="relu"), k.layers.MaxPooling2D(), k.layers.Flatten()]
    model = k.Sequential(
        [k.layers.Input((8, 8, 1)), *layers, k.layers.Dense(32, activation="relu"), k.layers.Dense(10, activation="softmax")]
    )
    model.compile(k.optimizers.Adam(0.005), k.losses.SparseCategoricalCrossentropy())
    model.fit((images.astype(np.float32) - 100) / 50, digits.labels, epochs=4, verbose=0)
    model.save(tmp_path / "float.keras")
    heard = Heard()
    exported = export(
        tmp_path / "float.keras", tmp_path, portable=True, calibrate="digits", preprocess="mean=100,std=50", n=300, layers=4, reporter=heard
    )
    assert "the normalisation of the pixels is folded into the first layer: the files take pixels as bytes" in heard.said
    content = json.loads((tmp_path / "float-portable.edgeq.json").read_text())
    assert content["preprocess"] == "none,bytes"
    assert content["source"]["preprocess"] == "none,mean=100,std=50"
    assert content["signature"]["input"] == {"shape": [8, 8, 1], "dtype": "int8", "scale": 1.0, "zero": -28}
    file = tmp_path / "float-portable.tflite"
    assert portable.prove(graph(file)).holds
    accuracy = {line.name: line.accuracy[0] for line in exported.measured.fidelity.runtimes}
    assert accuracy["keras-float"] > 0.9
    assert abs(accuracy["keras-float"] - accuracy["tflm"]) <= 0.03
    codes = (images[:64].astype(int) - 128).astype(np.int8)
    answers = [interpret(name, file.read_bytes(), codes) for name in TFLITE]
    answers.append(interpret("ort", file.with_suffix(".onnx").read_bytes(), codes))
    for other in answers[1:]:
        np.testing.assert_array_equal(other, answers[0])


@pytest.mark.parametrize("package", PACKAGES)
def test_one_sigmoid_is_two_classes_from_the_network_to_its_files(tmp_path, package) -> None:
    """Attacked and exported both ways; what the sidecar says of the portable file's single logit is believed."""
    k, rng = PACKAGES[package], np.random.default_rng(0)
    layers = [k.layers.Conv2D(8, 3, activation="relu"), k.layers.Flatten(), k.layers.Dense(8, activation="relu")]
    model = k.Sequential([k.layers.Input((8, 8, 1)), k.layers.Rescaling(1 / 255), *layers, k.layers.Dense(1, activation="sigmoid")])
    images, labels = rng.integers(0, 200, (400, 8, 8, 1)).astype(np.float32), np.arange(400) % 2
    images[labels == 1, :, :4] += 40
    model.compile(k.optimizers.Adam(0.01), k.losses.BinaryCrossentropy())
    model.fit(images, labels, epochs=8, verbose=0)
    for i in range(240):
        place = tmp_path / "photos" / ("train", "test")[i % 3 == 0] / ("cat", "dog")[labels[i]]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, ..., 0].astype(np.uint8)).save(place / f"{i}.png")
    path, photos = tmp_path / "two.keras", f"folder:{tmp_path / 'photos'}"
    model.save(path)
    network = load(path)
    assert (network.signature.kind, network.signature.output.shape, network.signature.classes) == ("probs", (1,), 2)
    p = np.asarray(network.function(tf.constant(images)))[:, 0]
    np.testing.assert_allclose(np.asarray(network.logits(tf.constant(images)))[:, 0], np.log(p / (1 - p)), rtol=1e-3, atol=1e-3)

    given = {"calibrate": photos, "preprocess": "mean=0,std=1", "n": 80, "layers": 2}
    export(path, tmp_path, **given)
    export(path, tmp_path, portable=True, **given)
    for stem, kind in (("two", "probs"), ("two-portable", "logits")):
        content = json.loads((tmp_path / f"{stem}.edgeq.json").read_text())
        assert (content["signature"]["kind"], content["signature"]["output"]["shape"], content["labels"]) == (kind, [1], ["cat", "dog"])
        right = {line["runtime"]: line["accuracy"][0] for line in content["fidelity"]["runtimes"]}
        assert min(right.values()) > 0.85, right
        assert inspect(tmp_path / f"{stem}.tflite").reading.startswith(f"{kind}, one score of two classes: class 1 has")
    assert portable.prove(graph(tmp_path / "two-portable.tflite")).holds

    options = {"n": 24, "eps": "48/255", "attacks": "pgd:steps=6", "runtime": "litert-xnnpack", "replay": ["tflm"]}
    targets = [(path, (), {"runtime": None, "replay": None, "preprocess": "mean=0,std=1"}), (tmp_path / "two.tflite", (), {})]
    targets += [(tmp_path / "two.tflite", path, {}), (tmp_path / "two-portable.tflite", (), {})]
    for target, source, more in targets:
        with edgeq.attack(target, photos, source=source, **{**options, **more}) as result:
            figures = result["pgd", "48/255"]
            assert figures.robust_accuracy < figures.clean_accuracy - 0.3, target
