"""The proof that a network is one function everywhere: sound by brute force and on the kernels, and it names what breaks it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import one_op_files
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import TFLITE, Builder, interpret, random_codes, random_graph

from edgeq.integer import portable, read_tflite, tflite_file, thresholds
from edgeq.integer.agreement import agree, anything
from edgeq.integer.certify import certify_layer
from edgeq.integer.graph import Graph
from edgeq.integer.ops import Call, clamp_range, linear
from edgeq.integer.portable import Verdict, prove
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import simulate
from edgeq.integer.write_tflite import write_tflite

RESNET = Path(__file__).parents[2].parent / "shared/models/pretrainedResnet_quant.tflite"


def gives(graph: Graph, verdict: Verdict) -> dict[str, int]:
    """What the kernels' own functions make of the accumulator of a verdict's example."""
    d, op = verdict.difference, graph.ops[verdict.index]
    assert d is not None
    codes = {}
    for runtime in RUNTIMES:
        call = Call(op, tuple(graph.tensors[i] for i in op.inputs), graph.tensors[op.output], runtime)
        out = linear.requantisation(call)(np.full(call.output.shape[-1], d.accumulator))[d.channel] + int(call.output.zero[0])
        codes[runtime] = int(np.clip(out, *clamp_range(call)))
    return codes


def changed(graph: Graph, index: int, **fields: object) -> Graph:
    """With another tensor at ``index``."""
    tensors = list(graph.tensors)
    tensors[index] = replace(tensors[index], **fields)
    return replace(graph, tensors=tuple(tensors))


def test_portable_graphs_are_proven() -> None:
    for seed in range(25):
        assert prove(random_graph(seed, portable=True)).holds, seed


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_what_is_proven_is_so_in_the_interpreters(seed: int) -> None:
    pytest.importorskip("tflite_micro")
    graph = random_graph(seed, portable=True)
    assert prove(graph).holds
    codes, content = random_codes(graph, 100, seed), write_tflite(graph)
    first, *others = (interpret(name, content, codes) for name in TFLITE)
    assert len(np.unique(first)) > 10
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_ordinary_graphs_are_refused_with_an_accumulator_that_shows_it() -> None:
    shown = 0
    for seed in range(15):
        graph = random_graph(seed)
        proof = prove(graph)
        assert not proof.holds
        for verdict in proof.verdicts:
            if verdict.difference is not None and verdict.kind in ("conv", "depthwise", "dense"):
                shown += 1
                assert verdict.difference.codes == gives(graph, verdict)
                assert len(set(gives(graph, verdict).values())) > 1
                assert verdict.share < 1
    assert shown > 30


def _dense(rng: np.random.Generator, fan_in: int, channels: int, kind: str = "dense", dtype: str = "int8") -> Graph:
    """One layer whose channels are proven or not by chance: multipliers near or on powers of two, weights on coarse and fine grids."""
    b = Builder(int(rng.integers(2**31)))
    zero = int(rng.integers(-128, 128)) + 128 * (dtype == "uint8")
    x = b.image((fan_in,) if kind == "dense" else (2, 2, fan_in), 2.0**-4, zero, dtype)
    depth = channels // fan_in if kind == "depthwise" else channels
    multipliers = 2.0 ** rng.integers(-9, 1, channels) * np.where(rng.random(channels) < 0.5, 1, rng.uniform(0.5, 1, channels))
    shape = {"dense": (channels, fan_in), "conv": (channels, 1, 1, fan_in), "depthwise": (1, 1, 1, channels)}[kind]
    grid = rng.choice([1, 2, 4, 8, 32], channels)
    grid = grid if kind == "depthwise" else grid.reshape(-1, *[1] * (len(shape) - 1))
    weights = np.clip(rng.integers(-127, 128, shape) // grid * grid, -127, 127)
    activation = str(rng.choice(["none", "relu", "relu6", "relu_n1_to_1"]))
    out = float(rng.choice([2.0**-4, 1.0, 0.3])), int(rng.integers(-128, 128))
    kernel = {} if kind == "dense" else {"kernel": 1}
    b.linear(
        *(x, kind, depth),
        weights=weights,
        multipliers=multipliers,
        bias=rng.integers(-300, 300, channels),
        activation=activation,
        out=out,
        **kernel,
    )
    return b.done()


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["conv", "depthwise", "dense"]))
def test_the_search_is_brute_force(seed: int, kind: str) -> None:
    """The share of proven channels is that of trying every accumulator of the lattice."""
    rng = np.random.default_rng(seed)
    channels = {"conv": 5, "depthwise": 10, "dense": 5}[kind]
    graph = _dense(rng, 2, channels, kind)
    (verdict,), x, op = prove(graph).verdicts, graph.tensors[graph.input], graph.ops[0]
    rows = graph.tensors[op.inputs[1]].data.astype(int)
    rows = rows.reshape(-1, channels).T if kind == "depthwise" else rows.reshape(channels, -1)
    bias, codes = graph.tensors[op.inputs[2]].data.astype(int), np.arange(-128, 128) - int(x.zero[0])
    calls = [Call(op, tuple(graph.tensors[i] for i in op.inputs), graph.tensors[op.output], r) for r in RUNTIMES]
    same = 0
    for c, row in enumerate(rows):
        ends = np.sort([row * codes[0], row * codes[-1]], axis=0).sum(axis=1) + bias[c]
        acc = np.arange(ends[0], ends[1] + 1, max(1, np.gcd.reduce(row)))
        wide = np.repeat(acc[:, None], channels, axis=1)
        zero = int(graph.tensors[op.output].zero[0])
        answers = [np.clip(linear.requantisation(k)(wide)[:, c] + zero, *clamp_range(k)) for k in calls]
        same += all(np.array_equal(answers[0], a) for a in answers[1:])
    assert verdict.share == same / channels
    assert verdict.proven == (same == channels)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["int8", "uint8"]))
def test_every_input_of_a_small_layer(seed: int, dtype: str) -> None:
    """Two inputs have 65,536 values: all of them, through the simulator; and what comes out is among the codes said to occur."""
    graph = _dense(np.random.default_rng(seed), 2, 1)
    if dtype == "uint8":
        for i in (graph.input, graph.ops[0].inputs[1], graph.ops[0].output):
            t = graph.tensors[i]
            graph = changed(
                graph,
                i,
                dtype="uint8",
                zero=t.zero + 128,
                data=None if t.data is None else (t.data.astype(np.int16) + 128).astype(np.uint8),
            )
    proof, (op,) = prove(graph), graph.ops
    calls = [Call(op, tuple(graph.tensors[i] for i in op.inputs), graph.tensors[op.output], r) for r in RUNTIMES]
    said = agree(calls, [anything(graph.tensors[graph.input]), None, None]).state
    a, b = np.divmod(np.arange(65536), 256)
    images = (np.stack([a, b], axis=1) + np.iinfo(dtype).min).astype(dtype)
    first, *others = (simulate(graph, images, r, chunk=65536) for r in RUNTIMES)
    if proof.holds:
        assert all(np.array_equal(first, o) for o in others)
    assert np.isin(np.concatenate([first, *others]), said).all()


@pytest.mark.parametrize("kind", list(one_op_files.MAKERS))
def test_ops_of_every_kind(kind: str) -> None:
    """What is proven is equal in the simulator; and an example of a function of one code or two is one."""
    proven = 0
    for seed in range(12):
        dtype, rng = ("int8", "uint8")[seed % 2], np.random.default_rng([seed, 5])
        if kind.endswith("4") and dtype == "uint8":
            continue
        graph = read_tflite.from_model(tflite_file.parse(one_op_files.make(kind, rng, dtype), "one.tflite"))
        (verdict,) = prove(graph).verdicts
        images = random_codes(graph, 40, seed)
        answers = {r: simulate(graph, images, r) for r in RUNTIMES}
        if verdict.proven:
            proven += 1
            assert all(np.array_equal(a, answers["tflm"]) for a in answers.values()), seed
        if verdict.difference is not None and len(verdict.difference.inputs) == 1:
            at = simulate(graph, np.full((1, *images.shape[1:]), verdict.difference.inputs[0], dtype), "tflm")
            assert verdict.difference.codes["tflm"] in at
    never = ("softmax", "mean", "resize_bilinear")
    always = ("average_pool", "max_pool", "minimum", "maximum", "pad", "reshape", "transpose", "strided_slice", "concatenation")
    assert kind not in never or proven == 0
    assert kind not in always or proven == 12


def _portable(
    bias: int = 1, weight: int = 4, multiplier: float = 2.0**-6, branch: float = 2.0**-4, softmax: bool = False, zero: int = 0
) -> Graph:
    """conv, conv, add, average pool, reshape, dense; channel 2 of the second conv has one weight, bias and multiplier as said."""
    b = Builder(1, portable=True)
    image = b.image()
    x = b.linear(image, "conv", 4, out=(2.0**-4, -128))
    weights = 4 * b.rng.integers(-9, 10, (4, 3, 3, 4))
    weights[2, 1, 1, 0] = weight
    multipliers = np.array([2.0**-6, 2.0**-7, multiplier, 2.0**-6])
    y = b.linear(x, "conv", 4, out=(branch, 3), activation="none", weights=weights, multipliers=multipliers, bias=np.array([1, 2, bias, 1]))
    last = b.pool(b.add(x, y, (2.0**-4, zero)), "average_pool")
    last = b.linear(b.flat(last), "dense", 5, activation="none", out=(0.125, 0))
    return b.done(image, b.softmax(last) if softmax else last)


@pytest.mark.parametrize(
    ("change", "op", "channel"),
    [
        ({"weight": 2, "bias": 2}, 1, 2),
        ({"weight": 3}, 1, 2),
        ({"bias": 0}, 1, 2),
        ({"bias": 3}, 1, 2),
        ({"multiplier": 1.1 * 2.0**-6}, 1, 2),
        ({"multiplier": 3 * 2.0**-8}, 1, 2),
        ({"branch": 2.0**-5}, 2, None),
        ({"branch": 2.0**-4 * 1.37}, 2, None),
    ],
    ids=str,
)
def test_each_way_to_break_a_portable_graph_is_named(change: dict[str, float], op: int, channel: int | None) -> None:
    graph = _portable(**change)  # type: ignore[arg-type]
    proof = prove(graph)
    first = proof.first
    assert first is not None
    assert first.index == op
    assert first.difference is not None
    assert first.difference.channel == channel
    assert [v.proven for v in proof.verdicts] == [i != op for i in range(6)]
    assert f"not proven: op {op} ({'conv' if op == 1 else 'add'} {graph.tensors[graph.ops[op].output].name}) gives " in str(proof)
    if op == 1:
        assert first.share == 0.75
        assert gives(graph, first) == first.difference.codes
        assert f"where its accumulator is {first.difference.accumulator} in channel 2" in str(proof)


def test_what_the_proof_says() -> None:
    assert prove(_portable()).holds
    assert str(prove(_portable())).startswith("proven: the same answer on litert-xnnpack, ")
    proof = prove(_portable(softmax=True))
    assert not proof.holds
    assert proof.first is not None
    assert proof.first.kind == "softmax"
    assert str(proof).startswith("proven up to the softmax: the same on ")
    assert str(prove(_portable(softmax=True, bias=0))).startswith("not proven: op 1 (conv ")
    said = json.loads(json.dumps(prove(_portable(bias=0)).to_json()))
    assert (said["holds"], said["verdicts"][1]["share"], said["verdicts"][0]["reason"]) == (False, 0.75, None)
    assert set(said["verdicts"][1]["difference"]["codes"]) == set(RUNTIMES)


def test_only_the_runtimes_asked_for_count() -> None:
    assert not prove(_portable(bias=0)).holds
    assert prove(_portable(bias=0), ("litert-reference", "tflm")).holds
    assert prove(_portable(bias=0), ("litert-reference", "tflm")).runtimes == ("litert-reference", "tflm")


def test_equal_scales_with_a_sum_that_only_the_clamp_saves() -> None:
    """Runtimes round halves below zero apart: what a clamp at zero hides is proven, and what it does not is not."""
    assert prove(_portable(branch=2.0**-5, zero=-128)).holds
    assert not prove(_portable(branch=2.0**-5, zero=-100)).holds


def test_the_builtin_depthwise_kernel_rounds_whole_blocks_its_own_way() -> None:
    b = Builder()
    x = b.image((4, 4, 9), 1.0, 0)
    b.linear(
        *(x, "depthwise", 1),
        weights=np.ones((1, 3, 3, 9), int),
        multipliers=np.full(9, 0.25),
        bias=np.zeros(9, int),
        activation="none",
        out=(1.0, 0),
    )
    (verdict,) = prove(b.done(), ("litert-builtin", "litert-reference")).verdicts
    assert verdict.share == pytest.approx(1 / 9)
    assert verdict.difference is not None
    assert verdict.difference.channel == 0


def test_low_bit_layers_are_proven_from_the_levels_that_reach_them() -> None:
    """A certified 3-bit layer is proven in at least the channels that its certificate states; the naive export is not."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-3, 4, (24, 3, 3, 8))
    spread = np.sqrt(np.square(weights).sum((1, 2, 3)) * 17.5)
    steps = spread * rng.uniform(1, 3, 24) / 7
    cuts = np.ceil((np.arange(7) + 0.5 - 7 * rng.uniform(-0.3, 0.5, (24, 1))) * steps[:, None]).astype(np.int64)
    certificate = certify_layer(weights, cuts, (0, 7))
    naive = np.rint((0.5 - cuts[:, 0] / steps) * steps).astype(np.int64)
    for stored, scale, bias, proven in [
        (certificate.weights, certificate.scale.astype(float), certificate.bias, certificate.share),
        (weights, 1 / steps, naive, 0),
    ]:
        b = Builder(0, portable=True)
        x = b.linear(b.image(), "conv", 8, out=(1.0, 120))
        b.linear(x, "conv", 24, weights=stored, multipliers=scale, bias=bias, out=(1.0, 120))
        first, second = prove(b.done()).verdicts
        assert first.proven
        assert second.share >= proven
        assert (second.share > 0.95) == (proven > 0)


@pytest.mark.parametrize(("levels", "least", "most"), [(1, 1, 1), (255, 0, 0.2)])
def test_what_cannot_reach_a_layer_does_not_count(levels: int, least: float, most: float) -> None:
    """An ordinary layer is proven where its inputs leave only few accumulators."""
    b = Builder(0, portable=True)
    x = b.linear(b.image((4, 4, 1)), "conv", 2, kernel=1, out=(1.0, 127 - levels))
    multipliers = b.rng.uniform(0.004, 0.008, 10)
    b.linear(x, "conv", 10, kernel=1, multipliers=multipliers, activation="none", out=(1.0, 0))
    first, second = prove(b.done()).verdicts
    assert first.proven
    assert least <= second.share <= most


def test_accumulators_that_leave_32_bits_are_not_proven() -> None:
    for multiplier, bias in [(2.0**-10, 2**31 - 1), (2.0**7, 2**24 + 1)]:
        b = Builder()
        x = b.image((4,), 1.0, 0)
        multipliers = np.array([2.0**-9, multiplier])
        b.linear(x, "dense", 2, weights=np.full((2, 4), 4), multipliers=multipliers, bias=np.array([1, bias]), out=(1.0, 0))
        first = prove(b.done()).first
        assert first is not None
        assert "in channel 1, too large for 32 bits" in str(first)
        assert first.share == 0.5


def _tail(
    scale: float = 1.0, weights: float = 1.0, window: int = 4, fan_in: int = 8, zero: int = -5, real: float = 1.0, channels: bool = False
) -> Graph:
    """DEQUANTIZE, MEAN, dense over dequantised weights, MUL and ADD by constants."""
    b = Builder(0)
    rng, x = b.rng, b.image((window, window, fan_in), scale, zero)
    last = b.op(
        "mean",
        (b.op("dequantize", (x,), b.tensor((window, window, fan_in), dtype="float32")),),
        b.tensor((fan_in,), dtype="float32"),
        axes=(1, 2),
        keep=False,
    )
    stored = b.tensor((5, fan_in), np.full(5, weights) if channels else weights, 0, "int8", rng.integers(-100, 100, (5, fan_in)))
    floats = b.op("dequantize", (stored,), b.tensor((5, fan_in), dtype="float32"))
    bias = b.tensor((5,), dtype="float32", data=rng.integers(-9, 9, 5) * real)
    last = b.op("dense", (last, floats, bias), b.tensor((5,), dtype="float32"), activation="none")
    for kind in ("mul", "add"):
        last = b.op(
            kind, (last, b.tensor((5,), dtype="float32", data=rng.uniform(0, 1, 5))), b.tensor((5,), dtype="float32"), activation="relu"
        )
    return b.done(x)


def test_float_tails_over_integers() -> None:
    assert prove(_tail()).holds
    assert prove(_tail(scale=0.25, weights=2.0**-7)).holds
    for graph, kind, reason in [
        (_tail(scale=0.1), "dequantize", "gives "),
        (_tail(scale=0.1, zero=0), "mean", "adds up floats"),
        (_tail(weights=0.1), "dense", "adds up floats"),
        (_tail(real=0.1), "dense", "adds up floats"),
        (_tail(fan_in=3000), "dense", "adds up floats"),
        (_tail(window=3), "mean", "divides a sum of floats by 9"),
        (_tail(channels=True), "dequantize", "tflm takes the first one for all"),
    ]:
        first = prove(graph).first
        assert first is not None
        assert first.kind == kind
        assert reason in str(first)
    assert prove(_tail(channels=True), RUNTIMES[:3]).holds


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_proven_float_tail_is_equal_in_the_interpreters(runtime: str) -> None:
    if runtime == "tflm":
        pytest.importorskip("tflite_micro")
    graph = _tail(scale=0.25, weights=2.0**-7)
    codes = random_codes(graph, 20)
    np.testing.assert_array_equal(interpret(runtime, write_tflite(graph), codes), simulate(graph, codes, "litert-reference"))


def test_float_inputs_are_quantised_apart() -> None:
    b = Builder()
    x = b.tensor((4, 4, 1), dtype="float32")
    b.op("quantize", (x,), b.tensor((4, 4, 1), 1 / 255, -128))
    graph = b.done(x)
    first = prove(graph).first
    assert first is not None
    assert first.difference is not None
    image = np.full((1, 4, 4, 1), first.difference.inputs[0], np.float32)
    for runtime, code in first.difference.codes.items():
        assert (simulate(graph, image, runtime) == code).all()


def test_types_that_are_not_followed() -> None:
    for dtype, scale in [("int16", 0.1), ("int32", None)]:
        b = Builder()
        x = b.image((4,))
        b.op("quantize", (x,), b.tensor((4,), scale, 0, dtype))
        assert f"computes with {dtype} and int8, which is not followed" in str(prove(b.done()))
    graph = _portable()
    bias = graph.ops[0].inputs[2]
    assert "op 0 (conv t3) has weights or a bias that are computed" in str(prove(changed(graph, bias, data=None)))


def test_work_and_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portable, "WORK", 1100)
    proof = prove(_portable())
    assert [v.reason is not None and "too large" in v.reason for v in proof.verdicts] == [False] + [True] * 5
    whole = prove(random_graph(5))
    monkeypatch.undo()
    assert not whole.holds
    graph = random_graph(5)
    before = prove(graph)
    monkeypatch.setattr("edgeq.integer.agreement.BLOCK", 3)
    assert prove(graph) == before, "no verdict depends on how many channels are looked at together"


def test_a_step_of_the_lattice_counts_the_codes_in_between() -> None:
    """Inputs of -1 and +1, as a sign gives them: two weights of 2 reach accumulators 4 apart."""
    points = thresholds.lattice(np.array([[2, -2]], np.int16), np.array([1]), np.array([-1, 1]))
    assert (int(points.lowest[0]), int(points.step[0]), int(points.count[0])) == (-3, 4, 2)
    padded = thresholds.lattice(np.array([[2, -2]], np.int16), np.array([1]), np.array([-1, 1, 0]))
    assert (int(padded.lowest[0]), int(padded.step[0]), int(padded.count[0])) == (-3, 2, 4)


@pytest.mark.shared
@pytest.mark.skipif(not RESNET.exists(), reason="the models beside the project are absent")
def test_mlperf_resnet_is_refused_at_its_first_convolution() -> None:
    graph = read_tflite.read(RESNET)
    start = time.process_time()
    proof = prove(graph)
    assert time.process_time() - start < 10
    assert proof.first is not None
    assert proof.first.index == 0
    assert len(set(gives(graph, proof.first).values())) == 2
    assert gives(graph, proof.first) == proof.first.difference.codes  # type: ignore[union-attr]
    assert not any(v.proven for v in proof.verdicts if v.kind in ("conv", "dense"))
