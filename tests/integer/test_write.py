"""The writers: what they write runs, means the same everywhere, and is stored as it should be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import one_op_files
import pytest
from random_graphs import TFLITE, Builder, interpret, random_codes, random_graph

from edgeq.core.errors import EdgeqError
from edgeq.integer import onnx_file, read_tflite, tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.rewrite import scales_behind_layers
from edgeq.integer.simulate import simulate
from edgeq.integer.write_onnx import write_onnx
from edgeq.integer.write_tflite import bits, write_tflite
from edgeq.runtimes import integer_kernels

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"


def test_a_portable_graph_is_one_function_on_every_tflite_runtime() -> None:
    alive = 0
    for seed in range(20):
        graph = random_graph(seed, portable=True)
        content, codes = write_tflite(graph), random_codes(graph, 16, seed)
        answers = [interpret(name, content, codes) for name in TFLITE]
        alive += len(np.unique(answers[0])) > 5  # a dead network would agree too
        for name, answer in zip(TFLITE, answers, strict=True):
            assert np.array_equal(answer, answers[0]), (seed, name)
    assert alive > 15


@pytest.mark.parametrize("width", [4, 8])
def test_an_ordinary_graph_runs_everywhere_and_stays_close(width: int) -> None:
    for seed in range(10):
        graph = random_graph(seed, bits=width)
        content, codes = write_tflite(graph), random_codes(graph, 16, seed)
        answers = np.stack([interpret(name, content, codes) for name in TFLITE]).astype(int)
        assert np.ptp(answers, axis=0).max() <= 16, seed  # each rounding is one step apart at most; several layers carry it on
        assert np.mean(np.ptp(answers, axis=0) > 1) < 0.2, seed


def test_what_is_in_the_file_is_what_was_in_the_graph() -> None:
    graph = random_graph(3, bits=4)
    content = write_tflite(graph, {"NOTE": b"hello"})
    model = tflite_file.parse(content, "m.tflite")
    assert content == write_tflite(random_graph(3, bits=4), {"NOTE": b"hello"})
    assert bytes(model.metadata["NOTE"]) == b"hello"
    for ours, theirs in zip(graph.tensors, model.tensors, strict=False):
        assert theirs.name == ours.name
        assert theirs.dtype == ours.dtype
        assert np.array_equal(theirs.scales, ours.scale)
        assert np.array_equal(theirs.zeros, ours.zero)
        if ours.data is not None:
            assert theirs.axis == ours.axis
            assert np.array_equal(theirs.codes(), ours.data)
        else:
            assert theirs.shape == (1, *ours.shape)


def test_constants_begin_at_multiples_of_sixteen() -> None:
    from ai_edge_litert import schema_py_generated as schema

    content = write_tflite(random_graph(0))
    model = schema.Model.GetRootAs(content, 0)
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in map(model.Buffers, range(model.BuffersLength())) if b.DataLength()]
    assert len(starts) > 5
    assert all(start % 16 == 0 for start in starts)


def test_the_file_states_its_true_bits() -> None:
    b = Builder(0)
    x = b.image()
    codes = b.rng.choice([-40, 0, 40], (4, 3, 3, 3))
    codes[0] = codes[0] // 40 * 7  # another step in every channel
    y = b.linear(x, "conv", weights=codes, out=(1.0, 127 - 3))
    y = b.linear(b.flat(y), "dense", 5, bits=4, activation="none", out=(0.1, 0))
    stated = json.loads(bytes(tflite_file.parse(write_tflite(b.done()), "m.tflite").metadata["edgeq"]))
    w1, w2 = (b.tensors[op.inputs[1]].name for op in b.ops if op.kind != "reshape")
    assert stated["weights"][w1] == {"levels": 3, "bits": 2, "stored": 8}
    assert stated["weights"][w2] == {"levels": 15, "bits": 4, "stored": 4}
    assert {"levels": 4, "bits": 2} in stated["activations"].values()


def test_four_bits_are_packed() -> None:
    def size(width: int) -> int:
        b = Builder(1)
        b.linear(b.flat(b.image((16, 16, 3))), "dense", 64, bits=width, activation="none", weights=b.rng.integers(-7, 8, (64, 768)))
        return len(write_tflite(b.done()))

    assert 24_000 < size(8) - size(4) <= 24_576  # half of 64 x 768


def test_weights_beyond_int4_are_refused() -> None:
    b = Builder(0)
    b.linear(b.image(), bits=4, weights=np.full((4, 3, 3, 3), 15))
    with pytest.raises(EdgeqError, match="do not fit INT4"):
        write_tflite(b.done())


def _weight_only() -> tuple[Graph, np.ndarray]:
    """DEQUANTIZE(scale 1) -> float dense -> MUL -> ADD on integer-valued weights: FINDINGS' form that TFLM computes rightly."""
    b = Builder(2)
    x = b.image((4, 4, 1))
    flat = b.flat(x)
    real = b.op("dequantize", (flat,), b.tensor((16,), dtype="float32"))
    codes = b.rng.integers(-7, 8, (5, 16))
    w = b.op("dequantize", (b.tensor((5, 16), 1.0, 0, "int8", codes),), b.tensor((5, 16), dtype="float32"))
    y = b.op("dense", (real, w, -1), b.tensor((5,), dtype="float32"), activation="none")
    scale = b.tensor((5,), dtype="float32", data=2.0 ** b.rng.integers(-4, 4, 5))
    y = b.op("mul", (y, scale), b.tensor((5,), dtype="float32"), activation="none")
    bias = b.tensor((5,), dtype="float32", data=b.rng.integers(-8, 8, 5))
    y = b.op("add", (y, bias), b.tensor((5,), dtype="float32"), activation="none")
    graph = b.done(x, y)
    images = random_codes(graph, 8)
    expected = (images.reshape(8, -1) + 128.0) @ codes.T / 256 * graph.tensors[scale].data + graph.tensors[bias].data
    return graph, expected.astype(np.float32)


@pytest.mark.parametrize("name", TFLITE)
def test_weights_alone_through_dequantize(name: str) -> None:
    graph, expected = _weight_only()
    assert np.array_equal(interpret(name, write_tflite(graph), random_codes(graph, 8)), expected)


def test_packed_dense_layers_run_everywhere() -> None:
    b = Builder(4)
    x = b.image()
    y = b.linear(b.flat(x), "dense", 6, bits=4, activation="relu", out=(0.1, -128))
    graph = b.done(x, b.linear(y, "dense", 5, bits=4, activation="none", out=(0.1, 0)))
    codes = random_codes(graph, 16)
    answers = np.stack([interpret(name, write_tflite(graph), codes) for name in TFLITE]).astype(int)
    assert len(np.unique(answers)) > 20
    assert np.ptp(answers, axis=0).max() <= 2
    unpacked = replace(graph, tensors=tuple(replace(t, dtype="int8") if t.dtype == "int4" else t for t in graph.tensors))
    assert np.abs(interpret("tflm", write_tflite(unpacked), codes) - answers[3]).max() == 0  # its formula is one for conv and dense


@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_scales_behind_layers_are_what_micro_needs(kind: str) -> None:
    b = Builder(11)
    x = b.image((4, 4, 2))
    real = b.op("dequantize", (x,), b.tensor((4, 4, 2), dtype="float32"))
    if kind == "dense":
        real = b.op("reshape", (real,), b.tensor((32,), dtype="float32"), shape=(32,))
    shape = {"conv": (6, 3, 3, 2), "depthwise": (1, 3, 3, 6), "dense": (6, 32)}[kind]
    stored = b.tensor(shape, 2.0 ** b.rng.integers(-9, -3, 6), 0, "int8", b.rng.integers(-127, 128, shape), 3 if kind == "depthwise" else 0)
    weights = b.op("dequantize", (stored,), b.tensor(shape, dtype="float32"))
    bias = b.tensor((6,), dtype="float32", data=b.rng.normal(size=6))
    options = {} if kind == "dense" else {"stride": (1, 1), "dilation": (1, 1), "padding": "same"}
    options |= {"multiplier": 3} if kind == "depthwise" else {}
    b.op(kind, (real, weights, bias), b.tensor((6,) if kind == "dense" else (4, 4, 6), dtype="float32"), activation="relu", **options)
    graph, codes = b.done(), random_codes(b.done(), 8)
    expected = interpret("litert-reference", write_tflite(graph), codes)
    safe = write_tflite(scales_behind_layers(graph))
    assert np.abs(interpret("tflm", write_tflite(graph), codes) - expected).max() > 0.1  # should TFLM be mended, this rewrite can go
    for name in TFLITE:
        assert interpret(name, safe, codes) == pytest.approx(expected, abs=1e-5)
    assert interpret("ort", write_onnx(graph), codes) == pytest.approx(expected, abs=1e-5)
    assert [*bits(graph)["weights"]] == [*bits(scales_behind_layers(graph))["weights"]] == [graph.tensors[stored].name]


def test_write_read_write_is_a_fixed_point() -> None:
    for seed in range(20):
        content = write_tflite(random_graph(seed, seed % 2 == 0, softmax=True, bits=4 + seed % 3 * 2), {"NOTE": b"hello"})
        model = tflite_file.parse(content, "m.tflite")
        metadata = {name: bytes(value) for name, value in model.metadata.items()}
        assert write_tflite(read_tflite.from_model(model), metadata) == content


@pytest.mark.parametrize("runtime", TFLITE)
def test_the_simulator_foretells_every_written_graph(runtime: str) -> None:
    for seed in range(20):
        graph = random_graph(seed, softmax=True)
        codes = random_codes(graph, 16, seed)
        given, told = interpret(runtime, write_tflite(graph), codes).astype(int), simulate(graph, codes, runtime)
        assert np.array_equal(given, told), seed


ALWAYS_IN_ONNX = {"conv", "depthwise", "dense", "average_pool", "max_pool", "pad", "reshape", "softmax", "quantize", "dequantize"}


@pytest.mark.parametrize("kind", sorted(one_op_files.MAKERS))
def test_every_op_is_written_as_it_was_read(kind: str) -> None:
    for seed in range(3):
        for dtype in ("int8",) if kind.endswith("4") else ("int8", "uint8"):
            given = one_op_files.make(kind, np.random.default_rng(seed), dtype)
            graph = read_tflite.from_model(tflite_file.parse(given, "m.tflite"))
            codes, written = random_codes(graph, 1, seed), write_tflite(graph)
            expected = interpret("litert-builtin", given, codes)
            assert np.array_equal(interpret("litert-builtin", written, codes), expected)
            try:
                content = write_onnx(graph)
            except EdgeqError:
                assert kind not in ALWAYS_IN_ONNX
                continue
            difference = interpret("ort", content, codes).astype(float) - interpret("litert-xnnpack", written, codes)
            assert np.abs(difference).max() <= (kind in ("mean", "quantize") or kind.endswith("4"))  # ties, and INT4 is not XNNPACK's


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the files beside the project are not here")
def test_a_converted_file_is_written_again_as_the_same_function() -> None:
    path = SHARED / "pretrainedResnet_quant.tflite"
    graph = read_tflite.read(path)
    codes = random_codes(graph, 16)
    for name in TFLITE:
        assert np.array_equal(interpret(name, write_tflite(graph), codes), interpret(name, path.read_bytes(), codes)), name
    flips = interpret("ort", write_onnx(graph), codes) != interpret("litert-xnnpack", path.read_bytes(), codes)
    assert flips.mean() < 0.02  # its residual sums have different scales, where the two add differently


# -- ONNX -------------------------------------------------------------------------------------------------------------------------------


def _same_on_ort(graph: Graph, seed: int = 0) -> np.ndarray:
    codes = random_codes(graph, 16, seed)
    answer = interpret("ort", write_onnx(graph), codes)
    assert np.array_equal(answer, interpret("litert-xnnpack", write_tflite(graph), codes))
    return answer


@pytest.mark.parametrize("portable", [False, True])
def test_onnx_runtime_computes_as_xnnpack_does(portable: bool) -> None:
    for seed in range(20):
        _same_on_ort(random_graph(seed, portable), seed)


def test_a_certified_range_of_codes_is_the_same_in_onnx() -> None:
    for activation, out in [("relu", (1.0, 127 - 15)), ("relu_n1_to_1", (1 / 8, 128 - 8)), ("relu6", (6 / 15, -128))]:
        b = Builder(5)
        x = b.image((7, 7, 3))
        y = b.linear(x, "conv", 6, activation=activation, out=out, multipliers=np.full(6, 5e-4 / out[0]))
        y = b.pool(b.pool(y, "average_pool", 3, 2, "same"), "max_pool", 2, 1)
        assert len(np.unique(_same_on_ort(b.done(x, y)))) > 8


def test_a_mean_over_all_pixels_and_softmax_in_onnx() -> None:
    b = Builder(6)
    x = b.image((8, 8, 3))
    y = b.linear(x, "conv", 6)
    t = b.tensors[y]
    y = b.op("mean", (y,), b.tensor((6,), float(t.scale[0]) / 2, -100), axes=(1, 2), keep=False)
    assert len(np.unique(_same_on_ort(b.done(x, y)))) > 10
    graph = b.done(x, b.softmax(b.linear(y, "dense", 5, out=(0.1, 0), activation="none")))
    codes = random_codes(graph, 16)
    ours, theirs = interpret("ort", write_onnx(graph), codes), interpret("litert-xnnpack", write_tflite(graph), codes)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert len(np.unique(theirs)) > 10


def test_weights_alone_in_onnx() -> None:
    graph, expected = _weight_only()
    assert np.array_equal(interpret("ort", write_onnx(graph), random_codes(graph, 8)), expected)


def test_the_kernels_of_the_onnx_are_integers(tmp_path: Path) -> None:
    b = Builder(7)
    x = b.image((8, 8, 3))
    y = b.linear(x, "conv", 4)
    y = b.add(b.linear(y, "depthwise", 1, out=(0.1, -128)), b.linear(y, "conv", 4, 1, out=(0.1, -128)))
    y = b.linear(b.flat(b.pool(y)), "dense", 5, activation="none", out=(0.1, 0))
    path = tmp_path / "m.onnx"
    path.write_bytes(write_onnx(b.done(x, y)))
    assert integer_kernels(path) == ({"QLinearConv": 4, "QLinearAdd": 1}, {})


def test_weights_are_int8_where_no_pair_of_products_overflows_16_bits() -> None:
    b = Builder(8)
    x = b.image()
    y = b.linear(x, "conv", out=(1.0, 127 - 15))
    y = b.linear(y, "conv")
    file = onnx_file.parse(write_onnx(b.done(x, y)), "m.onnx")
    convs = [op for op in file.ops if op.name == "QLinearConv"]
    assert [file.tensors[op.inputs[3]].dtype for op in convs] == ["uint8", "int8"]  # codes to 255, and to 15


def test_what_onnx_cannot_say_is_refused() -> None:
    b = Builder(9)
    x = b.image()
    b.op("logistic", (x,), b.like(x, (6, 6, 3)))
    with pytest.raises(EdgeqError, match="logistic has no integer form"):
        write_onnx(b.done())
