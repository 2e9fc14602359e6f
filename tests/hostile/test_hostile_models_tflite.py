"""``.tflite`` files from strangers: small files that once took minutes or gigabytes before anything was run."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import model_files
import numpy as np
import pytest
import tiny_tflite

from edgeq.core.errors import EdgeqError
from edgeq.integer import classifier, describe, read_tflite, strip, tflite_file


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_walks_over_a_chain_are_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    content = model_files.chain(4000)
    model = tflite_file.parse(content, "m.tflite")
    assert seconds(lambda: describe.describe(model)) < 0.15  # 0.3 s while every op was looked for among all; minutes at 100,000
    passing = tflite_file.parse(model_files.chain(4000, model_files.B.QUANTIZE), "m.tflite")
    assert seconds(lambda: (strip.logits_of(passing), classifier.output_kind(passing))) < 0.15
    assert len(read_tflite.from_model(model).ops) == 4000
    monkeypatch.setattr(tflite_file, "MAX_OPS", 3999)
    with pytest.raises(EdgeqError, match="4,000 ops; up to 3,999"):
        tflite_file.parse(content, "m.tflite")


def test_the_same_bytes_under_many_names_are_looked_at_once() -> None:
    content = model_files.same_weights(1500, 256)  # 64 KB of weights, shown 1,500 times
    model = tflite_file.parse(content, "m.tflite")
    found: list[describe.Description] = []
    assert seconds(lambda: found.append(describe.describe(model))) < 1
    assert found[0].layers[0].levels == 255
    assert found[0].layers[-1].levels is None


def test_classes_and_pixels_have_a_bound() -> None:
    model = tflite_file.parse(model_files.wide(70_000), "m.tflite")
    assert "70,000 output units" in (classifier.classifier_problem(model) or "")
    large = tflite_file.parse(tiny_tflite.classifier(h=8, w=8), "m.tflite")
    t = large.tensors[large.inputs[0]]
    object.__setattr__(t, "shape", (1, 4096, 4096, 3))
    assert "can be attacked" in (classifier.classifier_problem(large) or "")


def test_levels_of_a_large_layer_are_counted_in_little_memory() -> None:
    """16 MB of weights, of which copies of 64 bits took 400 MB; a layer of 2^24 units is four times that."""
    codes = np.resize(np.arange(-127, 128, dtype=np.int8), (2**22, 4))
    tracemalloc.start()
    assert describe.weight_levels(codes, 0, np.zeros(1, np.int64)) == 255
    assert describe.weight_levels(codes, None, np.ones(1, np.int64)) == 255
    assert tracemalloc.get_traced_memory()[1] < 80 * 2**20
    tracemalloc.stop()


def test_levels_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-3, 4, (5, 7)) * rng.integers(1, 30, (5, 1))
    zeros = rng.integers(-9, 9, 5)
    assert describe.weight_levels((codes + zeros[:, None]).astype(np.int16), 0, zeros) == describe.weight_levels(codes, 0)
    assert describe.weight_levels(codes.T, 1) == len(np.unique(codes // np.gcd.reduce(codes, axis=1)[:, None]))
    assert describe.weight_levels(3 * np.arange(10), None) == 10


def test_a_constant_holds_what_its_shape_says() -> None:
    """72 bytes of weights that claimed 7 billion: TFLite Micro walked over them for hours, within the time that such a layer may take."""
    content = tiny_tflite.classifier()
    shape = np.array([8, 3, 3, 1], "<i4").tobytes()
    assert content.count(shape) == 1
    for claimed in (302_480_172, 4):
        with pytest.raises(EdgeqError, match="truncated or damaged"):
            tflite_file.parse(content.replace(shape, np.array([8, 3, claimed, 1], "<i4").tobytes()), "m.tflite")
