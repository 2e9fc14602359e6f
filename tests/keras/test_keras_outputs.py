"""Of a network with several outputs, one is named; of one that returns a bare logit, that it is one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.build.export import export
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.keras import engine
from edgeq.keras.load import load

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tf_keras") and engine.tensorflow()
PACKAGES = {"Keras 2": tf.keras, "Keras 3": engine.need("keras")}


def network(k):
    given = k.layers.Input((8, 8, 1))
    x = k.layers.Flatten()(k.layers.Conv2D(4, 3, activation="relu")(k.layers.Rescaling(1 / 255)(given)))
    x = k.layers.Dense(16, activation="relu")(x)
    return k.Model(given, [k.layers.Dense(4, name="box")(x), k.layers.Dense(10, activation="softmax", name="digit")(x)])


@pytest.mark.parametrize("package", PACKAGES)
def test_one_of_several_outputs_is_named(tmp_path: Path, package) -> None:
    model, path = network(PACKAGES[package]), tmp_path / "two.keras"
    model.save(path)
    with pytest.raises(EdgeqError, match=r"it has 2 outputs \(box, digit\); name the one that classifies: --output box \(of"):
        load(path)
    with pytest.raises(EdgeqError, match=r"it has 2 outputs \(box, digit\) and none called digits; name the one"):
        load(path, "digits")
    named = load(path, "digit")
    x = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(named.function(tf.constant(x)), model(x)[1], atol=1e-6)
    assert (named.signature.kind, named.signature.output.name) == ("probs", "digit")
    assert Signature.from_json(json.loads(json.dumps(named.signature.to_json()))) == named.signature
    if package == "Keras 2":
        return
    options = {"n": 20, "calibrate": "digits", "output_name": "digit", "layers": 0, "formats": ("tflite",)}
    for portable in (False, True):
        kind = export(path, tmp_path, portable=portable, **options).measured.signature
        assert kind.output.shape == (10,)
    attack = {"data": "digits", "attacks": "fgsm", "n": 6, "output": "digit", "eps": "8/255"}
    images = attack.pop("data")
    with edgeq.attack(path, images, **attack) as alone, edgeq.attack(tmp_path / "two.tflite", images, source=path, **attack) as lent:
        assert alone.finished
        assert lent.finished
        edgeq.resume(lent.path)  # reads what the run file says of its targets, and opens them as it says
    with pytest.raises(EdgeqError, match="--output digit: choose one of probs, logits, label; outputs are named of"):
        edgeq.attack(tmp_path / "two.tflite", images, **attack)


def test_one_output_has_no_other_name_and_a_bare_logit_is_said(tmp_path: Path) -> None:
    k = tf.keras
    given = k.layers.Input((8, 8, 1))
    k.Model(given, k.layers.Dense(1, name="cat")(k.layers.Flatten()(given))).save(tmp_path / "one.keras")
    with pytest.raises(EdgeqError, match="has one output, so there is none called dog; leave the name out"):
        load(tmp_path / "one.keras", "dog")
    with pytest.raises(EdgeqError, match="no sigmoid makes it; pass --output logits if that is the logit of class 1"):
        load(tmp_path / "one.keras", "cat")
    with edgeq.open(tmp_path / "one.keras", output="logits", preprocess="mean=0,std=255") as target:
        images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
        answer = target.answer(images)
    np.testing.assert_array_equal(answer.label(), answer.raw[:, 0] > 0)


def test_the_named_output_is_differentiated_in_smaller_batches_too(tmp_path, monkeypatch) -> None:
    """As of a slow network, whose gradients are taken of fewer rows at once."""
    keras = engine.tensorflow().keras
    given = keras.layers.Input((8, 8, 1))
    flat = keras.layers.Flatten()(given)
    keras.Model(given, [keras.layers.Dense(10, name="digit")(flat), keras.layers.Dense(4, name="other")(flat)]).save(tmp_path / "two.keras")
    monkeypatch.setattr("edgeq.runs.estimate._gradient_seconds", lambda source, images: source.batch)
    images = edgeq.Images(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8), np.arange(4))
    options = {"preprocess": "mean=0,std=255", "access": "gradients", "run": tmp_path / "r.sqlite"}
    with edgeq.attack(tmp_path / "two.keras", images, "pgd:steps=2", eps="4/255", output="digit", **options) as result:
        assert result.to_json()["gradient_batch"] < 128
