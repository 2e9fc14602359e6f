"""Reading ``.tflite`` files as integer graphs: what comes out, and that a file that lies is refused with a sentence."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import tiny_tflite
from one_op_files import make

from edgeq.core.errors import EdgeqError
from edgeq.integer import model as models
from edgeq.integer import read_tflite, tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.simulate import simulate


def _graph(content: bytes) -> Graph:
    return read_tflite.from_model(tflite_file.parse(content, "m.tflite"))


def test_the_tiny_classifier() -> None:
    graph = _graph(tiny_tflite.classifier(8, 8, 3))
    assert [op.kind for op in graph.ops] == ["conv", "average_pool", "reshape", "dense", "softmax"]
    assert graph.tensors[graph.input].shape == (8, 8, 3)
    assert graph.tensors[graph.output].shape == (10,)
    conv = graph.ops[0]
    assert conv.options == {"stride": (1, 1), "padding": "same", "activation": "relu", "dilation": (1, 1)}
    weights = graph.tensors[conv.inputs[1]]
    assert (weights.shape, weights.scale.shape, weights.axis) == ((8, 3, 3, 3), (8,), 0)
    assert weights.data is not None
    assert not weights.data.flags.writeable
    assert graph.ops[1].options["window"] == (2, 2)
    assert graph.ops[4].options == {"beta": 1.0}


def test_int4_weights_are_unpacked() -> None:
    graph = _graph(make("conv4", np.random.default_rng(3)))
    weights = graph.tensors[graph.ops[0].inputs[1]]
    assert weights.dtype == "int4"
    assert weights.data is not None
    assert weights.data.dtype == np.int8
    assert (weights.data.min(), weights.data.max()) == (-7, 7)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiny_tflite.two_inputs(), "has 2 inputs"),
        (tiny_tflite.detector(), "has 1 inputs and 4 outputs"),
        (tiny_tflite.edgetpu(), r"edgetpu-custom-op \(probs\) cannot be read: it is no op of the integer graph; attack it by queries, or"),
        (tiny_tflite.classifier(label=True), r"ARG_MAX \(label\) cannot be read"),
    ],
)
def test_files_that_are_no_graph(content: bytes, reason: str) -> None:
    with pytest.raises(EdgeqError, match="^m.tflite: .*" + reason):
        _graph(content)


def _changed(tensor: int | None = None, op: int | None = None, **changes: Any) -> models.Model:
    """The classifier's model with one tensor or one op replaced."""
    m = tflite_file.parse(tiny_tflite.classifier(8, 8, 3), "m.tflite")
    if tensor is not None:
        tensors = list(m.tensors)
        tensors[tensor] = dataclasses.replace(tensors[tensor], **changes)
        return dataclasses.replace(m, tensors=tuple(tensors))
    assert op is not None
    ops = list(m.ops)
    if "options" in changes:
        changes["options"] = MappingProxyType({**ops[op].options, **changes["options"]})
    ops[op] = dataclasses.replace(ops[op], **changes)
    return dataclasses.replace(m, ops=tuple(ops))


_NONE = np.empty(0, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tensor": 0, "shape": (2, 8, 8, 3)}, "batch of one"),
        ({"tensor": 0, "shape": (1, 2**20, 2**20, 3)}, "too large"),
        ({"tensor": 3, "shape": (1, 8, 8, 9)}, r"it gives \(8, 8, 8\), and the file says \(8, 8, 9\)"),
        ({"tensor": 3, "scales": _NONE, "zeros": _NONE}, "has no scale"),
        ({"tensor": 3, "scales": np.float32([-1])}, "not positive"),
        ({"tensor": 3, "scales": np.float32([np.nan])}, "not positive"),
        ({"tensor": 3, "zeros": np.array([300])}, "beyond int8"),
        ({"tensor": 1, "scales": np.ones(5, np.float32), "zeros": np.zeros(5, np.int64)}, "5 scales"),
        ({"tensor": 1, "data": None}, "nothing writes"),
        ({"tensor": 1, "dtype": "float32"}, "does not hold what its shape says"),
        ({"tensor": 2, "dtype": "int64"}, "does not hold"),
        ({"op": 0, "options": {"stride_w": 0}}, "below 1"),
        ({"op": 0, "options": {"stride_w": -3}}, "below 1"),
        ({"op": 0, "options": {"fused_activation_function": 5}}, "activation 5"),
        ({"op": 0, "options": {"padding": 7}}, "padding 7"),
        ({"op": 1, "options": {"filter_width": 9}}, "larger than the image"),
        ({"op": 1, "options": {"filter_width": 2**30, "padding": 0}}, "too large|and the file says"),
        ({"op": 1, "outputs": (3,)}, "written twice"),
        ({"op": 3, "inputs": (0, 6, 7)}, "do not fit"),
        ({"op": 3, "inputs": (-1,)}, "lacks its input|needs 2 inputs"),
        ({"op": 4, "inputs": (8,), "outputs": ()}, "lacks its input"),
    ],
)
def test_what_a_file_declares_is_held_against_what_it_does(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(EdgeqError, match=reason):
        read_tflite.from_model(_changed(**change))


@pytest.mark.slow
def test_damage_is_a_sentence_or_a_graph_that_runs() -> None:
    rng = np.random.default_rng(0)
    files = [tiny_tflite.classifier(8, 8, 3, dtype=d) for d in ("int8", "uint8")]
    files += [make(kind, rng) for kind in ("depthwise", "strided_slice", "concatenation", "resize_bilinear", "mean", "transpose", "pad")]
    refused, others, slowest = 0, 0, 0.0
    tracemalloc.start()  # numpy's arrays too, and not what else this process once held
    for i in range(900):
        damaged = bytearray(files[i % len(files)])
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(8, len(damaged)))] = int(rng.integers(256))
        start = time.perf_counter()
        try:
            graph = _graph(bytes(damaged))
            given = graph.tensors[graph.input]
            if np.dtype(given.dtype).kind in "iu" and np.prod(given.shape) < 2**20:
                with np.errstate(all="ignore"):
                    simulate(graph, np.zeros((1, *given.shape), given.dtype), ("tflm", "litert-xnnpack")[i % 2])
        except EdgeqError as error:
            refused += str(error).startswith("m.tflite: ")
            others += not str(error).startswith("m.tflite: ")
        slowest = max(slowest, time.perf_counter() - start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < refused < 900
    assert others == 0
    assert slowest < 5
    assert peak < 2**30


def test_constants_on_the_same_bytes_are_refused_before_they_are_copied() -> None:
    """A thousand layers of 400 x 400, each with weights of its own that are the same 160 KB."""
    size, g = 400, tiny_tflite.Graph()
    x = last = g.tensor("image", (1, size), "int8", 0.1, 0)
    first = g.tensor("w", (size, size), "int8", 0.1, 0, np.ones((size, size)))
    shared = g.graph.tensors[first].buffer
    for i in range(1000):
        weights = g.tensor(f"w{i}", (size, size), "int8", 0.1, 0)
        g.graph.tensors[weights].buffer = shared
        out = g.tensor(f"y{i}", (1, size), "int8", 0.1, 0)
        g.op(tiny_tflite.B.FULLY_CONNECTED, [last, weights, -1], [out], tiny_tflite.schema.FullyConnectedOptionsT())
        last = out
    content = g.done([x], [last])
    tracemalloc.start()
    with pytest.raises(EdgeqError, match="constants have more numbers than the file can hold"):
        _graph(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
