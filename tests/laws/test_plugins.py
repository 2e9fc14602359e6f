"""Every plugin of every kind, held to what its kind asks: one file in the right folder is enough to be tested here."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import re
from typing import Any

import numpy as np
import pytest

from edgeq import data
from edgeq.core import plugins
from edgeq.core.errors import EdgeqError

ALL = [(kind, name) for kind in plugins.KINDS for name in plugins.names(kind)]
OWN = [(kind, name) for kind, name in ALL if name in plugins._files(kind)]
PAPER = r"\b(19|20)\d\d\b|\bB19\b|\bbaseline\b|\bedgeq's own\b"
SOURCES = {"data set": rf"{PAPER}|\.npz|\bzip\b|\bfolders?\b", "runtime": r"\w/\w|edgeq's integer simulator"}
OPTIONS = [(kind, name) for kind, name in ALL if kind in (plugins.ATTACKS, plugins.ESTIMATORS)]


def ids(value: Any) -> str | None:
    return value.word if isinstance(value, plugins.Kind) else None


def test_every_kind_has_plugins() -> None:
    assert {kind for kind, _ in OWN} == {*plugins.KINDS}
    assert plugins.problems() == []


@pytest.mark.parametrize(("kind", "name"), OWN, ids=ids)
def test_a_file_names_its_source_and_the_type_that_it_is_checked_against(kind: plugins.Kind[Any], name: str) -> None:
    module = importlib.import_module(f"{kind.room}.{plugins._files(kind)[name]}")
    assert re.search(SOURCES.get(kind.word, PAPER), module.__doc__ or "")
    assert "plugin" in module.__annotations__, "mypy holds it against its Protocol"
    assert plugins.load(kind, name) is module.plugin


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return {p.name: p for p in inspect.signature(function).parameters.values() if p.name != "self"}


@pytest.mark.parametrize(("kind", "name"), ALL, ids=ids)
def test_a_plugin_takes_what_its_protocol_says(kind: plugins.Kind[Any], name: str) -> None:
    plugin = plugins.load(kind, name)
    protocol = next(p for p in kind.protocols if not plugins._lacking(plugin, p))
    for member, wanted in vars(protocol).items():
        if not inspect.isfunction(wanted) or (member.startswith("_") and member != "__call__"):
            continue
        takes = parameters(plugin if member == "__call__" and not inspect.isclass(plugin) else getattr(plugin, member))
        asked = parameters(wanted)
        assert list(takes)[: len(asked)] == list(asked), member
        assert all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in list(takes.values())[len(asked) :])
    if kind.word == "runtime":
        assert plugin.name == name
        assert plugin.forms
        assert plugin.stands_in_for is None or plugin.stands_in_for in plugins.names(kind)


@pytest.mark.parametrize(("kind", "name"), OPTIONS, ids=ids)
def test_options_come_back(kind: plugins.Kind[Any], name: str) -> None:
    _, value = plugins.build(kind, name)
    fields = dataclasses.asdict(value)
    assert plugins.restore(kind, name, json.loads(json.dumps(fields))) == value
    spelled = ":".join([name, *(f"{key}={default}" for key, default in fields.items() if default is not None)])
    assert plugins.build(kind, spelled) == (name, value)
    with pytest.raises(EdgeqError, match="has no option 'nonsense'"):
        plugins.build(kind, f"{name}:nonsense=1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        value.nonsense = 1


# ---- estimators

IDS = np.arange(1000, 1004)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 1), dtype=np.uint8)
SLOPES = np.random.default_rng(1).normal(size=(4, 30))


@pytest.mark.parametrize("name", plugins.names(plugins.ESTIMATORS))
def test_the_mean_of_estimates_of_a_linear_loss_is_its_slope(name: str) -> None:
    _, method = plugins.build(plugins.ESTIMATORS, name)
    asked: list[int] = []

    def loss(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8
        asked.append(len(images))
        return (images.reshape(len(images), -1) * SLOPES[rows]).sum(axis=1)

    total, count = np.zeros_like(SLOPES), np.zeros_like(SLOPES)
    for seed in range(200):
        found = method.estimate(loss, IMAGES, IDS, seed)
        at = np.tile(np.arange(30), (4, 1)) if found.pixels is None else found.pixels
        rows = np.arange(4)[:, None]
        total[rows, at] += found.slope
        count[rows, at] += 1
    assert sum(asked) == 200 * 4 * method.queries(30)
    assert count.min() > 0
    assert np.abs(total / count - SLOPES).max() < 0.25
    assert np.corrcoef((total / count).ravel(), SLOPES.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("name", plugins.names(plugins.ESTIMATORS))
def test_an_estimate_is_the_rows_own(name: str) -> None:
    _, method = plugins.build(plugins.ESTIMATORS, name)

    def estimate(order: list[int]) -> Any:
        return method.estimate(lambda images, rows: (images.reshape(len(images), -1) * SLOPES[order][rows]).sum(axis=1), *some(order), 3)

    def some(order: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return IMAGES[order], IDS[order]

    assert np.array_equal(estimate([0, 1, 2, 3]).slope[[2, 0]], estimate([2, 0]).slope)


# ---- data sets


@pytest.mark.parametrize("name", plugins.names(plugins.DATA_SETS))
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_data_set_has_labels_in_range_and_decodes_to_bytes(name: str, split: str) -> None:
    try:
        found = data.open(name, split=split)
    except EdgeqError as error:
        pytest.skip(str(error))
    n = len(found.names)
    assert n == len(found.labels) == len(set(found.names)) == len(found)
    assert found.labels.dtype == np.int64
    assert found.labels.min() >= 0
    assert found.classes is None or found.labels.max() < len(found.classes)
    some = data.sample(found, 20, 0)
    images = data.decode(found, some, lambda image: image)
    assert images.dtype == np.uint8
    assert images.shape[0] == min(20, n)
    assert images.shape[3] in (1, 3)
    assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 1
    assert np.array_equal(data.decode(data.open(name, split=split), some, lambda image: image), images)
    assert found.sha256() == data.open(name, split=split).sha256()


# ---- networks and quantisers


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", plugins.names(plugins.NETWORKS))
def test_a_network_takes_raw_pixels_and_gives_probabilities(name: str) -> None:
    pytest.importorskip("tensorflow")
    from edgeq.keras import train

    shape = inspect.signature(plugins.load(plugins.NETWORKS, name)).parameters["input_shape"].default
    small, smaller = (train.network(name, width, 7, shape, 0) for width in (0.125, 0.0625))
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape)).astype(np.float32)
    answers = small(pixels).numpy()
    assert answers.shape == (3, 7)
    assert answers.min() >= 0
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)
    assert smaller.count_params() < small.count_params()


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", plugins.names(plugins.QUANTISERS))
def test_a_quantiser_has_no_more_levels_than_its_bits_say(name: str) -> None:
    tf = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorflow_model_optimization")
    method = plugins.load(plugins.QUANTISERS, name)
    assert method.weight_bits or method.activation_bits
    assert bool(method.beside) == (method.weight_bits is None)
    cases = [method.weights(bits, None) for bits in method.weight_bits or ()] + [
        method.activations(b) for b in method.activation_bits or ()
    ]
    values = np.random.default_rng(0).normal(size=(3, 3, 16, 40)).astype(np.float32)
    for quantiser in cases:
        variables = quantiser.build(values.shape, "x", tf.keras.layers.Layer())
        if quantiser.sized:
            variables["start"].assign(quantiser.begin(values))
        codes, step = quantiser.levels(values, variables)
        assert codes.dtype == np.int32
        assert quantiser.low <= codes.min() < codes.max() <= quantiser.high
        assert len(np.unique(codes)) <= 2**quantiser.bits
        assert np.array_equal(codes.astype(np.float32) * step, np.asarray(quantiser(values, False, weights=variables)))
