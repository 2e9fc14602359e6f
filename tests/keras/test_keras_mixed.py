"""Networks of mixed precision: float32 weights, so they are computed, differentiated and exported in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.build.export import export
from edgeq.keras import engine
from edgeq.keras.load import load
from edgeq.keras.source import PIXELS, KerasSource

pytestmark = pytest.mark.tensorflow
tf = pytest.importorskip("tf_keras") and engine.tensorflow()
PACKAGES = {"Keras 2": tf.keras, "Keras 3": engine.need("keras")}


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(("policy", "last"), [("mixed_float16", "float32"), ("mixed_bfloat16", None)])
def test_mixed_precision_is_computed_in_float32(tmp_path: Path, package, policy, last) -> None:
    k, path = PACKAGES[package], tmp_path / "m.keras"
    k.mixed_precision.set_global_policy(policy)
    try:
        layers = [k.layers.Rescaling(1 / 255), k.layers.Conv2D(4, 3, activation="swish"), k.layers.BatchNormalization(), k.layers.Flatten()]
        model = k.Sequential([k.layers.Input((8, 8, 1)), *layers, k.layers.Dense(10, activation="softmax", dtype=last)])
    finally:
        k.mixed_precision.set_global_policy("float32")
    model.save(path)
    network = load(path)
    assert f"in {policy}, computed in float32" in network.form
    assert not [op for op in network.frozen.graph.get_operations() if op.type == "Cast"]
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1)).astype(np.float32)
    wanted = np.asarray(tf.cast(model(x), tf.float32))
    np.testing.assert_allclose(network.function(tf.constant(x)), wanted, atol=0.02)  # 16 bits against 32
    _, pullback = KerasSource(network, PIXELS[:, :1], 4).logits(x / 255)
    assert pullback(np.eye(10, dtype=np.float32)[[1, 2, 3, 4]]).any(axis=(1, 2, 3)).all()
    if last and package == "Keras 3":
        exported = export(path, tmp_path / "out", calibrate="digits", n=20, formats=("tflite",), layers=0)
        assert {line.name: line.reason for line in exported.measured.fidelity.runtimes}["litert-xnnpack"] == ""
