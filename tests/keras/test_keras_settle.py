"""Settling puts thresholds in the middle between accumulators, once, and lets only kernels train on; such a network comes back exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeq.integer.simulate import simulate
from edgeq.keras import train
from edgeq.keras.quantizers import parse

pytest.importorskip("tensorflow_model_optimization")

import low_bit

from edgeq.keras.freeze import freeze
from edgeq.keras.lowbit import settle, trained

pytestmark = pytest.mark.tensorflow


def lowered(net: str, quant: str):
    return train.lower(low_bit.floating(net), parse(quant), "int8", low_bit.images(net), 0)


def kernels(model) -> list[np.ndarray]:
    return [k.codes for layer in model.layers if (k := trained.kernel(layer))]


@pytest.mark.parametrize(
    ("net", "quant"),
    [
        *(("mixed", q) for q in ("lsq:w4a4:channel", "binarynet", "pact:w4a4", "tfmot:portable")),
        ("digits_cnn", "dorefa:w1a2"),
        ("largest", "lsq:w8a8"),
    ],
)
def test_a_second_snap_changes_nothing(net, quant) -> None:
    model = lowered(net, quant)
    before = model.get_weights()
    settle.snap(model)
    once, codes = model.get_weights(), kernels(model)
    settle.snap(model)
    assert any(not np.array_equal(a, b) for a, b in zip(before, once, strict=True))
    for a, b in zip(once, model.get_weights(), strict=True):
        assert np.abs(a - b).max() <= 2e-6 * max(1, np.abs(a).max())
    for a, b in zip(codes, kernels(model), strict=True):
        assert np.array_equal(a, b)


STEPS = [("digits_cnn", "lsq:w4a4"), ("mixed", "lsq:w8a8"), ("mixed", "pact+lsq:w6a6"), ("mixed", "dorefa:w6a6"), ("resnet8", "pact:w4a4")]


@pytest.mark.parametrize(("net", "quant"), STEPS)
def test_steps_of_the_accumulator_are_whole(net, quant) -> None:
    """Where thresholds are ``(k - 1/2) D - B`` with an integer D they are evenly spaced; only a small D may stay broken."""
    graph, wholes = low_bit.frozen(net, quant), 0
    for op in graph.ops:
        if "thresholds" not in op.options or not np.ptp(graph.tensors[op.inputs[1]].data):
            continue
        for at in op.options["thresholds"]:
            steps = np.diff(at[np.abs(at) < 2**39])
            if len(steps) and steps.mean() >= settle.LEAST + 1:
                assert np.ptp(steps) == 0, graph.tensors[op.output].name
                wholes += 1
    assert wholes > 10


@pytest.mark.parametrize("quant", ["lsq:w3a3", "tfmot:portable"])
def test_only_kernels_train_on_and_what_comes_back_is_still_the_frozen_network(quant, tmp_path: Path) -> None:
    images, labels = low_bit.images("digits_cnn", 128), np.arange(128) % 10
    model = lowered("digits_cnn", quant)
    train.settle(model)
    learning = {w.name.rpartition("/")[2] for w in model.trainable_weights}
    assert learning == {"kernel:0"}
    others = [w for w in model.weights if not w.name.endswith("kernel:0")]
    held, codes = [w.numpy() for w in others], kernels(model)
    train.fit(model, images, labels, train.Fit(epochs=2, rate=0.02), 0)
    for weight, old in zip(others, held, strict=True):
        assert np.array_equal(weight.numpy(), old), weight.name
    assert any(not np.array_equal(a, b) for a, b in zip(codes, kernels(model), strict=True))

    path = tmp_path / "net.savedmodel"
    train.save(model, path, images)
    said = {"net": "digits_cnn", "width": 0.25, "classes": 10, "shape": [8, 8, 1], "quant": quant, "ends": "int8"}
    Path(f"{path}.edgeq.json").write_text(json.dumps(said))
    again, _ = train.restore(path)
    x = images.astype(np.float32)
    assert np.array_equal(again(x, training=False), model(x, training=False))
    before, after = (simulate(freeze(m, images), low_bit.codes("digits_cnn", 128), keep=True) for m in (model, again))
    assert all(np.array_equal(before[i], after[i]) for i in before)
    low_bit.assert_frozen(again, freeze(again, images), images)


def test_one_bit_steps_follow_their_weights_and_are_settled_again() -> None:
    images, labels = low_bit.images("digits_cnn", 128), np.arange(128) % 10
    model = lowered("digits_cnn", "dorefa:w1a4")
    train.settle(model)
    train.fit(model, images, labels, train.Fit(epochs=1, rate=0.02), 0)
    train.settle(model)
    assert {w.name.rpartition("/")[2] for w in model.trainable_weights} == {"kernel:0"}
    assert len({id(w) for w in model.weights}) == len(model.weights)
    low_bit.assert_frozen(model, freeze(model, images), images)


def test_what_was_never_settled_is_frozen_as_it_is() -> None:
    """To float32's own error at a threshold: nothing is moved for it."""
    model, images = lowered("digits_cnn", "lsq:w4a4"), low_bit.images("digits_cnn", 128)
    graph = freeze(model, images)
    kept = simulate(graph, low_bit.codes("digits_cnn", 128), keep=True)
    names = {t.name: (i, int(t.zero[0])) for i, t in enumerate(graph.tensors)}
    for name, output in low_bit.activations(model, images).items():
        i, zero = names[name]
        assert (kept[i].astype(int) - zero != output).mean() < 1e-4
