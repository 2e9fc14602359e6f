"""The certificate: sound for every accumulator, as strong as the linear programme, and true on the kernels themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import TFLITE, Builder, interpret

from edgeq.integer.certify import Certificate, certify_layer
from edgeq.integer.graph import Graph
from edgeq.integer.rounding import FORMULAS, RUNTIMES, multipliers
from edgeq.integer.write_onnx import write_onnx
from edgeq.integer.write_tflite import write_tflite


def trained(
    rng: np.random.Generator, w: int, a: int, fan_in: int = 288, channels: int = 60
) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Weights of ``w`` bits and thresholds of an activation of ``a`` bits behind a random batch normalisation, and the input's range."""
    top, levels = max(1, 2 ** (w - 1) - 1), 2**a - 1
    weights = rng.choice([-1, 1], (channels, fan_in)) if w == 1 else rng.integers(-top, top + 1, (channels, fan_in))
    spread = np.sqrt(np.square(weights).sum(axis=1) * np.mean(np.square(np.arange(levels + 1))))
    step = spread * rng.uniform(1, 3, channels) / levels
    thresholds = np.ceil((np.arange(levels) + 0.5 - levels * rng.uniform(-0.3, 0.5, (channels, 1))) * step[:, None])
    return weights, thresholds.astype(np.int64), (0, levels)


@pytest.mark.parametrize(
    ("w", "a", "least", "most"),
    [(1, 1, 60, 60), (2, 2, 60, 60), (3, 3, 60, 60), (4, 3, 60, 60), (3, 4, 60, 60), (4, 4, 57, 60), (6, 6, 0, 8), (8, 8, 0, 1)],
)
def test_how_many_of_60_channels_are_certified(w: int, a: int, least: int, most: int) -> None:
    for seed in range(3):
        certificate = certify_layer(*trained(np.random.default_rng(seed), w, a))
        assert least <= certificate.channels.sum() <= most
        assert certificate.share_of("litert-xnnpack") >= certificate.share


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 4, 6, 8]), st.sampled_from(["conv", "dense"]), st.booleans())
def test_what_is_certified_is_so_for_every_accumulator(seed: int, bits: int, kind: str, wild: bool) -> None:
    rng = np.random.default_rng(seed)
    weights, thresholds, reach = trained(rng, int(rng.integers(1, 9)), bits, int(rng.integers(1, 5)), 4)
    low = int(rng.integers(-4, 3))
    if wild:  # thresholds that no line can give, or that no input reaches
        thresholds = np.sort(rng.integers(-50, 50, thresholds.shape) * int(rng.integers(1, 100)), axis=1)
    s_in, s_out = rng.uniform(0.001, 2, 2).astype(np.float32)
    options = {"low": low, "kind": kind, "scale_in": float(s_in), "scale_out": float(s_out)}
    certificate = certify_layer(weights, thresholds, reach, **options)
    for i, row in enumerate(weights):
        values = np.arange(np.minimum(row, 0).sum() * reach[1], np.maximum(row, 0).sum() * reach[1] + 1)
        level = low + np.searchsorted(thresholds[i], values, side="right")
        for j, runtime in enumerate(RUNTIMES):
            acc, formula = certificate.factor[i] * values + certificate.bias[i], FORMULAS[runtime, kind]
            real = float(certificate.scale[i]) * float(s_in) / float(s_out)
            out = formula(acc, *multipliers(formula, s_in * certificate.scale[i] / s_out, real))
            equal = np.array_equal(np.clip(out, low, low + thresholds.shape[1]), level)
            assert equal or not certificate.certified[i, j]
            # the other way round: what was refused is wrong at the very points, unless a multiplier or bias leaves its range
            assert not equal or certificate.certified[i, j] or abs(int(certificate.bias[i])) > 2**30


def test_the_line_is_the_optimum_of_the_linear_programme() -> None:
    from edgeq.integer import certify

    optimize = pytest.importorskip("scipy.optimize")
    for seed, bits in [(0, 2), (1, 3), (2, 4)]:
        weights, thresholds, reach = trained(np.random.default_rng(seed), bits, bits, 32, 8)
        points, extent = certify._points(weights, np.ones(8, np.int64), thresholds, reach, 0)
        ours = certify._margin(points, *(np.array(v) for v in _exact(certify._widest_line(points, extent))))
        for i in range(8):
            p = points.of(i)
            y, one = p.level - 0.5, np.ones(len(p.level))
            above = np.stack([p.stay[0], one, one], axis=1)[p.may[0]]
            below = np.stack([-p.reach[0], -one, one], axis=1)[p.must[0]]
            limits = np.concatenate([y[p.may[0]], -y[p.must[0]]])
            solved = optimize.linprog([0, 0, -1], np.concatenate([above, below]), limits, bounds=[(0, 0.5), (None, None), (None, None)])
            assert ours[i] == pytest.approx(-solved.fun, abs=1e-7)


def _exact(line: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return line[0], line[1] / line[0]


def _layer(kind: str, w: int, a: int, signed: bool, certified: bool = True) -> tuple[Graph, np.ndarray, np.ndarray, Certificate | None]:
    """A graph of one layer, input codes, and the codes that training says come out."""
    rng = np.random.default_rng(w * 10 + a)
    channels, size, depth = 18, 8, 18 if kind == "depthwise" else 12
    fan_in = {"conv": 9 * depth, "depthwise": 9, "dense": 200}[kind]
    rows, thresholds, reach = trained(rng, w, a, fan_in, channels)
    levels, low = thresholds.shape[1], -(2 ** (a - 1)) if signed else 0
    scale, zero = (2.0 ** (1 - a), 128 - 2 ** (a - 1)) if signed else (1.0, 127 - levels)
    values = rng.integers(0, levels + 1, (40, *((fan_in,) if kind == "dense" else (size, size, depth))))
    if kind == "conv":
        weights = rows.reshape(channels, 3, 3, depth)
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # (n, h, w, c, 3, 3)
        acc = np.einsum("nhwcij,oijc->nhwo", windows, weights)
    elif kind == "depthwise":
        weights = rows.reshape(channels, 3, 3).transpose(1, 2, 0)[None]
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        acc = np.einsum("nhwcij,ijc->nhwc", windows, weights[0])
    else:
        weights, acc = rows, values @ rows.T
    expected = zero + low + (acc[..., None] >= thresholds).sum(axis=-1)
    b = Builder()
    x = b.image(values.shape[1:], 1.0, 127 - levels)
    if certified:
        c = certify_layer(weights, thresholds, reach, low=low, kind=kind, scale_in=1.0, scale_out=scale)
        stored, multipliers, bias = c.weights, c.scale.astype(float) / scale, c.bias
    else:  # the naive export: the weights as they are, and the real line's bias rounded
        c, stored = None, weights
        step = (thresholds[:, -1] - thresholds[:, 0]) / max(1, levels - 1)
        multipliers = 1 / step
        bias = np.rint((low + 1 - thresholds[:, 0] / step) * step - step / 2).astype(np.int64)
    b.linear(
        *(x, kind, 1 if kind == "depthwise" else channels),
        activation="relu_n1_to_1" if signed else "relu",
        out=(scale, zero),
        weights=stored,
        multipliers=multipliers,
        bias=bias,
    )
    return b.done(), (values + 127 - levels).astype(np.int8), expected, c


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("kind", ["conv", "depthwise", "dense"])
def test_certified_layers_are_the_trained_ones_on_the_kernels(kind: str, signed: bool) -> None:
    for w, a in [(1, 2), (2, 2), (3, 3), (4, 3), (3, 4), (4, 4)]:
        graph, codes, expected, certificate = _layer(kind, w, a, signed)
        assert certificate is not None
        assert certificate.share > 0.8
        assert len(np.unique(expected)) > 2 ** (a - 1)
        content, proven = write_tflite(graph), certificate.channels
        for name in TFLITE:
            assert np.array_equal(interpret(name, content, codes)[..., proven], expected[..., proven]), (w, a, name)
        assert np.array_equal(interpret("ort", write_onnx(graph), codes)[..., proven], expected[..., proven]), (w, a)


def test_a_sign_is_two_equal_thresholds() -> None:
    """BinaryNet with its zero padding: inputs, weights and outputs are -1 and +1, and no accumulator may give 0."""
    rng = np.random.default_rng(3)
    values, weights = rng.choice([-1, 1], (40, 8, 8, 16)), rng.choice([-1, 1], (18, 3, 3, 16))
    thresholds = rng.integers(-15, 16, (18, 1))
    c = certify_layer(weights, np.repeat(thresholds, 2, axis=1), (-1, 1), low=-1)
    assert c.share == 1
    b = Builder()
    x = b.image((8, 8, 16), 1.0, 0)
    b.linear(x, "conv", 18, activation="relu_n1_to_1", out=(1.0, 0), weights=c.weights, multipliers=c.scale, bias=c.bias)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0))), (3, 3), axis=(1, 2))
    expected = np.where(np.einsum("nhwcij,oijc->nhwo", windows, weights) >= thresholds[:, 0], 1, -1)
    for name in TFLITE:
        assert np.array_equal(interpret(name, write_tflite(b.done()), values.astype(np.int8)), expected), name
    assert np.array_equal(interpret("ort", write_onnx(b.done()), values.astype(np.int8)), expected)


def test_the_naive_export_is_not() -> None:
    graph, codes, expected, _ = _layer("conv", 3, 3, signed=False, certified=False)
    wrong = [np.mean(interpret(name, write_tflite(graph), codes) != expected) for name in TFLITE]
    assert min(wrong) > 0.001
