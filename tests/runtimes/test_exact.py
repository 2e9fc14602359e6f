"""``tflm-exact``: bit by bit the simulator and the interpreter, and a refusal where that is not known."""

from pathlib import Path

import numpy as np
import one_op_files
import pytest
import random_graphs
import tiny_tflite

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.integer import read_tflite, tflite_file
from edgeq.integer.ops import Call
from edgeq.integer.rounding import double_rounding, quantised_multiplier
from edgeq.integer.simulate import simulate
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import _exact as exact

SHARED = Path(__file__).parents[2].parent / "shared"


def run(graph, images):
    values = {i: t.data for i, t in graph.constants()} | {graph.input: images}
    for op, step in zip(graph.ops, exact.steps(graph), strict=True):
        values[op.output] = step(*(values[i] if i >= 0 else None for i in op.inputs))
    return values


@pytest.mark.parametrize("seed", range(12))
def test_every_tensor_of_random_graphs_is_the_simulators(seed):
    graph = random_graphs.random_graph(seed)
    images = random_graphs.random_codes(graph, 6, seed)
    want, got = simulate(graph, images, "tflm", keep=True), run(graph, images)
    for tensor, value in want.items():
        assert got[tensor].dtype == value.dtype
        np.testing.assert_array_equal(got[tensor], value, err_msg=graph.tensors[tensor].name)


def test_random_graphs_take_the_short_cuts():
    taken = set()
    for seed in range(12):
        graph = random_graphs.random_graph(seed)
        for op in graph.ops:
            call = Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), graph.tensors[op.output], "tflm")
            taken |= {op.kind} if exact._linear(call) or exact._table(call) else set()
    assert taken >= {"conv", "depthwise", "dense", "add"}


KINDS = [k for k in one_op_files.MAKERS if k not in ("dequantize", "quantize")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_op_is_the_simulators(kind):
    short = 0
    for seed in range(12):
        rng = np.random.default_rng([seed, 3])
        graph = read_tflite.from_model(tflite_file.parse(one_op_files.make(kind, rng), "one.tflite"))
        given = graph.tensors[graph.input]
        images = rng.integers(-128, 128, (7, *given.shape)).astype(np.int8)
        np.testing.assert_array_equal(run(graph, images)[graph.output], simulate(graph, images, "tflm"), err_msg=f"seed {seed}")
        op = graph.ops[0]
        call = Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), graph.tensors[op.output], "tflm")
        short += (exact._linear(call) or exact._table(call)) is not None
    if kind in ("conv", "depthwise", "dense", "tanh", "hard_swish"):
        assert short >= 6, "the short cuts are what is tested"


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_two_roundings_in_one_floor_at_every_threshold(activation):
    """Accumulators beside every threshold, and those that end on a half of either rounding, where float64 has no bit to spare."""
    rng = np.random.default_rng(0)
    for shift in range(25):
        real = 2.0**-shift * np.append(rng.uniform(0.5, 1, 20), [0.5, 0.75, 1 - 2.0**-24, 0.5 + 2.0**-24])
        channels = len(real)
        graph = random_graphs.Builder()
        x, y = graph.tensor((4,), 1.0, 0), graph.tensor((channels,), 1.0, 5)
        w = graph.tensor((channels, 4), real.astype(np.float32), data=np.ones((channels, 4)))
        graph.op("dense", (x, w, -1), y, activation=activation)
        call = Call(graph.ops[0], (graph.tensors[x], graph.tensors[w], None), graph.tensors[y], "tflm")
        finish = exact._requantise(call, channels)
        assert finish is not None
        m = np.float64(graph.tensors[w].scale)
        level = np.arange(-140, 141)[:, None, None] - np.array([0, 0.5])[None, :, None]
        near = np.rint(level[..., None] / m[:, None]) + np.arange(-3, 4)  # (levels, 2, 1, channels, 7)
        acc = np.moveaxis(near, -1, 0).reshape(-1, channels)
        acc = acc[(np.abs(acc) < 2**24).all(axis=1)]
        low = 5 if activation == "relu" else -128
        want = np.clip(double_rounding(acc.astype(np.int64), *quantised_multiplier(m)) + 5, low, 127)
        np.testing.assert_array_equal(finish(acc.astype(np.float32)), want, err_msg=f"shift {shift}")


def test_multipliers_that_float64_does_not_hold_are_left_to_the_simulator():
    graph = random_graphs.Builder()
    x, y = graph.tensor((4,), 1.0, 0), graph.tensor((3,), 1.0, 0)
    w = graph.tensor((3, 4), np.full(3, 2.0**-28), data=np.ones((3, 4)))
    graph.op("dense", (x, w, -1), y, activation="none")
    call = Call(graph.ops[0], (graph.tensors[x], graph.tensors[w], None), graph.tensors[y], "tflm")
    assert exact._linear(call) is None


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"label": True}])
def test_what_is_not_exact_is_refused(options, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(**options))
    with pytest.raises(EdgeqError, match=r"m\.tflite: .*(not exact|it is no op of the integer graph).*; take --runtime tflm$"):
        runtimes.probe("tflm-exact", path)


def both(path, n, threads):
    """Answers of the stand-in (with ``threads``) and of the interpreter to ``n`` random images."""
    signature = runtimes.probe("tflm-exact", path)
    assert signature == runtimes.probe("tflm", path)
    h, w, c = signature.input.shape
    codes = codes_for(signature.input, Preprocess((h, w), c, mean=(0.0,), std=(255.0,)), "m")
    images = np.random.default_rng(1).integers(0, 256, (n, h, w, c), dtype=np.uint8)
    answers = []
    for name in ("tflm-exact", "tflm"):
        target = runtimes.open(name, path, signature, codes, threads=threads if name == "tflm-exact" else None)
        answers.append(target.answer(images))
        assert {"engine", "version", "kernels", "cpu", "argmax"} <= target.identity().keys()
        target.close()
    return answers


@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_the_interpreter(threads, tmp_path):
    pytest.importorskip("tflite_micro")
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(c=3, seed=8))
    mine, its = both(path, 101, threads)
    np.testing.assert_array_equal(mine.raw, its.raw)
    assert (mine.kind, mine.scale, mine.zero) == (its.kind, its.scale, its.zero)
    assert len(np.unique(mine.raw, axis=0)) > 20


@pytest.mark.shared
def test_it_is_the_interpreter_on_a_real_network():
    pytest.importorskip("tflite_micro")
    path = SHARED / "models/pretrainedResnet_quant.tflite"
    if not path.exists():
        pytest.skip("../shared/models is not there")
    mine, its = both(path, 100, None)
    np.testing.assert_array_equal(mine.raw, its.raw)
