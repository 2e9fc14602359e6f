"""The file as a differentiable network: forwards the runtime bit by bit, backwards straight through."""

import numpy as np
import pytest
import random_graphs
import tiny_tflite

from edgeq import runtimes
from edgeq.attacks.pgd import PGD
from edgeq.core.errors import EdgeqError
from edgeq.core.goal import Goal
from edgeq.core.gradient import value_and_grad
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.integer import read_tflite
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import simulate
from edgeq.objectives.ce import CE
from edgeq.objectives.margin import Margin
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess

pytestmark = pytest.mark.tensorflow


def source_of(graph, codes=None, runtime="litert-xnnpack", clamp="clipped", batch=8):
    from edgeq.keras.ste.source import SteSource

    given = graph.tensors[graph.input]
    codes = codes or codes_for(_border(given), Preprocess(given.shape[:2], given.shape[2]), "graph")
    return SteSource(graph, codes, runtime, clamp, batch)


def _border(tensor):
    from edgeq.core.signature import Tensor as Border

    return Border(tensor.shape, tensor.dtype, float(tensor.scale[0]), int(tensor.zero[0]))


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_tensor_of_random_graphs_is_the_simulators(runtime):
    import tensorflow as tf

    from edgeq.keras.ste.source import executor, logits_of

    compared = 0
    for seed in range(7):
        graph = random_graphs.random_graph(seed)
        images = random_graphs.random_codes(graph, 5, seed)
        want = simulate(graph, images, runtime, keep=True)
        got = tf.function(executor(graph, runtime, keep=True), autograph=False)(tf.constant(images, tf.float32))  # as it is optimised
        assert logits_of(graph) in got
        for tensor, value in got.items():
            np.testing.assert_array_equal(np.asarray(value), want[tensor], err_msg=f"seed {seed}, {graph.tensors[tensor].name}")
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_logits_are_the_interpreters(runtime, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(c=3, seed=4, softmax=False))
    signature = runtimes.probe(runtime, path)
    codes = codes_for(signature.input, Preprocess((8, 8), 3), "m")
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    target = runtimes.open(runtime, path, signature, codes)
    want = target.answer(images)
    target.close()
    got = source_of(read_tflite.read(path), codes, runtime).answer_float(images.astype(np.float32) / 255)
    np.testing.assert_allclose(got.raw, want.values(), rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3, 6, 4), (1, 6, 4)])
def test_images_enter_as_the_file_takes_them(shape, tmp_path):
    """Channels first, and grey images without an axis for the one channel."""
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.flat(shape))
    signature = runtimes.probe("tflm-exact", path)
    h, w, c = signature.input.shape
    codes = codes_for(signature.input, Preprocess((h, w), c), "m")
    images = np.random.default_rng(0).integers(0, 256, (9, h, w, c), dtype=np.uint8)
    want = runtimes.open("litert-reference", path, signature, codes).answer(images)
    np.testing.assert_array_equal(runtimes.open("tflm-exact", path, signature, codes).answer(images).raw, want.raw)
    source = source_of(read_tflite.read(path), codes, "litert-reference")
    x = images.astype(np.float32) / 255
    np.testing.assert_allclose(source.answer_float(x).raw, want.values(), rtol=1e-6)
    _, pullback = source.logits(x)
    graph = read_tflite.read(path)
    weights = graph.tensors[graph.ops[1].inputs[1]]
    slope = (weights.data[0] * weights.scale[0]).reshape(shape[1:])
    wanted = slope.transpose(1, 2, 0) if len(shape) == 4 else slope[..., None]
    np.testing.assert_allclose(pullback(np.eye(5, dtype=np.float32)[np.zeros(9, int)])[0], wanted, rtol=1e-5)


def dense_graph(activation="none", scale=0.05):
    """Four pixels to three scores, with weights that can be followed by hand."""
    weights = np.array([[10, -3, 0, 5], [-20, 7, 9, 1], [3, 3, 3, 3]], np.int8)
    tensors = (
        Tensor("image", (2, 2, 1), "int8", np.array([1 / 255], np.float32), np.array([-128])),
        Tensor("flat", (4,), "int8", np.array([1 / 255], np.float32), np.array([-128])),
        Tensor("w", (3, 4), "int8", np.full(3, 0.01, np.float32), np.zeros(3, np.int64), 0, weights),
        Tensor("logits", (3,), "int8", np.array([scale], np.float32), np.array([0])),
    )
    ops = (Op("reshape", (0,), 1, {"shape": (4,)}), Op("dense", (1, 2, -1), 3, {"activation": activation}))
    return Graph(tensors, ops, 0, 3, "dense"), weights


def test_the_gradient_is_the_float_networks_where_nothing_is_cut():
    graph, weights = dense_graph()
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 2, 1)) / np.float32(255)
    rows = Rows(np.arange(6), np.array([0, 1, 2, 0, 1, 2]))
    loss, gradient = value_and_grad(source_of(graph), Margin(), images, rows)
    logits = source_of(graph).answer_float(images).raw
    others = logits.copy()
    others[np.arange(6), rows.labels] = -np.inf
    np.testing.assert_allclose(loss, others.max(1) - logits[np.arange(6), rows.labels], atol=1e-6)
    # one unit of x is 255 codes of 1/255; a logit changes by 0.01 * weight a unit
    for row in range(6):
        best = np.flatnonzero(others[row] == others[row].max())
        want = [0.01 * (weights[k].astype(float) - weights[rows.labels[row]]) for k in best]
        assert any(np.allclose(gradient[row].ravel(), w, rtol=1e-4) for w in want) or len(best) > 1


class Plain:
    """A source without its fused twins."""

    def __init__(self, source):
        self.batch, self.logits = source.batch, source.logits


@pytest.mark.parametrize("objective", [CE(), Margin()])
def test_the_fused_twin_equals_the_plain_objective(objective):
    graph, _ = dense_graph()
    source, n = source_of(graph), 21  # of batches of 8, the last one padded
    images = np.random.default_rng(1).integers(0, 256, (n, 2, 2, 1), dtype=np.uint8)
    rows, x = Rows(np.arange(n), np.arange(n) % 3), images / np.float32(255)
    loss, gradient = value_and_grad(source, objective, x, rows)
    loss2, gradient2 = value_and_grad(Plain(source), objective, x, rows)
    np.testing.assert_allclose(loss2, loss, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient2, gradient, rtol=1e-5, atol=1e-6)
    attack = PGD(steps=6, step=0.3, objective="ce" if objective == CE() else "margin")
    fused, plain = (attack.craft(s, images, rows, Threat("linf", 6 / 255), 0) for s in (source, Plain(source)))
    np.testing.assert_array_equal(fused.candidates, plain.candidates)
    assert (fused.candidates != images).any()


def test_a_pullback_can_be_called_again_and_does_not_see_the_other_rows():
    graph, weights = dense_graph()
    source = source_of(graph)
    x = np.random.default_rng(2).integers(0, 256, (11, 2, 2, 1)) / np.float32(255)
    logits, pullback = source.logits(x)
    np.testing.assert_array_equal(logits, source.answer_float(x).raw)
    for k in range(3):  # the Jacobian, row by row: 0.01 * weight a unit, where nothing is cut
        gradient = pullback(np.eye(3, dtype=np.float32)[np.full(11, k)])
        np.testing.assert_allclose(gradient.reshape(11, 4), np.tile(0.01 * weights[k], (11, 1)), rtol=1e-4, atol=1e-7)
    alone, back = source.logits(x[3:4])
    np.testing.assert_array_equal(alone, logits[3:4])
    np.testing.assert_array_equal(back(np.eye(3, dtype=np.float32)[2:]), gradient[3:4])


def test_a_wanted_class_is_approached():
    graph, _ = dense_graph(scale=0.002)
    source, n = source_of(graph), 9
    images = np.random.default_rng(3).integers(60, 200, (n, 2, 2, 1), dtype=np.uint8)
    rows, goal = Rows(np.arange(n), np.arange(n) % 3), Goal("next")
    made = PGD(steps=6, step=0.3, objective="margin").craft(source, images, rows, Threat("linf", 60 / 255), 0, goal)
    before, after = (goal.margin(source.answer_float(i / np.float32(255)), rows.labels) for i in (images, made.candidates))
    assert (after > before).all()
    assert (after > 0).sum() > (before > 0).sum()


def test_float_logits_of_a_file_whose_weights_alone_are_integers():
    graph, weights = dense_graph()
    image, flat, w, logits = graph.tensors
    reals = [Tensor(t.name + "/real", t.shape, "float32") for t in (image, flat, w, logits, logits)]
    ops = (
        *(Op("dequantize", (at,), to) for at, to in ((0, 4), (2, 6))),
        Op("reshape", (4,), 5, {"shape": (4,)}),
        Op("dense", (5, 6, -1), 7, {"activation": "none"}),
        Op("softmax", (7,), 8, {"beta": 1.0}),
    )
    graph = Graph((*graph.tensors, *reals), ops, 0, 8, "weights")
    source, rows = source_of(graph), Rows(np.arange(3), np.array([0, 1, 2]))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 1))
    x, want = pixels / np.float32(255), pixels.reshape(3, 4) / 255 @ (0.01 * weights.T)
    np.testing.assert_allclose(source.answer_float(x).raw, want, atol=1e-6)
    p = np.exp(want) / np.exp(want).sum(1, keepdims=True)
    gradient = value_and_grad(source, CE(), x, rows)[1]
    np.testing.assert_allclose(gradient.reshape(3, 4), (p - np.eye(3)) @ (0.01 * weights), atol=1e-6)


@pytest.mark.parametrize("last", ["softmax", "logistic"])
def test_a_last_softmax_or_logistic_is_never_differentiated_through(last):
    from edgeq.keras.ste.source import logits_of

    graph, _ = dense_graph()
    probs = Tensor("probs", (3,), "int8", np.array([1 / 256], np.float32), np.array([-128]))
    behind = (Op(last, (3,), 4, {}), Op("dequantize", (4,), 5), Op("reshape", (5,), 6, {"shape": (3,)}))
    whole = Graph((*graph.tensors, probs, *2 * [Tensor("real", (3,), "float32")]), (*graph.ops, *behind), 0, 6)
    assert logits_of(whole) == logits_of(graph) == 3


def test_a_clamp_stops_the_gradient_or_lets_it_through_and_a_relu_always_stops_it():
    images = np.ones((3, 2, 2, 1), np.float32)
    rows = Rows(np.arange(3), np.array([0, 1, 2]))

    def gradient(graph, clamp):
        return value_and_grad(source_of(graph, clamp=clamp), CE(), images, rows)[1]

    narrow, _ = dense_graph(scale=0.0001)  # every score beyond +-127 steps
    assert not gradient(narrow, "clipped").any()
    assert gradient(narrow, "through").any()
    relu, _ = dense_graph("relu")
    flat = source_of(relu, clamp="through").answer_float(images).raw[0] == 0
    assert flat[1]  # score 1 is negative here, so a ReLU cuts it
    for clamp in ("clipped", "through"):
        p = np.exp(source_of(relu).answer_float(images).raw.astype(float))
        p /= p.sum(1, keepdims=True)
        weights = relu.tensors[2].data.astype(float) * 0.01
        upstream = p - np.eye(3)
        upstream[:, flat] = 0
        np.testing.assert_allclose(gradient(relu, clamp).reshape(3, -1), upstream @ weights, rtol=1e-3, atol=1e-7)


def test_sums_beyond_float32_are_exact_all_the_same():
    rng = np.random.default_rng(0)
    n = 1500  # 1500 * 127 * 255 leaves 2^24
    weights = rng.integers(100, 128, (4, n)).astype(np.int8)
    tensors = (
        Tensor("image", (30, 50, 1), "int8", np.array([1 / 255], np.float32), np.array([-128])),
        Tensor("flat", (n,), "int8", np.array([1 / 255], np.float32), np.array([-128])),
        Tensor("w", (4, n), "int8", np.full(4, 0.01, np.float32), np.zeros(4, np.int64), 0, weights),
        Tensor("logits", (4,), "int8", np.array([10.0], np.float32), np.array([-128])),
    )
    graph = Graph(tensors, (Op("reshape", (0,), 1, {"shape": (n,)}), Op("dense", (1, 2, -1), 3, {"activation": "none"})), 0, 3)
    from edgeq.keras.ste.source import executor

    images = rng.integers(-128, 128, (9, 30, 50, 1)).astype(np.int8)
    for runtime in RUNTIMES:
        np.testing.assert_array_equal(np.asarray(executor(graph, runtime)(images.astype(np.float32))), simulate(graph, images, runtime))


def test_an_op_without_a_gradient_is_named():
    from edgeq.keras.ste.source import check, executor

    graph, _ = dense_graph()
    tensors = (*graph.tensors, Tensor("bent", (3,), "int16", np.array([0.05], np.float32), np.array([0])))
    bent = Graph(tensors, (*graph.ops, Op("hard_swish", (3,), 4)), 0, 4, "bent.tflite")
    for refuse in (check, lambda g: executor(g, "tflm")):
        with pytest.raises(EdgeqError, match=r"bent.tflite: hard_swish \(bent\) of int16 .* queries, or pass --source"):
            refuse(bent)
    check(Graph(tensors, (*graph.ops, Op("softmax", (3,), 4)), 0, 4))  # a last softmax is left out, whatever it gives


def test_kernels_that_dilation_blows_up_and_scales_beyond_reason_are_refused():
    from edgeq.keras.ste.source import check, executor

    b = random_graphs.Builder()
    x = b.image()
    last = b.linear(x, dilation=5000)
    with pytest.raises(EdgeqError, match=r"conv .* has no gradient here"):
        check(b.done(x, last))
    b = random_graphs.Builder()
    x = b.image()
    last = b.add(x, b.add(x, x, (1e-11, 0)), (1e11, 0))
    with pytest.raises(EdgeqError, match=r"add .* has an output scale 2\^18 times below its inputs'"):
        executor(b.done(x, last), "litert-xnnpack")
