"""A network that is not finite, or that learned nothing, is not taken for a trained one: whatever its loss and its answers look like."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq import data
from edgeq.build.export import export
from edgeq.build.train import train as run
from edgeq.cli.train import command
from edgeq.core.errors import EdgeqError
from edgeq.keras import engine, finite, train
from edgeq.keras.quantizers import parse

pytest.importorskip("tensorflow_model_optimization")
pytestmark = pytest.mark.tensorflow
MODES = ["float", "tfmot:int8", "tfmot:portable", "lsq:w4a4", "pact:w2a2", "dorefa:w2a32", "binarynet", "binaryconnect"]


@pytest.fixture(scope="module")
def digits():
    dataset = data.open("digits", split="train")
    return np.stack([dataset.image(i) for i in range(64)]), dataset.labels[:64]


def network(width: float = 0.25):
    return train.network("digits_cnn", width, 10, (8, 8, 1), 0)


def hidden(model, value: float = np.nan) -> str:
    """``value`` into one number of a network where oneDNN's fused ReLU lets losses and gradients stay finite; the weight's name."""
    variable = [v for v in model.weights if v.name.endswith(("moving_mean:0", "bias:0"))][1]
    variable.assign(np.where(np.arange(variable.shape[0]) == 1, value, variable.numpy()))
    return variable.name.removesuffix(":0")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory, digits):
    """``.keras`` files of a network with a NaN, and with an infinity."""
    found = {}
    for value in (np.nan, np.inf):
        model = network()
        hidden(model, value)
        found[value] = tmp_path_factory.mktemp("damaged") / f"{value}.keras"
        model.save(found[value])
    return found


@pytest.mark.parametrize("mode", MODES)
def test_no_training_starts_from_damaged_weights(mode, damaged, tmp_path) -> None:
    for path in damaged.values():
        with pytest.raises(EdgeqError, match=rf"{path.name}: its weights are damaged, \S+/moving_mean contains NaN or infinity"):
            run("digits_cnn", quant=mode, start=str(path), width=0.25, epochs=1, n=100, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode", ["float", "tfmot:int8", "lsq:w2a2"])
def test_a_weight_that_is_not_finite_ends_the_training_whatever_the_loss(mode, digits) -> None:
    model = network()
    if mode != "float":
        model = train.quantise(model, digits[0], 0) if mode == "tfmot:int8" else train.lower(model, parse(mode), "int8", digits[0], 0)
    name = hidden(model)
    with pytest.raises(EdgeqError, match=f"diverged in epoch 1: ({name} contains NaN or infinity|its loss is not finite); lower --rate"):
        train.fit(model, *digits, train.Fit(epochs=3), 0)


def test_gradients_that_overflow_end_the_training_though_weights_and_loss_are_finite(digits) -> None:
    model = network()
    next(v for v in reversed(model.weights) if "gamma" in v.name).assign(np.full(8, 1e22))  # Adam squares gradients
    with pytest.raises(EdgeqError, match="diverged in epoch 1: the gradients of conv2d/kernel, or their squares, are not finite"):
        train.fit(model, *digits, train.Fit(epochs=3), 0)
    assert finite.broken(model.weights) is None


def test_a_loss_that_is_not_finite_is_told_from_a_validation_loss() -> None:
    model = network()
    model.compile(engine.tensorflow().keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    assert finite.diverged(model, {"loss": 1.0, "val_loss": 2.0, "val_accuracy": 0.1}) is None
    assert finite.diverged(model, {"loss": np.inf, "val_loss": 2.0}) == "its loss is not finite"
    assert finite.diverged(model, {"loss": 1.0, "val_loss": np.nan}) == "its validation loss is not finite"


def test_damaged_weights_are_neither_saved_nor_exported_nor_restored(damaged, digits, tmp_path) -> None:
    model = network()
    name = hidden(model)
    with pytest.raises(EdgeqError, match=f"net.keras: the training failed, {name} contains NaN or infinity"):
        train.save(model, tmp_path / "net.keras", digits[0])
    assert not (tmp_path / "net.keras").exists()
    for path in damaged.values():
        with pytest.raises(EdgeqError, match=r"(nan|inf)\.keras: .*weights are damaged"):
            export(path, tmp_path / "build", calibrate="digits", preprocess="mean=0,std=1")
    assert not (tmp_path / "build").exists()
    low_bit, path = train.lower(network(), parse("lsq:w2a2"), "int8", digits[0], 0), tmp_path / "low.savedmodel"
    start = next(v for v in low_bit.weights if v.name.endswith("_start:0"))
    start.assign(np.full(start.shape, np.inf))
    low_bit.save(path, save_format="tf", include_optimizer=False)
    said = {"net": "digits_cnn", "width": 0.25, "classes": 10, "shape": [8, 8, 1], "quant": "lsq:w2a2", "ends": "int8"}
    path.with_name(path.name + ".edgeq.json").write_text(json.dumps(said))
    with pytest.raises(EdgeqError, match="its weights are damaged"):
        train.restore(path)


def test_constants_of_a_frozen_graph() -> None:
    tf = engine.tensorflow()

    def said(value, dtype) -> bool:
        with tf.Graph().as_default() as graph:
            tf.constant(value, dtype, name="w")
        try:
            finite.graph("net", graph.as_graph_def())
        except EdgeqError as error:
            return str(error).startswith("net: its weights are damaged, w contains NaN or infinity")
        return False

    for dtype in (tf.float16, tf.bfloat16, tf.float32, tf.float64):
        assert said([1, np.nan, 2], dtype)
        assert said(np.nan, dtype)
        assert said([[-np.inf] * 3], dtype)
        assert not said([1, 2.5], dtype)
        assert not said(-np.inf, dtype)  # what a mask fills in
    assert not said([1, 2], tf.int32)
    assert not said("nan", tf.string)


def test_accuracy_at_chance_is_said(damaged, tmp_path) -> None:
    arguments = ["digits_cnn", "--width", "0.25", "--epochs", "1", "--n", "40", "--rate", "1e-9", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert "digits_cnn-w0.25.keras: that is no better than chance, as answering '" in said
    assert "has .103 right; train longer, on more images, or at another --rate" in said
    assert json.loads((tmp_path / "out" / "digits_cnn-w0.25.keras.edgeq.json").read_text())["test"]["chance"] is True

    dead, path = network(), tmp_path / "dead.keras"  # no gradient passes a ReLU of zeros
    for variable in dead.weights[-6:-4]:  # gamma, beta
        variable.assign(np.zeros(variable.shape))
    dead.save(path)
    result = CliRunner().invoke(command, [*arguments, "--from", str(path)])
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert ".1" in said.partition("of 359 test images right")[0][-10:]
    assert ", and it does answer '" in said


def test_a_trained_savedis_above_chance_and_a_tie_of_all_classes_is_right_once(digits_models, tmp_path) -> None:
    from edgeq.build.train import _answers, _chance
    from edgeq.pipeline.preprocess import resolve

    said = json.loads(digits_models.keras.with_name("digits_cnn.keras.edgeq.json").read_text())
    assert (said["test"]["chance"], said["test"]["tied"]) == (False, 0)

    model, test = network(), data.open("digits")
    for variable in model.weights[-2:]:  # of the last layer
        variable.assign(np.zeros(variable.shape))
    prepare, _ = resolve((8, 8), 1, (8, 8, 1), stated="mean=0,std=1", where="here")
    saved = train.save(model, tmp_path / "tied.keras", np.stack([test.image(i) for i in range(64)]))
    answered, tied = _answers(saved, SimpleNamespace(prepare=prepare, test=test, test_index=np.arange(len(test.labels))))
    assert tied.all()
    assert (answered == 0).all()
    assert "and it does answer '0' to all of them" in _chance(answered, test.labels, 0.08, test.classes)


@pytest.mark.parametrize("option", ["rate", "width"])
def test_a_number_that_is_none_is_refused(option, tmp_path) -> None:
    with pytest.raises(EdgeqError, match=f"--{option} nan: it takes a number above 0"):
        run("digits_cnn", **{option: float("nan")}, output=tmp_path)
