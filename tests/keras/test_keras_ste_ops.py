"""Every op of the graph alone: forwards the simulator's codes on each runtime, backwards the derivative of the real function."""

from dataclasses import replace

import numpy as np
import one_op_files
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import Builder, random_codes

from edgeq.integer import read_tflite, tflite_file
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.ops import Call, clamp_range, floats
from edgeq.integer.rounding import RUNTIMES, requantiser
from edgeq.integer.simulate import KERNELS, simulate

pytestmark = pytest.mark.tensorflow
KINDS = [k for k in one_op_files.MAKERS if not k.endswith("4")]
FEW = settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def one_op(kind: str, seed: int, dtype: str) -> Graph:
    """A file with one op, and a pad of nothing behind it, so that no op is the last."""
    graph = read_tflite.from_model(tflite_file.parse(one_op_files.make(kind, np.random.default_rng(seed), dtype), f"{kind}.tflite"))
    out = graph.tensors[graph.output]
    none = (0,) * len(out.shape)
    ops = (*graph.ops, Op("pad", (graph.output,), len(graph.tensors), {"before": none, "after": none}))
    return replace(graph, tensors=(*graph.tensors, replace(out, name="behind")), ops=ops, output=len(graph.tensors))


def agrees(graph: Graph, runtimes=RUNTIMES, n: int = 3) -> None:
    """Op by op, and, for one of the runtimes, as TensorFlow optimises the whole: it rearranges products and divisions."""
    import tensorflow as tf

    from edgeq.keras.ste.source import executor

    codes = random_codes(graph, n)
    given, whole = tf.constant(codes, tf.float32), runtimes[int(codes.sum(dtype=np.int64)) % len(runtimes)]
    for runtime in runtimes:
        network, want = executor(graph, runtime), simulate(graph, codes, runtime)
        np.testing.assert_array_equal(network(given).numpy(), want, runtime)
        if runtime == whole:
            np.testing.assert_array_equal(tf.function(network, autograph=False)(given).numpy(), want, runtime)


@pytest.mark.parametrize("kind", one_op_files.MAKERS)
@FEW
@given(seed=st.integers(0, 2**31), dtype=st.sampled_from(["int8", "uint8"]))
def test_codes_are_the_simulators(kind: str, seed: int, dtype: str) -> None:
    dtype = "int8" if kind.endswith("4") else dtype  # only these have INT4 weights
    agrees(one_op(kind, seed, dtype), RUNTIMES if dtype == "int8" else RUNTIMES[:3])


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "minimum", "maximum", "concatenation"])
def test_two_activations_and_a_constant_a_channel(kind: str) -> None:
    for seed in range(2):
        b = Builder(seed)
        grids = [(float(b.rng.uniform(0.01, 0.1)), int(b.rng.integers(-100, 100))) for _ in range(3)]
        if seed == 0:
            grids = [(0.25, 3), (0.125, -7), (0.25, 5)]  # halves between codes
        x = b.image()
        left, right = (b.linear(x, activation="none", out=out) for out in grids[:2])
        options = {"axis": 2} if kind == "concatenation" else {}
        activation = {} if kind in ("minimum", "maximum") else {"activation": ("none", "relu6")[seed]}
        shape = (6, 6, 8) if kind == "concatenation" else (6, 6, 4)
        b.op(kind, (left, right), b.tensor(shape, *grids[2]), **options, **activation)
        if kind != "concatenation":
            constant = b.tensor((1, 1, 1, 4), *grids[1], data=b.rng.integers(-128, 128, 4))
            b.op(kind, (len(b.tensors) - 2, constant), b.tensor(shape, *grids[2]), **activation)
        agrees(b.done(x))


def test_layers_without_bias_with_groups_and_with_uneven_strides() -> None:
    for seed in range(2):
        b = Builder(seed)
        x = b.image((8, 7, 4))
        # TensorFlow folds a factor a channel into the kernel of a convolution, unless something stands between
        y = b.linear(x, channels=6, activation="none", bias=np.zeros(6, np.int64), out=(0.05, 7))
        b.linear(y, "depthwise", channels=2, bits=8, bias=np.zeros(12, np.int64))
        b.ops[-1] = replace(b.ops[-1], options={**b.ops[-1].options, "stride": (2, 1)})
        b.tensors[-1] = replace(b.tensors[-1], shape=(4, 7, 12))
        at = len(b.tensors) - 1
        w = b.tensor((6, 3, 3, 4), np.full(6, 0.004), data=b.rng.integers(-127, 128, (6, 3, 3, 4)))
        options = {"stride": (1, 2), "dilation": (2, 1), "padding": "same", "activation": "relu6"}
        b.op("conv", (at, w, -1), b.tensor((4, 4, 6), 0.1, -20), **options)
        agrees(b.done(x))


def test_requantisation_is_the_formula_and_what_float64_cannot_hold_is_left_to_the_simulator() -> None:
    import tensorflow as tf

    from edgeq.keras.ste import rounding

    b = Builder(0)
    x = b.image((4, 4, 3))
    multipliers = np.array([2.0**-30, 0.3e-6, 0.4e-6, 0.5e-6])
    b.linear(x, multipliers=multipliers, bias=np.array([5, 2**30, -(2**29), 2**28]), out=(0.1, 0))
    graph = b.done(x)
    agrees(graph)
    weights, bias = np.array([1e-3, 2.0**-9, 3 * 2.0**-9]), np.array([100, -(2**18), 2**18])
    acc = np.arange(-(2**17), 2**17, dtype=np.int64)[:, None] - bias
    for runtime in RUNTIMES:
        exact = requantiser(runtime, "conv", 1.0, weights, 1.0, 3)
        got = np.clip(rounding.requantise(exact, bias, (-128, 127))(tf.constant(acc, tf.float32)), -128, 127)
        np.testing.assert_array_equal(got, np.clip(exact(acc + bias), -128, 127), runtime)


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_file_with_integer_weights_and_float_layers(per_channel: bool) -> None:
    """All values are multiples of powers of two, so that float sums are exact in any order."""
    b = Builder(3)
    x = b.image((6, 6, 2), 2**-7, -3)
    real = b.op("dequantize", (x,), b.tensor((6, 6, 2), dtype="float32"))
    for kind, shape, out in (("conv", (4, 3, 3, 2), 4), ("depthwise", (1, 3, 3, 4), 4)):
        axis = 3 if kind == "depthwise" else 0
        w = b.tensor(shape, 2.0 ** -b.rng.integers(2, 5, out if per_channel else 1), 0, data=b.rng.integers(-9, 10, shape), axis=axis)
        w = b.op("dequantize", (w,), b.tensor(shape, dtype="float32"))
        bias = b.tensor((out,), dtype="float32", data=b.rng.integers(-9, 9, out) / 4)
        options = {"stride": (1, 1), "dilation": (1, 1), "padding": "same", "activation": "relu"}
        options |= {"multiplier": 1} if kind == "depthwise" else {}
        real = b.op(kind, (real, w, bias), b.tensor((6, 6, 4), dtype="float32"), **options)
    scale, offset = (b.tensor((4,), dtype="float32", data=2.0 ** b.rng.integers(-3, 3, 4)) for _ in range(2))
    real = b.op("mul", (real, scale), b.tensor((6, 6, 4), dtype="float32"), activation="none")
    real = b.op("add", (offset, real), b.tensor((6, 6, 4), dtype="float32"), activation="relu6")
    real = b.op("max_pool", (real,), b.tensor((3, 3, 4), dtype="float32"), window=(2, 2), stride=(2, 2), padding="valid", activation="none")
    real = b.op(
        "average_pool", (real,), b.tensor((2, 2, 4), dtype="float32"), window=(2, 2), stride=(1, 1), padding="valid", activation="none"
    )
    real = b.op("mean", (real,), b.tensor((4,), dtype="float32"), axes=(1, 2), keep=False)
    w = b.tensor((3, 4), dtype="float32", data=b.rng.integers(-5, 5, (3, 4)))
    b.op("dense", (real, w, -1), b.tensor((3,), dtype="float32"), activation="none")
    agrees(b.done(x))


# -- backwards ------------------------------------------------------------------------------------------------------------------------


def real_function(graph: Graph):
    """The one op in numpy on reals, activation included: the simulator's kernels for float tensors."""
    op = graph.ops[0]
    plain = [
        None if i < 0 else replace(graph.tensors[i], dtype="float32", scale=np.empty(0), zero=np.empty(0)) for i in (*op.inputs, op.output)
    ]
    kernel = floats.KERNELS.get(op.kind, KERNELS[op.kind])
    if op.kind in ("quantize", "dequantize"):
        return lambda x: x
    step = kernel(Call(op, tuple(plain[:-1]), plain[-1], "litert-reference"))
    constants = [
        None if t is None or t.data is None else reals(t, t.data) for t in (graph.tensors[i] if i >= 0 else None for i in op.inputs)
    ]
    at = op.inputs.index(graph.input)
    half = 0.5 if op.kind == "resize_bilinear" else 0  # which that kernel adds in order to cut off
    return lambda x: step(*(x if i == at else c for i, c in enumerate(constants))) - half


def reals(t: Tensor, codes: np.ndarray) -> np.ndarray:
    shape = [-1 if i == t.axis and len(t.scale) > 1 else 1 for i in range(codes.ndim)]
    return (codes - t.zero.reshape(shape)).astype(np.float64) * t.scale.reshape(shape) if t.quantised else codes


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_real_function(kind: str) -> None:
    """One random direction, against differences on both sides; outputs at a kink or near a clamp are left out."""
    import tensorflow as tf

    from edgeq.keras.ste.source import executor

    used = 0
    for seed, dtype in enumerate(("int8", "int8", "uint8")):
        graph = one_op(kind, seed, dtype)
        given, out = graph.tensors[graph.input], graph.tensors[graph.ops[0].output]
        function, rng = real_function(graph), np.random.default_rng(seed)
        codes = random_codes(graph, 4, seed)[1:]  # the first is flat
        x, direction = reals(given, codes), rng.normal(size=codes.shape)
        h = (0.01 if kind in ("softmax", "logistic", "tanh", "hard_swish") else 0.1) * float(given.scale[0])  # kernels round to float32
        value = np.asarray(function(x), np.float64)
        ahead, behind = (np.asarray(function(x + s * h * direction), np.float64) for s in (1, -1))
        slope = (ahead - behind) / (2 * h)
        smooth = np.abs(ahead + behind - 2 * value) <= 0.01 * np.abs(ahead - behind) + 1e-5
        if out.quantised:
            steps = value / out.scale[0] + out.zero[0]
            lo, hi = clamp_range(Call(graph.ops[0], (given,), out, "tflm"), kind if kind in floats.BOUNDS else None)
            slope[(steps < lo - 1) | (steps > hi + 1)] = 0
            smooth &= (np.abs(steps - lo) > 1) & (np.abs(steps - hi) > 1)
        upstream = np.where(smooth, np.sign(slope) * rng.uniform(0.5, 1, value.shape), 0)  # nothing cancels out
        unit = float(out.scale[0]) if out.quantised else 1.0
        point, network = tf.constant(codes, tf.float32), executor(graph, "tflm" if dtype == "int8" else "litert-builtin")
        with tf.GradientTape() as tape:
            tape.watch(point)
            answer = network(point)
        gradient = tape.gradient(answer, point, tf.constant(upstream, tf.float32)).numpy() / float(given.scale[0])
        want = (upstream * slope).sum((*range(1, value.ndim),)) / unit
        got = (gradient * direction).sum((*range(1, codes.ndim),))
        scale = np.abs(upstream * slope).sum((*range(1, value.ndim),)) / unit
        np.testing.assert_allclose(got, want, atol=2e-3 * scale.max() + 1e-12, err_msg=f"seed {seed}")
        used += int((scale > 0).any())
    assert used
