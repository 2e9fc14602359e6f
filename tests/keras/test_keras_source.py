"""Gradients on logits: right, per row, and the same to the last bit whatever other rows stand in the batch."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq import data
from edgeq.core.errors import EdgeqError
from edgeq.core.gradient import value_and_grad
from edgeq.core.rows import Rows
from edgeq.keras import engine, source
from edgeq.objectives.ce import CE
from edgeq.objectives.margin import Margin

pytest.importorskip("tf_keras")
pytestmark = pytest.mark.tensorflow
GREY = source.PIXELS[:, :1]


@pytest.fixture(scope="module", params=["keras", "qat"])
def network(request, digits_models):
    return source.open(getattr(digits_models, request.param), GREY, batch=32)


@pytest.fixture(scope="module")
def digits():
    dataset = data.open("digits")
    images = np.stack([dataset.image(i) for i in range(80)])
    return images, Rows(np.arange(80), dataset.labels[:80])


@pytest.mark.parametrize("objective", [CE(), Margin()])
def test_loss_is_the_objective_of_the_logits(network, digits, objective) -> None:
    x = digits[0] / np.float32(255)
    loss, _ = value_and_grad(network, objective, x, digits[1])
    wanted = objective(network.answer_float(x).raw, digits[1].labels)[0]
    assert np.allclose(loss, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", [CE(), Margin()])
def test_gradient_agrees_with_finite_differences(digits_models, digits, objective) -> None:
    network = source.open(digits_models.keras, GREY, batch=32)
    rng = np.random.default_rng(1)
    x = np.clip(digits[0][:32] / np.float32(255), 0.05, 0.95)
    rows = digits[1][np.arange(32)]
    _, gradient = value_and_grad(network, objective, x, rows)
    direction = rng.standard_normal(x.shape).astype(np.float32)
    step = np.float32(3e-4)
    up, down = (value_and_grad(network, objective, x + sign * step * direction, rows)[0] for sign in (1, -1))
    measured, predicted = (up - down) / (2 * step), (gradient * direction).sum(axis=(1, 2, 3))
    # a ReLU that changes side within the step makes single rows differ; a wrong formula makes all of them
    error = np.abs(measured - predicted) / (np.abs(predicted) + 0.1 * np.abs(predicted).mean())
    assert np.median(error) < 0.05
    assert (error < 0.2).mean() > 0.8


@pytest.mark.parametrize("objective", [CE(), Margin()])
def test_the_plain_objective_equals_its_fused_twin(network, digits, objective) -> None:
    x, labels = digits[0] / np.float32(255), digits[1].labels
    loss, gradient = value_and_grad(network, objective, x, digits[1])
    logits, pullback = network.logits(x)
    np.testing.assert_allclose(logits, network.answer_float(x).raw, rtol=1e-4, atol=1e-4)  # TensorFlow fuses layers where nobody looks
    value, slope = objective(logits, labels)
    np.testing.assert_allclose(value, loss, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pullback(slope), gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max())


def test_a_row_does_not_see_the_others(network, digits) -> None:
    x = digits[0] / np.float32(255)
    loss, gradient = value_and_grad(network, CE(), x, digits[1])
    for count in (1, 7, 33):
        fewer = value_and_grad(network, CE(), x[:count], digits[1][np.arange(count)])
        assert np.array_equal(fewer[0], loss[:count])
        assert np.array_equal(fewer[1], gradient[:count])
    rng = np.random.default_rng(0)
    kept = rng.random(len(x)) < 0.5
    order = np.where(kept, np.arange(len(x)), rng.permutation(len(x)))
    mixed = value_and_grad(network, CE(), x[order], digits[1][order])
    assert np.array_equal(mixed[0][kept], loss[kept])
    assert np.array_equal(mixed[1][kept], gradient[kept])


def test_nor_does_it_see_its_place_where_matrix_products_do_not(network, digits) -> None:
    x, order = digits[0] / np.float32(255), np.random.default_rng(0).permutation(80)
    loss, gradient = value_and_grad(network, CE(), x, digits[1])
    mixed = value_and_grad(network, CE(), x[order], digits[1][order])
    tf, row = engine.tensorflow(), np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    if len(np.unique(tf.matmul(tf.repeat(row, network.batch, axis=0), row.reshape(64, 1) * row), axis=0)) == 1:
        assert np.array_equal(mixed[0], loss[order])
        assert np.array_equal(mixed[1], gradient[order])
    else:  # oneDNN's for AVX2: sums of a few hundred float32, in two orders
        reach = 512 * np.finfo(np.float32).eps
        assert np.allclose(mixed[0], loss[order], rtol=reach, atol=reach)
        assert np.abs(mixed[1] - gradient[order]).max() < reach * np.abs(gradient).max()


def test_answers_are_logits_of_the_real_values_in_the_table(network, digits) -> None:
    images = digits[0]
    answer = network.answer(images)
    assert answer.kind == "logits"
    wanted = network.network.logits(engine.tensorflow().constant(images.astype(np.float32))).numpy()
    assert np.allclose(answer.raw, wanted, atol=1e-3)
    assert np.allclose(network.answer_float(images / np.float32(255)).raw, answer.raw, atol=1e-3)
    assert (answer.label() == digits[1].labels).mean() > 0.95


def test_the_softmax_does_not_flatten_the_gradient(network, digits) -> None:
    """Through a saturated softmax, probabilities near 1 would leave nothing of it in float32."""
    x = digits[0] / np.float32(255)
    _, gradient = value_and_grad(network, Margin(), x, digits[1])
    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 1e-2).all()


def test_the_table_scales_the_gradient(digits_models, digits) -> None:
    """The same real input reached by a map of half the slope: half the gradient (chain rule)."""
    x, rows = np.clip(digits[0][:20] / np.float32(255), 0.3, 0.6), digits[1][np.arange(20)]
    plain = source.open(digits_models.keras, GREY, batch=32)
    half = source.open(digits_models.keras, GREY / 2 + 40, batch=32)
    loss, gradient = value_and_grad(plain, CE(), x, rows)
    inner = (x * 255 - 40) / 127.5
    loss2, gradient2 = value_and_grad(half, CE(), inner.astype(np.float32), rows)
    assert np.allclose(loss, loss2, rtol=1e-3, atol=1e-4)
    assert np.allclose(gradient / 2, gradient2, rtol=1e-2, atol=1e-3 * np.abs(gradient).max())


def test_a_table_rounded_to_codes_is_its_line() -> None:
    rounded = np.rint(np.linspace(-1, 1, 256) / 0.02)[:, None] * 0.02
    slope, offset = source.affine("x", rounded.astype(np.float32), 1)
    assert slope == pytest.approx(2, abs=2e-3)
    assert offset == pytest.approx(-1, abs=2e-3)


def test_misfits_are_said(digits_models) -> None:
    with pytest.raises(EdgeqError, match="1 channels"):
        source.open(digits_models.keras, source.PIXELS)
    with pytest.raises(EdgeqError, match="saturate"):
        source.open(digits_models.keras, np.minimum(GREY, 100))
    network = source.open(digits_models.keras, GREY)
    with pytest.raises(EdgeqError, match="images of"):
        network.answer(np.zeros((2, 9, 9, 1), np.uint8))


@pytest.mark.parametrize("major", [2, 3])
@pytest.mark.parametrize("kind", ["swish", "silu in a function", "hard_sigmoid", "gelu"])
def test_curved_activations_have_their_own_gradients(tmp_path, major: int, kind: str) -> None:
    tf = engine.tensorflow()
    keras = tf.keras if major == 2 else pytest.importorskip("keras")
    given = keras.layers.Input((8, 8, 1))
    bent = keras.layers.Conv2D(4, 3, activation=None if kind.startswith("silu") else kind)(given)
    if kind.startswith("silu"):
        bent = keras.layers.Activation("silu" if major == 3 else "swish")(keras.layers.BatchNormalization()(bent))
    model = keras.Model(given, keras.layers.Dense(10)(keras.layers.Flatten()(bent)))
    path = tmp_path / "curved.keras"
    model.save(path)
    network = source.open(path, GREY / np.float32(255), batch=4)
    x = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    rows = Rows(np.arange(4), np.arange(4))
    with tf.GradientTape() as tape:
        image = tf.constant(x)
        tape.watch(image)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(rows.labels, model(image))
    want = tape.gradient(loss, image).numpy()
    for objective_source in (network, Plain(network)):
        value, gradient = value_and_grad(objective_source, CE(), x, rows)
        np.testing.assert_allclose(value, loss.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(gradient, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


class Plain:
    """A source without its fused twins."""

    def __init__(self, network) -> None:
        self.batch, self.logits, self.answer_float = network.batch, network.logits, network.answer_float
