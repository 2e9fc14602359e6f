"""Each quantiser is its paper's formula, forward and backward; networks around them train, fail with a sentence, and come back exactly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq import data
from edgeq.core.errors import EdgeqError
from edgeq.keras import engine, train
from edgeq.keras.load import concrete, freeze, load
from edgeq.keras.quantizers import known, parse

pytest.importorskip("tensorflow_model_optimization")
pytestmark = pytest.mark.tensorflow
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def tf():
    return engine.tensorflow()


def layer_of(quantizer, shape, **values):
    """The quantiser's variables on a bare layer, with ``values`` in them."""
    layer = engine.tensorflow().keras.layers.Layer()
    variables = quantizer.build(shape, "x", layer)
    for name, value in values.items():
        variables[name].assign(np.reshape(np.float32(value), variables[name].shape))
    return variables


def value_and_gradients(tf, quantizer, x, variables):
    x = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = quantizer(x, True, weights=variables)
    wanted = [x, *(v for v in variables.values() if v.trainable)]
    return [y.numpy(), *(g.numpy() for g in tape.gradient(y, wanted))]


# ---- formulas, on values worked out by hand


def test_lsq_weights(tf) -> None:
    from edgeq.keras.quantizers.lsq import LSQ

    x = np.float32([-9.0, -1.3, -0.2, 0.3, 0.7, 2.0])  # in steps of 0.5: -18, -2.6, -0.4, 0.6, 1.4, 4
    q = LSQ(3)
    y, dx, ds = value_and_gradients(tf, q, x, layer_of(q, x.shape, start=0.5))
    assert y.tolist() == [-2, -1.5, 0, 0.5, 0.5, 1.5]
    assert dx.tolist() == [0, 1, 1, 1, 1, 0]
    g = 1 / np.sqrt(6 * 3)  # N weights, Qp = 3
    by_hand = g * (-4 + (-3 + 2.6) + (0 + 0.4) + (1 - 0.6) + (1 - 1.4) + 3)
    assert ds == pytest.approx(0.5 * by_hand, rel=1e-5)  # the step is start * gain


def test_lsq_activations_count_the_features_of_one_image(tf) -> None:
    from edgeq.keras.quantizers.lsq import plugin

    x = np.float32([[0.0, 0.3, 5.0], [0.6, 0.2, 1.0]])
    q = plugin.activations(2)
    y, dx, ds = value_and_gradients(tf, q, x, layer_of(q, x.shape, start=0.5))
    assert np.array_equal(y, np.float32([[0, 0.5, 1.5], [0.5, 0, 1]]))
    assert dx.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert ds == pytest.approx(0.5 / np.sqrt(3 * 3) * (0 + (1 - 0.6) + 3 + (1 - 1.2) + (0 - 0.4) + 0), rel=1e-5)


def test_pact(tf) -> None:
    from edgeq.keras.quantizers.pact import plugin

    x = np.float32([-1.0, 0.4, 1.4, 2.9, 3.5, 8.0])
    q = plugin.activations(2)
    y, dx, da = value_and_gradients(tf, q, x, layer_of(q, x.shape, start=3.0))
    assert y.tolist() == [0, 0, 1, 3, 3, 3]
    assert dx.tolist() == [0, 1, 1, 1, 0, 0]
    assert da == pytest.approx(3.0 * 2)  # 1 for each of the two beyond the clip; alpha = start * gain


def test_portable_steps_are_powers_of_two_and_halves_go_up(tf) -> None:
    from edgeq.keras.quantizers import portable

    x = np.float32([-40.0, -2.5, -0.25, 0.25, 1.0, 1.25])  # in steps of 0.5: -80, -5, -0.5, 0.5, 2, 2.5
    q = portable.plugin.weights(6, None)
    variables = layer_of(q, x.shape, start=0.4)  # rounded to 2^-1
    assert q.step(variables) == 0.5
    y, dx, _ = value_and_gradients(tf, q, x, variables)
    assert y.tolist() == [-15.5, -2.5, 0, 0.5, 1, 1.5]
    assert dx.tolist() == [0, 1, 1, 1, 1, 1]
    q = portable.plugin.weights(6, -1)
    variables = layer_of(q, (3, 3, 2, 4), start=[0.1, 0.2, 0.5, 0.7], gain=np.float32([1, 1, 1, 1.1]))
    assert q.step(variables).tolist() == [0.125, 0.25, 0.5, 1]
    assert (q.low, q.high, portable.plugin.activations(8).high, portable.plugin.branches(7).low) == (-31, 31, 255, -63)


def test_dorefa(tf) -> None:
    from edgeq.keras.quantizers.dorefa import Activations, Weights

    w = np.float32([-2.0, -0.3, 0.1, 0.5])
    t = np.tanh(w) / (2 * np.tanh(2.0)) + 0.5  # 0, .349, .552, .740
    y, dw = value_and_gradients(tf, Weights(2), w, {})
    assert y == pytest.approx(2 * np.rint(3 * t) / 3 - 1)
    assert y == pytest.approx([-1, -1 / 3, 1 / 3, 1 / 3])
    assert dw == pytest.approx((1 - np.tanh(w) ** 2) / np.tanh(2.0), rel=1e-5)
    q = Weights(2)
    layer_of(q, (3, 3, 2, 4))  # on a layer: times sqrt(6 / (9 * (2 + 4))) = 1/3
    assert q(w, True, weights={}).numpy() == pytest.approx(y / 3)
    y, dw = value_and_gradients(tf, Weights(1), w, {})
    assert y == pytest.approx([-0.725, -0.725, 0.725, 0.725])
    assert dw.tolist() == [1, 1, 1, 1]
    a, q = np.float32([-0.2, 0.1, 0.4, 0.9, 1.2]), Activations(2)
    variables = layer_of(q, (5,))
    y, da = value_and_gradients(tf, q, a, variables)
    assert y == pytest.approx([0, 0, 1 / 3, 1, 1])
    assert da.tolist() == [0, 1, 1, 1, 0]
    assert not variables["gain"].trainable
    variables["start"].assign(2.0)  # the range is a constant of the layer
    assert value_and_gradients(tf, q, a, variables)[0] == pytest.approx([0, 0, 2 / 3, 2 / 3, 4 / 3])
    q.beginning = True
    q(np.float32([0.5, 1.5, 4.0]), True, weights=variables)  # 2 * mean / sqrt(3) * 3 = 6.9: no more than the largest
    assert float(variables["start"]) == 4.0


def test_binary(tf) -> None:
    from edgeq.keras.quantizers import binaryconnect, binarynet

    x = np.float32([-1.5, -0.4, 0.0, 0.9, 1.1])
    y, dx = value_and_gradients(tf, binarynet.plugin.activations(1), x, {})
    assert y.tolist() == [-1, -1, 1, 1, 1]
    assert dx.tolist() == [0, 1, 1, 1, 0]
    q = binaryconnect.plugin.weights(1, None)
    variables = layer_of(q, (3, 3, 2, 4))
    y, dx = value_and_gradients(tf, q, x, variables)
    h = np.sqrt(1.5 / (9 * (2 + 4)))
    assert y == pytest.approx(h * np.float32([-1, -1, 1, 1, 1]))
    assert dx == pytest.approx(h * np.float32([0, 1, 1, 1, 0]))


# ---- levels


def some(name: str, bits: int, axis: int | None = None):
    from importlib import import_module

    return import_module(f"edgeq.keras.quantizers.{name}").plugin.weights(bits, axis)


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize(
    ("name", "bits", "count"),
    [("lsq", b, 2**b - (b >= 6)) for b in range(2, 9)]  # from 6 bits on symmetric
    + [("dorefa", b, 2**b) for b in range(1, 9)]
    + [("binaryconnect", 1, 2), ("binarynet", 1, 2)],
)
def test_weights_have_the_methods_levels_and_training_uses_just_them(name, bits, count, axis) -> None:
    q = some(name, bits, axis)
    w = RNG.normal(size=(3, 3, 64, 40)).astype(np.float32) * np.geomspace(0.05, 2, 40, dtype=np.float32)
    variables = layer_of(q, w.shape)
    if variables:
        variables["start"].assign(q.begin(w) * 0.3)
    codes, step = q.levels(w, variables)
    assert codes.dtype == np.int32
    assert len(np.unique(codes)) == count
    assert (codes.min(), codes.max()) == (q.low, q.high)
    assert step.shape == ((40,) if axis is not None and name in ("lsq", "dorefa") else ())
    assert np.array_equal(codes.astype(np.float32) * step, q(w, False, weights=variables))
    if name == "dorefa":
        assert (codes % 2 != 0).all()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("name", ["lsq", "pact", "dorefa"])
def test_activations_have_two_to_the_b_levels(name, bits) -> None:
    from importlib import import_module

    q = import_module(f"edgeq.keras.quantizers.{name}").plugin.activations(bits)
    x = np.linspace(-1, 4, 5000, dtype=np.float32)[None]
    variables = layer_of(q, x.shape)
    if variables:
        variables["start"].assign(q.begin(x))
    y = q(x, False, weights=variables).numpy()
    codes, step = q.levels(x, variables)
    assert np.unique(codes).tolist() == list(range(2**bits))
    assert np.array_equal(codes.astype(np.float32) * step, y)
    assert q.step(variables) == step


def test_a_step_below_its_floor_is_the_same_clamped_step_in_training_and_export(tf) -> None:
    from edgeq.keras.quantizers._base import FLOOR, bounded
    from edgeq.keras.quantizers.lsq import LSQ

    q, x = LSQ(4), RNG.normal(size=50).astype(np.float32)
    variables = layer_of(q, x.shape, start=0.5, gain=-3.0)
    codes, step = q.levels(x, variables)
    assert step == np.float32(0.5 * FLOOR)
    assert q.step(variables) == step
    assert np.array_equal(codes * step, q(x, True, weights=variables))
    assert float(bounded(variables["gain"])) == FLOOR


# ---- spelling


@pytest.mark.parametrize(
    "text",
    [
        "lsq:w4a4",
        "lsq:w2a32",
        "lsq:w3a1:channel",
        "dorefa:w1a8",
        "pact+lsq:w4a4",
        "pact+dorefa:w2a2",
        "binarynet",
        "binaryconnect",
        "tfmot:portable",
    ],
)
def test_a_schemes_spelling_comes_back(text) -> None:
    assert str(parse(text)) == text
    assert parse(str(parse("pact:w4a4"))) == parse("pact:w4a4") == parse("pact+dorefa:w4a4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lsqq:w4a4", "did you mean lsq"),
        ("lsq:w1a4", "the nearest is lsq:w2a4"),
        ("lsq:w4a12:channel", "the nearest is lsq:w4a8:channel"),
        ("dorefa:w9a32", "the nearest is dorefa:w8a32"),
        ("dorefa:w0a0", "the nearest is dorefa:w1a1"),
        ("pact:w4a32", "write dorefa:w4a32"),
        ("pact+lsq:w1a32", "write lsq:w2a32"),
        ("lsq", "write lsq:w4a4"),
        ("lsq:a4w4", "write lsq:w4a4"),
        ("lsq:w4a4:w4a4", "write lsq:w4a4"),
        ("binarynet:w2a2", "write binarynet"),
        ("tfmot:int4", "write tfmot:int8"),
        ("", "choose one of"),
    ],
)
def test_what_no_method_has_is_refused_with_the_nearest(text, said) -> None:
    with pytest.raises(EdgeqError, match=said):
        parse(text)


# ---- networks


def digits(n: int):
    dataset = data.open("digits", split="train")
    return np.stack([dataset.image(i) for i in range(n)]), dataset.labels[:n]


def test_binarynet_learns() -> None:
    from edgeq.keras.lowbit import trained

    images, labels = digits(1200)
    model = train.lower(train.network("digits_cnn", 1.0, 10, (8, 8, 1), 0), parse("binarynet"), "int8", images, 0)
    train.fit(model, images, labels, train.Fit(epochs=2), 0, check=train.watch(model, images))
    fresh_images, truth = digits(1438)
    right = (model(fresh_images[1200:].astype(np.float32)).numpy().argmax(axis=1) == truth[1200:]).mean()
    assert right > 0.5  # chance: 0.1
    assert np.unique(trained.kernel(model.layers[4]).codes).tolist() == [-1, 1]


def test_a_trained_network_reloads_bit_by_bit(low_bit_model) -> None:
    from edgeq.keras.lowbit import trained

    said = json.loads(Path(f"{low_bit_model}.edgeq.json").read_text())
    assert (said["quant"], said["ends"], said["preset"], said["epochs"], said["settled"]) == ("lsq:w3a3", "int8", None, 1, 1)
    assert said["test"]["accuracy"] > 0.9
    model, _ = train.restore(low_bit_model)
    images = RNG.integers(0, 256, (40, 8, 8, 1)).astype(np.float32)
    network = load(low_bit_model)
    # both frozen, as TensorFlow fuses layers in a frozen graph: the eager network differs in its last bits where oneDNN does
    again = freeze(low_bit_model, network.form, network.sha256, concrete(model, low_bit_model))
    image = engine.tensorflow().constant(images)
    assert np.array_equal(again.function(image), network.function(image))
    assert np.allclose(model(images, training=False), network.function(image), rtol=0, atol=1e-5)  # of probabilities
    kernels = [k for layer in model.layers if (k := trained.kernel(layer))]
    assert [k.bits for k in kernels] == [6, 3, 6]
    assert 4 < len(np.unique(kernels[1].codes)) <= 8


def test_gradients_reach_the_pixels_of_a_saved_network(tmp_path, tf) -> None:
    images, labels = digits(64)
    model = train.lower(train.network("digits_cnn", 0.5, 10, (8, 8, 1), 0), parse("lsq:w2a2"), "int8", images, 0)
    network = train.save(model, tmp_path / "net.savedmodel", images)
    x, truth, loss = tf.cast(images, tf.float32), labels.astype(np.int64), tf.nn.sparse_softmax_cross_entropy_with_logits
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        saved, here = loss(truth, network.logits(x)), tf.keras.losses.sparse_categorical_crossentropy(truth, model(x, training=False))
    assert np.abs(tape.gradient(saved, x)).max() > 1e-6
    assert tape.gradient(saved, x).numpy() == pytest.approx(tape.gradient(here, x).numpy(), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("ends", ["int8", "float"])
@pytest.mark.parametrize(("name", "kernels", "grids"), [("resnet8", 10, 7 + 3 + 1), ("b19_cifar10", 9, 8), ("digits_cnn", 3, 2)])
def test_every_network_is_quantised_where_it_should_be(name, kernels, grids, ends, tf) -> None:
    from edgeq.keras.lowbit import trained
    from edgeq.keras.lowbit.layers import WEIGHTS, QuantizedAdd

    images = RNG.integers(0, 256, (16, 16, 16, 3)).astype(np.uint8)
    floating = train.foldable(train.network(name, 0.1, 4, (16, 16, 3), 0), name, 0.1, 4, (16, 16, 3))
    model = train.lower(floating, parse("lsq:w3a3:channel"), ends, images, 0)
    held = [trained.kernel(layer) for layer in model.layers if type(trained.inner(layer)).__name__ in WEIGHTS]
    assert len(held) == kernels
    inner = [3] * (kernels - 2)
    assert [k.bits if k else 32 for k in held] == ([6, *inner, 6] if ends == "int8" else [32, *inner, 32])
    assert sum(trained.grid(layer) is not None for layer in model.layers) == grids
    outputs = tf.keras.Model(model.input, [layer.output for layer in model.layers[1:]])(images.astype(np.float32))
    for layer, out in zip(model.layers[1:], outputs, strict=True):
        if g := trained.grid(layer):
            codes = out.numpy() / g.step
            assert np.abs(codes - np.rint(codes)).max() < 1e-4, layer.name
            reach = 2 if isinstance(layer, QuantizedAdd) else 1
            assert reach * g.low <= np.rint(codes).min() < np.rint(codes).max() <= reach * g.high


def test_weights_alone_leave_activations_float(tf) -> None:
    from edgeq.keras.lowbit import trained

    images, _ = digits(64)
    floating = train.network("digits_cnn", 0.5, 10, (8, 8, 1), 0)
    model = train.lower(floating, parse("lsq:w8a32:channel"), "int8", images, 0)
    assert not any(trained.grid(layer) for layer in model.layers)
    kernels = [k for layer in model.layers if (k := trained.kernel(layer))]
    assert [k.bits for k in kernels] == [8, 8, 8]
    given = [layer.kernel.numpy() for layer in floating.layers if hasattr(layer, "kernel")]
    for k, w in zip(kernels, given, strict=True):  # the weights it started from are kept, to half a step
        assert (np.abs(k.codes * k.step - w) <= 0.501 * k.step).all()


def test_a_depthwise_kernel_has_a_step_for_each_of_its_channels(tf) -> None:
    from edgeq.keras.lowbit import trained, wrap

    layers, image = tf.keras.layers, tf.keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(layers.Conv2D(5, 3)(image))
    model = tf.keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(layers.ReLU()(x))))
    given = model.get_layer("depthwise").depthwise_kernel.numpy()
    quantised = wrap.wrap(model, parse("lsq:w4a4:channel"))
    wrap.begin(quantised, RNG.integers(0, 256, (8, 8, 8, 3)))
    k = trained.kernel(quantised.get_layer("quant_depthwise"))
    assert (k.codes.shape, k.step.shape) == ((3, 3, 5, 1), (5,))
    inside = (k.codes > -8) & (k.codes < 7)
    assert (np.abs(k.codes * k.step[:, None] - given) <= 0.501 * k.step[:, None])[inside].all()


def fresh(text: str, images):
    return train.lower(train.network("digits_cnn", 0.25, 10, (8, 8, 1), 0), parse(text), "int8", images, 0)


def test_a_dead_clip_is_said_the_second_time_or_at_the_end() -> None:
    from edgeq.keras.lowbit import trained

    images, _ = digits(64)
    model = fresh("pact:w2a2", images)
    check = train.watch(model, images)
    check(True)  # as it starts, nothing is dead
    clip = next(v for _, q, v in trained.quantizers(model) if type(q).__name__ == "PACT")
    clip["start"].assign(1e6)  # everything rounds to zero
    check(False)
    with pytest.raises(EdgeqError, match=r"re_lu\w* is dead, .* take more bits"):
        check(False)
    with pytest.raises(EdgeqError, match="is dead"):
        train.watch(model, images)(True)


@pytest.mark.parametrize(
    ("gain", "said"), [(100, "grew to 100 times its start"), (np.nan, "is not finite"), (0.0, "fell to a 64th of its start")]
)
@pytest.mark.parametrize(("quant", "what"), [("lsq:w4a4", "step"), ("pact:w4a4", "clip")])
def test_a_step_or_clip_that_runs_away_is_said(quant, what, gain, said) -> None:
    from edgeq.keras.lowbit import trained

    images, _ = digits(64)
    model = fresh(quant, images)
    trained.quantizers(model)[1][2]["gain"].assign(gain)
    with pytest.raises(EdgeqError, match=rf"the training failed: re_lu\w*: its {what} {said}"):
        train.watch(model, images)(False)


def test_a_training_that_diverges_stops_at_once() -> None:
    images, labels = digits(128)
    model = fresh("dorefa:w4a32", images)
    model.layers[2].gamma.assign(np.full(4, np.nan))
    with pytest.raises(EdgeqError, match="diverged in epoch 1"):
        train.fit(model, images, labels, train.Fit(epochs=50), 0, check=lambda last: None)


def test_what_cannot_be_quantised_names_the_layer(tf) -> None:
    from edgeq.keras.lowbit import wrap

    layers, image = tf.keras.layers, tf.keras.Input((8, 8, 1))

    def build(middle, fused=None):
        x = middle(layers.Conv2D(2, 3)(image))
        x = layers.Conv2D(2, 3, activation=fused, name="second")(x)
        return tf.keras.Model(image, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))

    with pytest.raises(EdgeqError, match="leaky: edgeq has no quantised form of LeakyReLU"):
        wrap.wrap(build(layers.LeakyReLU(name="leaky")), parse("lsq:w4a4"))
    with pytest.raises(EdgeqError, match="second: its activation is fused"):
        wrap.wrap(build(layers.ReLU(), "relu"), parse("lsq:w4a4"))


def test_a_sidecar_that_does_not_fit_is_refused(low_bit_model, tmp_path) -> None:
    path = shutil.copytree(low_bit_model, tmp_path / "net.savedmodel")
    with pytest.raises(EdgeqError, match="does not tell what network"):
        train.restore(path)
    said = {"net": "digits_cnn", "width": 0.5, "classes": 10, "shape": [8, 8, 1], "quant": "lsq:w3a3", "ends": "int8"}
    Path(f"{path}.edgeq.json").write_text(json.dumps(said))
    with pytest.raises(EdgeqError, match="its weights are not those of"):
        train.restore(path)
    Path(f"{path}.edgeq.json").write_text(json.dumps({**said, "width": 1.0}))
    assert train.restore(path)[0].name == "digits_cnn"
    Path(f"{path}.edgeq.json").write_text(json.dumps({**said, "shape": [10**9, 8, 1]}))
    with pytest.raises(EdgeqError, match="does not tell what network"):
        train.restore(path)


def test_spellings_and_bits_are_known_without_tensorflow() -> None:
    assert known() == ["binaryconnect", "binarynet", "dorefa", "lsq", "pact", "pact+dorefa", "pact+lsq"]
    code = (
        "import sys; from edgeq.keras.quantizers import parse; from edgeq.core import plugins; plugins.working(plugins.QUANTISERS); "
        "print(parse('pact+lsq:w4a4').notes, parse('dorefa:w4a4').notes[0][:20], 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "() DoReFa's 4-bit weigh False"
