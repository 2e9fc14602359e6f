"""The networks are the published ones, training repeats under its seed, and what is saved comes back as it was."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edgeq import data
from edgeq.core.errors import EdgeqError
from edgeq.keras import engine, train
from edgeq.keras.load import load
from edgeq.keras.source import PIXELS, KerasSource

pytest.importorskip("tf_keras")
pytestmark = pytest.mark.tensorflow
RESNET = Path(__file__).parents[3] / "shared" / "models" / "pretrainedResnet.h5"


@pytest.mark.parametrize(("which", "quantised"), [("keras", False), ("qat", True)])
def test_digits_networks_are_right_and_say_so_truly(digits_models, which, quantised) -> None:
    path = getattr(digits_models, which)
    dataset = data.open("digits")
    images = np.stack([dataset.image(i) for i in range(len(dataset))])
    network = load(path)
    right = (KerasSource(network, PIXELS[:, :1]).answer(images).label() == dataset.labels).mean()
    said = json.loads(path.with_name(path.name + ".edgeq.json").read_text())
    assert right > 0.97
    assert said["test"]["accuracy"] == pytest.approx(right)
    assert said["preprocess"] == "none,mean=0,std=1"
    assert said["labels"] == list("0123456789")
    assert network.quantised == quantised


def test_h5_and_keras_files_hold_one_network(digits_models) -> None:
    x = engine.tensorflow().constant(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1)).astype(np.float32))
    assert np.array_equal(load(digits_models.keras).function(x), load(digits_models.h5).function(x))


def brief(seed: int):
    dataset = data.open("digits", split="train")
    images = np.stack([dataset.image(i) for i in range(120)])
    model = train.network("digits_cnn", 0.25, 10, (8, 8, 1), seed)
    train.fit(model, images, dataset.labels[:120], train.Fit(epochs=2), seed)
    return model.get_weights()


def test_training_repeats_under_its_seed() -> None:
    first, again, other = brief(1), brief(1), brief(2)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_quantisers_start_at_the_range_of_the_data(digits_models) -> None:
    from edgeq.keras.load import keras_model

    dataset = data.open("digits", split="train")
    images = np.stack([dataset.image(i) for i in range(300)])
    model = keras_model(digits_models.keras)[1]
    quantised = train.quantise(model, images, 0)
    wanted = [layer.output for layer in model.layers if "re_lu" in layer.name]
    reached = engine.tensorflow().keras.Model(model.input, wanted)(images.astype(np.float32))
    ranges = {w.name: float(w.numpy()) for w in quantised.weights if "re_lu" in w.name and "output_m" in w.name}
    lows, highs = ([v for k, v in ranges.items() if word in k] for word in ("_min", "_max"))
    assert lows == pytest.approx([0, 0], abs=1e-3)
    # batch statistics instead of the moving ones make them differ a little; TF-MOT's own start is 6
    assert highs == pytest.approx([float(r.numpy().max()) for r in reached], rel=0.2)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        # 3x3 convolutions without bias, 4 numbers of batch normalisation a channel, two dense layers, a softmax layer
        ("b19_cifar10", 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 256 + 256 * 512 + 512 * 512) + 4 * (128 * 2 + 256 * 2 + 512 * 2)),
        ("b19_svhn", 9 * (3 * 128 + 128 * 128 + 128 * 256 + 256 * 128 + 128 * 512 + 512 * 512) + 4 * (128 * 3 + 256 + 512 * 2)),
    ],
)
def test_b19_networks_have_table_8s_weights(name, weights) -> None:
    model = train.network(name, 1.0, 10, (32, 32, 3), 0)
    dense = 4 * 4 * 512 * 1024 + 4 * 1024 + 1024 * 1024 + 4 * 1024 + 1024 * 10 + 10
    assert model.count_params() == weights + dense
    assert model.output_shape == (None, 10)


def test_pooling_last_is_the_same_function() -> None:
    rng = np.random.default_rng(0)
    model = train.network("b19_cifar10", 0.05, 10, (16, 16, 3), 0)
    model.set_weights([rng.random(w.shape).astype(np.float32) - (0 if "gamma" in v.name or "variance" in v.name else 0.5)
                       for w, v in zip(model.get_weights(), model.weights, strict=True)])  # fmt: skip
    twin = train.foldable(model, "b19_cifar10", 0.05, 10, (16, 16, 3))
    x = rng.integers(0, 256, (6, 16, 16, 3)).astype(np.float32)
    kinds = [type(layer).__name__ for layer in twin.layers]
    assert kinds.index("MaxPooling2D") > kinds.index("BatchNormalization") + 2
    assert np.ptp(model(x, training=False)) > 1e-3
    assert np.allclose(model(x, training=False), twin(x, training=False), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["b19_cifar10", "b19_svhn", "resnet8", "digits_cnn"])
def test_every_network_takes_tf_mots_int8_scheme(name) -> None:
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
    model = train.network(name, 0.1, 4, (16, 16, 3), 0)
    quantised = train.quantise(train.foldable(model, name, 0.1, 4, (16, 16, 3)), images, 0)
    low, high = (next(w for w in quantised.layers[1].weights if w.name.endswith(f"_{end}:0")) for end in ("min", "max"))
    assert (float(low.numpy()), float(high.numpy())) == (0, 255)
    assert quantised(images.astype(np.float32)).shape == (16, 4)


def test_what_cannot_be_built_is_said(tmp_path) -> None:
    with pytest.raises(EdgeqError, match="did you mean resnet8"):
        train.network("resnet9", 1.0, 10, (32, 32, 3), 0)
    with pytest.raises(EdgeqError, match="cannot be built"):
        train.network("b19_svhn", 1.0, 10, (4, 4, 3), 0)


def test_weights_of_another_network_are_refused(digits_models) -> None:
    with pytest.raises(EdgeqError, match="not those of"):
        train.copy_weights(train.network("digits_cnn", 2.0, 10, (8, 8, 1), 0), digits_models.keras)


@pytest.mark.shared
@pytest.mark.skipif(not RESNET.is_file(), reason="../shared/models is not here")
def test_resnet8_is_mlperf_tinys_layer_by_layer() -> None:
    from edgeq.keras.load import keras_model

    theirs = keras_model(RESNET)[1]
    ours = train.network("resnet8", 1.0, 10, (32, 32, 3), 0)
    keys = ("filters", "kernel_size", "strides", "padding", "activation", "pool_size", "units", "epsilon", "momentum", "use_bias")

    def described(model):
        return [
            (type(v).__name__, v.output_shape[-3:], {k: v.get_config()[k] for k in keys if k in v.get_config()}) for v in model.layers[1:]
        ]

    assert described(ours) == described(theirs)
    train.copy_weights(ours, RESNET)
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(ours(x, training=False), theirs(x, training=False))


def test_a_network_that_tensorflow_fuses_when_frozen_reloads_to_the_same_answers(tmp_path):
    from edgeq.keras import train

    images = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)
    model = train.network("resnet8", 1.0, 10, (32, 32, 3), 0)
    train.fit(model, images, np.arange(64) % 10, train.Fit(epochs=1, batch=32), 0)
    assert train.save(model, tmp_path / "resnet8.keras", images).signature.classes == 10


def test_code_that_tensorflow_generates_is_swept(tmp_path, monkeypatch) -> None:
    """A process that is killed leaves what AutoGraph wrote in a scratch folder, which the next start removes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tf = engine.tensorflow()
    with engine.generated():

        @tf.function
        def positive(x):
            return x if x > 0 else -x

        assert int(positive(tf.constant(-1))) == 1
        assert [f.name.startswith(".edgeq-scratch-") for f in tmp_path.iterdir()] == [True]
        assert list(next(tmp_path.iterdir()).glob("*.py"))
    assert not list(tmp_path.iterdir())
    assert tempfile.gettempdir() == str(tmp_path)
