"""A frozen network is the Keras network, code by code; what has no integer form is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.core.errors import EdgeqError
from edgeq.integer.realise import realise
from edgeq.integer.simulate import simulate
from edgeq.keras import engine, train
from edgeq.keras.quantizers import parse

pytest.importorskip("tensorflow_model_optimization")

import low_bit

from edgeq.keras.freeze import NEVER, freeze, thresholds
from edgeq.keras.lowbit import trained
from edgeq.keras.lowbit.layers import QuantizedPool
from edgeq.keras.lowbit.trained import Grid

pytestmark = pytest.mark.tensorflow

ACTIVATIONS = [  # further ones in test_keras_ship.py
    *(("digits_cnn", q) for q in ("lsq:w8a8", "dorefa:w1a1", "dorefa:w2a2")),
    ("resnet8", "lsq:w4a4"),
    ("b19_cifar10", "pact:w4a4"),
    *(("mixed", q) for q in ("lsq:w4a4:channel", "lsq:w8a8", "pact:w4a4", "dorefa:w2a2")),
    ("largest", "pact+lsq:w3a3"),
]
WEIGHTS = [("digits_cnn", "lsq:w4a32"), ("resnet8", "binaryconnect"), ("mixed", "dorefa:w2a32:channel"), ("largest", "lsq:w8a32")]


@pytest.mark.parametrize(("net", "quant"), ACTIVATIONS)
def test_every_activation_is_the_trained_one(net, quant) -> None:
    low_bit.assert_frozen(low_bit.settled(net, quant), low_bit.frozen(net, quant), low_bit.images(net, 64))


@pytest.mark.parametrize(("net", "quant"), WEIGHTS)
def test_weights_alone_leave_the_same_floats(net, quant) -> None:
    model, graph = low_bit.settled(net, quant), low_bit.frozen(net, quant)
    assert graph.tensors[graph.output].dtype == "float32"
    images, head = low_bit.images(net), model.layers[-1]
    x = engine.tensorflow().keras.Model(model.input, head.input)(images.astype(np.float32), training=False).numpy()
    kernel = trained.kernel(head)
    wanted = x @ (kernel.codes * kernel.step) + trained.inner(head).bias.numpy()
    got = simulate(graph, low_bit.codes(net))
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()
    stored = [t.data for _, t in graph.constants() if t.dtype == "int8"]
    assert len(stored) == sum(trained.kernel(layer) is not None for layer in model.layers)


def test_a_negative_gamma_of_the_lowered_network_turns_the_channel_around() -> None:
    """:func:`wrap` leaves none, but a training without its constraint might."""
    images = low_bit.images("digits_cnn", 64)
    model = train.lower(low_bit.floating("digits_cnn"), parse("lsq:w4a4"), "int8", images, 0)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.gamma.assign(layer.gamma * np.where(np.arange(layer.gamma.shape[0]) % 2, -1, 1))
    train.settle(model)
    low_bit.assert_frozen(model, freeze(model, images), images)


# ---- thresholds


@settings(deadline=None, max_examples=200)
@given(
    *(st.integers(1, 400), st.sampled_from([1, 2, 3, 7, 9, 16]), st.integers(-300, 300)),
    st.sampled_from([(0, 1), (0, 3), (0, 15), (-8, 7), (-31, 31), (-128, 127)]),
    *(st.sampled_from(["even", "up"]), st.sampled_from([1.0, 2.0**-5, 0.013])),
)
def test_thresholds_are_the_definition_of_rounding(p, q, twice_b, bounds, ties, step) -> None:
    """Level ``round((A + B) / D)`` for D = p/q and every accumulator around, in integers."""
    gain = np.array([step / (p / q)])
    at = thresholds(gain, twice_b / 2 * gain, Grid(step, *bounds, 8, ties))
    assert at.shape == (1, bounds[1] - bounds[0])
    a = np.arange(-2000, 2000)
    top, under = q * (2 * a + twice_b), 2 * p
    level, rest = np.divmod(2 * top + under, 2 * under)
    if ties == "even":
        level -= (rest == 0) & (level % 2 == 1)
    assert np.array_equal(bounds[0] + (a[:, None] >= at[0]).sum(axis=1), np.clip(level, *bounds))


def test_a_sign_is_one_threshold_and_a_dead_channel_has_none() -> None:
    sign = thresholds(np.array([0.5, 0.5, 0, 0, 0]), np.array([3.25, -3.25, 1, 0, -1]), Grid(1.0, -1, 1, 1, "sign"))
    assert sign.tolist() == [[-6, -6], [7, 7], [-NEVER] * 2, [-NEVER] * 2, [NEVER] * 2]
    still = thresholds(np.zeros(4), np.array([-1, 0.3, 0.5, 9]), Grid(1.0, 0, 3, 2, "even"))
    assert (still < 0).sum(axis=1).tolist() == [0, 0, 0, 3]  # a half goes to the even level
    assert (np.abs(still) == NEVER).all()


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 4), (7, 7), (3, 5)])
def test_a_pool_is_its_sum_divided_and_halves_go_up(size) -> None:
    """All sums of a window, against Keras, whose float32 must not miss a tie."""
    tf, n = engine.tensorflow(), size[0] * size[1]
    for step, exponent in [(1.0, -2), (0.013, 0), (0.7, 1), (0.013, 2)]:
        pool = QuantizedPool(size, False, False, lambda step=step: tf.constant(step))
        sums = np.arange(0, 40 * n)
        codes = np.repeat(sums[:, None] // n, n, axis=1) + (np.arange(n) < sums[:, None] % n)
        pool(tf.zeros((1, *size, 1)))
        pool.exponent.assign(exponent)
        unit = float(pool.unit())
        wanted = pool(tf.constant(codes.reshape(-1, *size, 1), tf.float32) * tf.constant(step)).numpy().ravel()
        at = thresholds(np.array([float(np.float32(step)) / n]), np.zeros(1), trained.grid(pool))
        assert np.array_equal((sums[:, None] >= at[0]).sum(axis=1), np.rint(wanted / unit)), (step, exponent)


# ---- what has no integer form


def lowered(build, quant: str, ends: str = "int8"):
    """The network of ``build(layers, image)``'s features, lowered and frozen."""
    layers = engine.tensorflow().keras.layers
    image = layers.Input((8, 8, 1))
    model = engine.tensorflow().keras.Model(image, build(layers, image))
    images = low_bit.images("digits_cnn", 8)
    return freeze(train.lower(model, parse(quant), ends, images, 0), images)


def features(middle, last=lambda layers, x: layers.Dense(3, activation="softmax", name="head")(layers.Flatten()(x))):
    """Two convolutions, ``middle`` behind the first, then ``last``."""

    def build(layers, image):
        x = middle(layers, layers.Conv2D(2, 3, name="first")(image))
        return last(layers, layers.ReLU()(layers.Conv2D(2, 3, name="second")(x)))

    return build


@pytest.mark.parametrize(
    ("quant", "middle", "said"),
    [
        (
            "lsq:w4a4",
            lambda layers, x: layers.ReLU()(layers.BatchNormalization()(layers.MaxPooling2D(name="pool")(x))),
            "pool: stands between a layer with weights and its ReLU; put it behind the ReLU",
        ),
        (
            "lsq:w4a4",
            lambda layers, x: layers.BatchNormalization(name="late")(layers.ReLU()(x)),
            "late: BatchNormalization has no integer form here; use",
        ),
        (
            "lsq:w4a4",
            lambda layers, x: layers.ReLU(threshold=1.0, name="jump")(x),
            "jump: .* ReLU with a slope or a threshold; use a plain",
        ),
        ("lsq:w4a4", lambda layers, x: layers.AveragePooling2D(name="mean")(x), "mean: averages what is not quantised; put it behind a"),
        (
            "lsq:w4a32",
            lambda layers, x: layers.BatchNormalization(name="late")(layers.ReLU()(x)),
            "late: BatchNormalization has no form here",
        ),
        ("lsq:w4a32", lambda layers, x: layers.ReLU(max_value=4.0, name="four")(x), "four: ReLU has no form here; use .* ReLU6"),
        ("lsq:w4a32", lambda layers, x: layers.LeakyReLU(name="leaky")(x), "leaky: LeakyReLU has no form here; use"),
    ],
)
def test_a_layer_without_an_integer_form_is_named_with_what_to_do(quant, middle, said) -> None:
    with pytest.raises(EdgeqError, match=said):
        lowered(features(middle), quant)


def test_other_ends_are_named() -> None:
    def plain(layers, x):
        return layers.ReLU()(x)

    with pytest.raises(EdgeqError, match=r"first: its kernel is float, .* train with --ends int8"):
        lowered(features(plain), "lsq:w4a4", "float")
    with pytest.raises(EdgeqError, match="its last layer top is no dense layer"):
        lowered(features(plain, lambda layers, x: layers.ReLU(name="top")(layers.Dense(3)(layers.Flatten()(x)))), "lsq:w4a4")
    assert lowered(features(plain), "lsq:w4a32", "float").tensors[-1].dtype == "float32"


def test_eight_bits_of_dorefa_do_not_fit_int8() -> None:
    with pytest.raises(EdgeqError, match=r"re_lu\w*: its trained weights go up to 255 steps, .* train with lsq:w8, or with fewer bits"):
        realise(low_bit.frozen("digits_cnn", "dorefa:w8a8"))
    with pytest.raises(EdgeqError, match=r"conv2d.*: its trained weights go up to 255 steps, .* train with lsq:w8"):
        low_bit.frozen("digits_cnn", "dorefa:w8a32")
