"""Value shift: what is swallowed, moved, flat and saturated, by hand on one layer; and values before rounding against the codes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import random_graphs
from random_graphs import Builder, random_codes, random_graph
from toy_runs import toy_run

from edgeq.core.answer import Answer
from edgeq.core.cell import Cell
from edgeq.core.jsonable import as_json
from edgeq.core.rows import Rows
from edgeq.integer.graph import Graph
from edgeq.integer.ops import Call, linear, quantisation, to_codes
from edgeq.integer.ops import clamp_range as clamp
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import simulate
from edgeq.measure.value_shift import LAYERS, Line, Network, Shift, _Op, _rounds, count, lines, measure, shift
from edgeq.pipeline.codes import PixelCodes
from edgeq.runs.store import Run


def one_pixel(activation: str = "none", out: tuple[float, int] = (1.0, 0), multiplier: float = 0.25) -> Graph:
    """A code ``q`` becomes ``clamp(zero + round(multiplier (q + bias)))``; input scale 1, zero 0."""
    b = Builder()
    x = b.image((1, 1, 1), 1.0, 0)
    b.linear(x, "conv", 1, 1, activation=activation, out=out, weights=np.ones((1, 1, 1, 1)), multipliers=[multiplier], bias=np.zeros(1))
    return b.done(x)


def lines_of(graph: Graph, clean: np.ndarray, changed: np.ndarray) -> list[Line]:
    """Of input codes."""
    network = Network(graph, "litert-xnnpack", pixels(graph))
    kept = (simulate(graph, codes, network.runtime, keep=True) for codes in (clean, changed))
    return list(lines(network, count(network, *kept).sum(0)))


def shift_of(graph: Graph, pairs: list[tuple[int, int]]) -> Line:
    clean, changed = (np.array(v, np.int8).reshape(-1, 1, 1, 1) for v in zip(*pairs, strict=True))
    (line,) = lines_of(graph, clean, changed)
    assert line.changed == line.flat + line.moved + line.swallowed
    return line


def test_one_layer_by_hand() -> None:
    line = shift_of(one_pixel(), [(8, 8), (8, 9), (8, 11), (-8, -12), (7, 8)])
    assert (line.elements, line.changed) == (5, 4)
    assert line.swallowed == 2  # 8 and 9 are both 2; 7 is 1.75, which is 2, too
    assert line.moved == 2  # to 3, and from -2 to -3
    assert (line.flat, line.saturated) == (0, 0)
    assert line.before == pytest.approx((1 + 3 + 4 + 1) / 4 / 5)
    assert line.after == pytest.approx(2 / 5)
    assert line.to_json()["swallowed_share"] == 0.5


def test_what_a_relu_does_is_not_quantisations_doing() -> None:
    pairs = [(-8, -4), (-4, -8), (-1, 1), (-4, 8), (1, 2)]
    line = shift_of(one_pixel("relu", (1.0, -128)), pairs)
    assert (line.changed, line.flat, line.swallowed, line.moved) == (5, 2, 2, 1)  # -1 to 1 leaves the flat part, and is rounded away
    assert line.before == pytest.approx((0 + 0 + 0.25 + 2 + 0.25) / 5)
    linear_line = shift_of(one_pixel("none"), pairs)
    assert (linear_line.flat, linear_line.moved) == (0, 3)


def test_codes_that_ran_out_swallow_and_a_true_ceiling_is_flat() -> None:
    two_bits = one_pixel("relu", (1.0, 124))  # codes 124 to 127: four levels
    line = shift_of(two_bits, [(16, 40), (4, 8), (8, 120), (-3, -9)])
    assert (line.changed, line.flat, line.moved, line.swallowed, line.saturated) == (4, 1, 2, 1, 1)
    assert line.before == pytest.approx((6 + 1 + 28 + 0) / 4)  # the float network's ReLU knows no ceiling
    assert line.after == pytest.approx((0 + 1 + 1 + 0) / 4)
    ceiling = shift_of(one_pixel("relu6", (1.0, 0)), [(40, 80), (4, 8)])  # 6 is code 6: far from the last
    assert (ceiling.flat, ceiling.saturated, ceiling.moved) == (1, 0, 1)
    at_the_end = shift_of(one_pixel("relu6", (6 / 3, 124)), [(40, 80), (4, 8)])  # 6 is the last code
    assert (at_the_end.flat, at_the_end.saturated) == (0, 1)
    sign = shift_of(one_pixel("relu_n1_to_1", (1.0, 0), 1.0), [(-3, -1), (-1, 1), (5, 3)])
    assert (sign.flat, sign.moved) == (2, 1)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_accumulators_are_what_the_runtime_requantises(runtime: str) -> None:
    layers = 0
    for seed in range(12):
        graph = random_graph(seed, bits=8 if seed % 2 else 4)
        kept = simulate(graph, random_codes(graph, 3, seed), runtime, keep=True)
        for op in graph.ops:
            if op.kind not in LAYERS:
                continue
            call = Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), graph.tensors[op.output], runtime)
            acc = linear.accumulator(call)(kept[op.inputs[0]])
            assert acc.dtype == np.int32
            codes = to_codes(linear.requantisation(call)(acc), quantisation(call.output)[1], *clamp(call), call.output.dtype)
            np.testing.assert_array_equal(codes.reshape(kept[op.output].shape), kept[op.output])
            layers += 1
    assert layers > 30


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_value_before_rounding_is_half_a_step_from_the_code(runtime: str) -> None:
    """At most: so it is the value that was rounded. Two roundings and fixed-point sums are a little further off."""
    seen = set()
    for seed in range(20):
        graph = random_graph(seed, softmax=seed % 3 == 0)
        kept = simulate(graph, random_codes(graph, 3, seed), runtime, keep=True)
        for op in graph.ops:
            if not _rounds(graph, op):
                assert op.kind in ("max_pool", "reshape", "pad")
                continue
            one = _Op(graph, op, runtime)
            inputs = [kept.get(i, one.constants.get(i)) if i >= 0 else None for i in op.inputs]
            value = np.clip(one.value(*inputs).reshape(kept[op.output].shape), one.low, one.high)
            code = kept[op.output].astype(float) - quantisation(one.call.output)[1]
            slack = 0.51 if runtime == "litert-xnnpack" and op.kind != "softmax" else 0.6
            assert np.abs(value - code).max() < slack, (seed, op.kind)
            seen.add(op.kind)
    assert {"conv", "depthwise", "dense", "add", "average_pool", "softmax"} <= seen


def test_ops_of_one_code_and_means_have_values_too() -> None:
    b = Builder()
    x = b.image((4, 4, 2), 0.05, 3)
    last = x
    for kind in ("tanh", "relu", "logistic", "hard_swish"):
        last = b.op(kind, (last,), b.tensor((4, 4, 2), 1 / 50, -20))
    last = b.op("leaky_relu", (last,), b.tensor((4, 4, 2), 1 / 90, -10), alpha=0.2)
    last = b.op("mul", (last, last), b.tensor((4, 4, 2), 1 / 100, -100), activation="none")
    last = b.op("quantize", (last,), b.tensor((4, 4, 2), 1 / 60, 0))
    last = b.op("mean", (last,), b.tensor((2,), 1 / 200, 0), axes=(1, 2), keep=False)
    graph = b.done(x, last)
    codes = random_codes(graph, 40)
    kept = simulate(graph, codes, "litert-xnnpack", keep=True)
    for op in graph.ops:
        one = _Op(graph, op, "litert-xnnpack")
        value = np.clip(one.value(*(kept[i] for i in op.inputs)), one.low, one.high)
        code = kept[op.output].astype(float) - quantisation(one.call.output)[1]
        assert np.abs(value - code).max() <= 1.01, op.kind  # XNNPACK's own approximations of 8 fractional bits
    by_kind = {line.kind: line for line in lines_of(graph, codes, np.roll(codes, 1, axis=1))}
    assert by_kind["mean"].changed == by_kind["mean"].after == 0  # a rolled image has the same mean, down to float64's own rounding
    assert by_kind["relu"].flat > 0
    assert all(line.moved > 0 for line in by_kind.values() if line.kind != "mean")


def test_fewer_levels_swallow_more() -> None:
    """One layer at 8, 4, 3, 2 and 1 bits of activation, each level spread over the same range."""
    rng = np.random.default_rng(0)
    weights, codes = rng.integers(-127, 128, (8, 3, 3, 3)), rng.integers(-120, 120, (20, 8, 8, 3)).astype(np.int8)
    nudged = codes + rng.integers(-1, 2, codes.shape).astype(np.int8)
    shares = []
    for bits in (8, 4, 3, 2, 1):
        b, top = Builder(), 2**bits - 1
        x = b.image((8, 8, 3), 1.0, 0)
        b.linear(x, "conv", 8, weights=weights, bias=np.zeros(8), multipliers=np.full(8, top / 40_000), out=(1.0, 127 - top))
        (line,) = lines_of(b.done(x), codes, nudged)
        assert line.flat > 0.3 * line.changed
        shares.append(line.swallowed / (line.changed - line.flat))
    assert shares == sorted(shares)
    assert shares[0] < 0.4 < 0.9 < shares[-1]


def pixels(graph: Graph) -> PixelCodes:
    given = graph.tensors[graph.input]
    table = np.repeat(np.arange(-128, 128, dtype=np.int8)[:, None], given.shape[2], axis=1)
    return PixelCodes(table, -128, table.astype(np.float32))


class Simulated:
    name, batch = "simulated", 8

    def __init__(self, graph: Graph, runtime: str) -> None:
        self.graph, self.runtime, self.codes = graph, runtime, pixels(graph)

    def answer(self, images: np.ndarray) -> Answer:
        return Answer("logits", simulate(self.graph, self.codes.encode(images), self.runtime), 0.1)


def test_figures_of_a_run_count_both_changes_and_whose_answer_it_is(tmp_path) -> None:
    graph = random_graphs.random_graph(3)
    shape = graph.tensors[graph.input].shape
    images = np.random.default_rng(0).integers(8, 240, (70, *shape), dtype=np.uint8)
    target = Simulated(graph, "litert-xnnpack")
    rows = Rows(np.arange(70), target.answer(images).label())
    noise, other = (Cell(at, "noise", {}, "linf", 2 / 255, kind="noise") for at in (1, 2))

    def of(runtime: str) -> Shift:
        network = Network(graph, runtime, pixels(graph))
        with toy_run(tmp_path / f"{runtime}.sqlite", {"t": target}, rows, images, [noise, other]) as run:
            for cell in (noise, other):
                for start in range(0, 70, 32):
                    index = np.arange(start, min(start + 32, 70))
                    raw = run.scores(0, "t", index), run.scores(cell.cell, "t", index)
                    run.add_measurements(cell.cell, index, measure(network, images[index], run.candidates(cell.cell, index), raw))
            return shift(run, "t", network, "nothing", other, noise)

    found = of("litert-xnnpack")
    assert (found.unequal, found.clean.share, found.pixels) == (0, 1.0, 2)
    assert found.adversarial == found.noise  # the same noise in both cells
    assert all(line.elements == 70 * np.prod(graph.tensors[graph.ops[line.index].output].shape) for line in found.noise.lines)
    assert sum(line.swallowed for line in found.noise.lines) > 0
    assert found.skipped + len(found.noise.lines) == len(graph.ops)
    with Run.open(tmp_path / "litert-xnnpack.sqlite") as run:
        changed = run.candidates(1, np.arange(70))
    assert found.noise.robust.k == (~target.answer(changed).fooled(rows.labels)).sum()
    json.dumps(as_json(found), allow_nan=False)
    wrong = [(simulate(graph, pixels(graph).encode(x), "tflm") != target.answer(x).raw).any(1).sum() for x in (images, changed)]
    assert of("tflm").unequal == wrong[0] + 2 * wrong[1]
    assert wrong[0] > 0


def test_images_that_do_not_change_change_nothing() -> None:
    graph = random_graph(3)
    codes = random_codes(graph, 5)
    assert all(line.changed == 0 and line.to_json()["swallowed_share"] is None for line in lines_of(graph, codes, codes))
