"""The example of the front page: candidates of a float network and of queries, on the deployed file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_tflite

import edgeq

pytestmark = pytest.mark.tensorflow


def test_a_source_lends_its_gradients_and_the_target_is_what_is_measured(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    net = tf_keras.Sequential([tf_keras.layers.Flatten(input_shape=(8, 8, 1)), tf_keras.layers.Dense(10, activation="softmax")])
    net.set_weights([np.random.default_rng(0).normal(size=w.shape) for w in net.get_weights()])
    net.save(tmp_path / "float.h5")
    (tmp_path / "model.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    with edgeq.open(tmp_path / "model.tflite", runtime="litert-xnnpack") as target:
        images = edgeq.load("digits", like=target, n=12)
        attacks = ["pgd:steps=3", "spsa:steps=2:batch=8"]
        source, run = tmp_path / "float.h5", tmp_path / "r.sqlite"
        result = edgeq.attack(target, images, attacks, eps="24/255", source=source, replay=["litert-reference"], run=run)
    made_on = {"pgd": "float/keras", "spsa": "model/litert-xnnpack"}
    for attack, on in made_on.items():
        found = result[attack, "24/255"]
        assert (found.target, found.cell.crafted_on, found.n) == ("model/litert-xnnpack", on, 12)
        assert result[attack, "24/255", "litert-reference"].target == "model/litert-reference"
    assert result["pgd", "24/255", "keras"].target == "float/keras"
    with edgeq.open(tmp_path / "float.h5", preprocess="mean=0,std=255") as network:
        assert (network.spec.runtime, network.answer(images.x).raw.shape) == ("keras", (12, 10))
        own = edgeq.attack(network, images, "pgd:steps=3", eps="24/255")
    assert own["pgd", "24/255"].cell.crafted_on == own["pgd", "24/255"].target == "float/keras"
