"""A frozen network's thresholds as a file's numbers: what certificates claim is so for every accumulator and on every kernel."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import TFLITE, interpret, random_codes
from trained_graphs import Trained, cuts, network, settled

from edgeq.core.errors import EdgeqError
from edgeq.integer import portable, read_tflite, tflite_file
from edgeq.integer.certify import certify_layer
from edgeq.integer.graph import Graph
from edgeq.integer.ops import Call, clamp_range, linear
from edgeq.integer.realise import realise
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import simulate
from edgeq.integer.write_onnx import write_onnx
from edgeq.integer.write_tflite import write_tflite


def read(content: bytes) -> Graph:
    return read_tflite.from_model(tflite_file.parse(content, "m.tflite"))


@pytest.mark.parametrize(("w", "a"), [(1, 1), (2, 2), (3, 4), (6, 5), (6, 6)])
def test_a_certified_network_is_the_trained_one_on_every_interpreter(w: int, a: int) -> None:
    trained = network(10 * w + a, w, a)
    codes = random_codes(trained, 40)
    wanted = simulate(trained, codes, keep=True)
    for op in trained.ops:
        assert len(np.unique(wanted[op.output])) > 1
    graph, layers = realise(trained)
    assert [layer.certificate.share for layer in layers] == [1.0] * 9
    assert [layer.name for layer in layers] == [trained.tensors[op.output].name for op in trained.ops if "thresholds" in op.options]
    content = write_tflite(graph)
    for name in TFLITE:
        np.testing.assert_array_equal(interpret(name, content, codes), wanted[trained.output], err_msg=name)
        for i, output in simulate(read(content), codes, name, keep=True).items():
            np.testing.assert_array_equal(output, wanted[i], err_msg=f"{name} {trained.tensors[i].name}")
    np.testing.assert_array_equal(interpret("ort", write_onnx(graph), codes), wanted[trained.output])
    assert portable.prove(read(content)).holds


@pytest.mark.parametrize(("w", "a"), [(1, 1), (2, 2), (3, 2), (4, 3)])
def test_packed_networks_hold_what_they_claim_in_half_the_bytes(w: int, a: int) -> None:
    trained = network(w, w, a)
    codes = random_codes(trained, 40)
    wanted = simulate(trained, codes, keep=True)
    (scaled, _), (packed, layers) = realise(trained), realise(trained, packed=True)
    assert [layer.stored for layer in layers] == [8, 4, 4, 8, 8, 4, 8, 4, 8]  # the ends have 6 bits; ones are not worth it

    def weights(graph: Graph) -> int:
        model = tflite_file.parse(write_tflite(graph), "m.tflite")
        low_bit = {graph.tensors[op.inputs[1]].name for op, layer in zip(_linear(graph), layers, strict=True) if layer.stored == 4}
        return sum(len(t.data) for t in model.tensors if t.name in low_bit)

    assert weights(packed) <= 0.55 * weights(scaled)
    content = write_tflite(packed)
    file = read(content)
    for layer, op in zip(layers, _linear(file), strict=True):
        given = {i: wanted[_named(trained, file.tensors[i].name)] for i in op.inputs[:1]}
        for j, runtime in enumerate(layer.certificate.runtimes):
            out = _step(file, op, runtime)(given[op.inputs[0]].reshape(len(codes), *file.tensors[op.inputs[0]].shape))
            claimed = layer.certificate.certified[:, j]
            out, expected = (v.reshape(-1, len(claimed)) for v in (out, wanted[_named(trained, layer.name)]))
            assert np.array_equal(out[:, claimed], expected[:, claimed]), (layer.name, runtime)
    for name in TFLITE:
        np.testing.assert_array_equal(interpret(name, content, codes), simulate(file, codes, name), err_msg=name)
    if w < 4:
        assert all(layer.certificate.share == 1 for layer in layers)


def _linear(graph: Graph) -> list:
    return [op for op in graph.ops if op.kind in ("conv", "depthwise", "dense")]


def _named(graph: Graph, name: str) -> int:
    """A tensor of the trained graph; dense layers with INT4 weights run on a 1x1 image of it."""
    return next(i for i, t in enumerate(graph.tensors) if t.name == name.removesuffix("/1x1"))


def _step(graph: Graph, op, runtime: str):
    call = Call(op, tuple(graph.tensors[i] for i in op.inputs), graph.tensors[op.output], runtime)
    step = {"conv": linear.conv, "depthwise": linear.depthwise, "dense": linear.dense}[op.kind](call)
    return lambda x: step(x)


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["conv", "depthwise", "dense"]), st.booleans(), st.booleans())
def test_what_is_claimed_is_so_for_every_accumulator(seed: int, kind: str, packed: bool, wild: bool) -> None:
    """All reachable accumulators of a small fan-in, through the very file and each runtime's own formula."""
    rng = np.random.default_rng(seed)
    fan, out = (1, 9) if kind == "depthwise" else (int(rng.integers(1, 4)), 5)
    low, high = [(0, 1), (0, 3), (0, 15), (0, 255), (-1, 1), (-8, 7), (-31, 31), (-128, 127)][rng.integers(8)]
    most = int(rng.choice([1, 3, 7, 15, 31, 127]))
    b = Trained(seed)
    x = b.image((fan,) if kind == "dense" else (1, 1, out if kind == "depthwise" else fan), 1.0, -128)
    weights = rng.integers(-most, most + 1, (out, fan))
    reach = np.abs(weights).sum(axis=1) * 255
    d = np.maximum(1, np.rint(reach * rng.uniform(0.2, 1.5, out) / (high - low)))
    at = cuts(d, rng.uniform(-1, 1, out) * d * (high - low), low, high) if wild else settled(rng, d, low, high, 0.3)
    laid = {"conv": (out, 1, 1, fan), "depthwise": (1, 1, 1, out), "dense": (out, fan)}[kind]
    b.layer(x, kind, weights.T.reshape(laid) if kind == "depthwise" else weights.reshape(laid), at, low)
    graph, (layer,) = realise(b.done(x), packed)
    assert layer.levels == high - low + 1
    assert layer.stored == (4 if packed and weights.min() >= -8 and weights.max() <= 7 and np.ptp(weights) else 8)
    file, certificate = read(write_tflite(graph)), layer.certificate
    (op,) = _linear(file)
    y = file.tensors[op.output]
    values = np.array(list(product(range(256) if fan == 1 else (0, 1, 2, 100, 101, 254, 255), repeat=fan)))
    acc = values @ weights.T  # (n, out)
    expected = low + (acc[..., None] >= at).sum(axis=-1) + int(y.zero[0])
    stored = file.tensors[op.inputs[1]].data.astype(int)
    stored = stored.reshape(fan, out) if kind == "depthwise" else stored.reshape(out, fan).T
    assert np.array_equal(stored, weights.T * certificate.factor)
    bias = file.tensors[op.inputs[2]].data.astype(int)
    for j, runtime in enumerate(RUNTIMES):
        call = Call(op, tuple(file.tensors[i] for i in op.inputs), y, runtime)
        got = np.clip(linear.requantisation(call)(values @ stored + bias) + int(y.zero[0]), *clamp_range(call))
        equal = (got == expected).all(axis=0)
        assert (equal | ~certificate.certified[:, j]).all(), runtime
        assert certificate.share_of(runtime) == certificate.certified[:, j].mean()


@settings(deadline=None, max_examples=150)
@given(
    *(st.integers(0, 2**32 - 1), st.sampled_from(["conv", "depthwise", "dense"]), st.integers(1, 6), st.integers(0, 10)),
    st.sampled_from([(0, 1), (0, 3), (0, 15), (0, 63), (0, 255), (-1, 1), (-8, 7), (-31, 31), (-63, 63), (-128, 127)]),
)
def test_settled_layers_are_certified(seed: int, kind: str, w: int, size: int, levels: tuple[int, int]) -> None:
    """What :mod:`edgeq.keras.lowbit.settle` promises: weights of up to 6 bits, steps of 8 accumulators and more."""
    rng = np.random.default_rng(seed)
    out, fan = 8, int(rng.integers(1, 64))
    most = max(1, 2 ** (w - 1) - (w >= 6))
    weights = rng.integers(-most, most, (out, fan), endpoint=w in (1, 6))
    d = np.floor(8 * 2.0**size * rng.uniform(1, 2, out))
    b = Trained(seed)
    if kind == "dense":
        x, laid = b.image((fan,), 1.0, -128), weights
    else:
        x = b.image((1, 1, out if kind == "depthwise" else fan), 1.0, -128)
        laid = weights[:, :1].T.reshape(1, 1, 1, out) if kind == "depthwise" else weights.reshape(out, 1, 1, fan)
    b.layer(x, kind, laid, settled(rng, d, *levels, 0.5), levels[0])
    _, (layer,) = realise(b.done(x))
    assert layer.certificate.share == 1


def test_a_channel_that_stays_on_one_level_is_certified() -> None:
    for low, high in [(0, 3), (-1, 1), (-8, 7), (-128, 127)]:
        b = Trained(0)
        x = b.image((300,), 1.0, -128)
        at = np.repeat([[2**40], [-(2**40)], [2**17]], high - low, axis=1)
        at[2, 0] = -(2**17)  # on the second, whatever the input; with so many weights a slope has to be small for that
        b.layer(x, "dense", b.rng.integers(-1, 2, (3, 300)), at, low)
        trained = b.done(x)
        graph, (layer,) = realise(trained)
        assert layer.certificate.share == 1, (low, high)
        codes = random_codes(trained, 20)
        assert np.array_equal(simulate(graph, codes, "tflm"), simulate(trained, codes))


def test_a_packed_dense_layer_is_certified_as_the_convolution_that_it_becomes() -> None:
    """The reference kernels round a dense layer once and a convolution twice; XNNPACK leaves the latter to the builtin kernels."""
    apart = 0
    for seed in range(4):
        b = Trained(seed)
        x = b.image((40,), 1.0, -128)
        weights, at = b.rng.integers(-7, 8, (30, 40)), cuts(b.rng.uniform(150, 300, 30), b.rng.uniform(-900, 900, 30), 0, 63)
        y = b.tensors[b.layer(x, "dense", weights, at)]
        _, (layer,) = realise(b.done(x), packed=True)
        shares = dict(zip(RUNTIMES, layer.certificate.certified.T, strict=True))
        assert np.array_equal(shares["litert-xnnpack"], shares["litert-builtin"])
        assert np.array_equal(shares["litert-reference"], shares["tflm"])
        dense = certify_layer(weights, at, (0, 255), kind="dense", scale_out=float(y.scale[0]), int4=True)
        apart += int((dense.certified != layer.certificate.certified).sum())
    assert apart


def test_weights_that_no_int8_holds_are_refused() -> None:
    b = Trained(0)
    x = b.image((2,), 1.0, -128)
    b.layer(x, "dense", np.array([[255, 1]]), np.array([[0]]))
    with pytest.raises(EdgeqError, match=r"t2: its trained weights go up to 255 steps, .* train with lsq:w8"):
        realise(b.done(x))
