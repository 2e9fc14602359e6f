"""Tiny ``.tflite`` files for tests, written with the schema alone: no TensorFlow, no training, some 3 KB each.

``classifier(...)`` is a good one (conv, pool, fully connected, softmax with seeded random weights); the others are each wrong in one way.
All return bytes: ``path.write_bytes(classifier(h=8, w=8, c=3))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int8": 9, "resource": 13}
B = schema.BuiltinOperator


class Graph:
    """One subgraph being written. Tensors and ops are added in order; tensors are named by their index. ``outer``: the main graph."""

    def __init__(self, outer: Graph | None = None) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers: list[Any] = outer.buffers if outer else [schema.BufferT()]
        self.codes: list[Any] = outer.codes if outer else []
        self.others: list[Any] = []  # subgraphs beside the main one
        if outer:
            outer.others.append(self.graph)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str, scale: float | np.ndarray | None = None, zero: int = 0, data: Any = None
    ) -> int:
        """Adds a tensor; ``scale`` an array for one scale a slice of axis 0; ``data`` makes it a constant."""
        t = schema.TensorT()
        t.name, t.shape, t.type = name.encode(), list(shape), TYPES[dtype]
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            q = schema.QuantizationParametersT()
            q.scale, q.zeroPoint = scales, np.full(scales.size, zero, np.int64)
            t.quantization = q
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data, dtype).tobytes(), np.uint8)
            t.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def op(self, code: int, inputs: Sequence[int], outputs: Sequence[int], options: Any = None, custom: str | None = None) -> None:
        c = schema.OperatorCodeT()
        c.builtinCode, c.deprecatedBuiltinCode, c.version = code, min(code, 127), 5 if code == B.CONV_2D else 1
        c.customCode = custom.encode() if custom else None
        o = schema.OperatorT()
        o.opcodeIndex, o.inputs, o.outputs = len(self.codes), list(inputs), list(outputs)
        if options is not None:
            o.builtinOptions = options
            o.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.codes.append(c)
        self.graph.operators.append(o)

    def done(self, inputs: Sequence[int], outputs: Sequence[int], metadata: dict[str, bytes] | None = None) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version, model.operatorCodes, model.buffers = 3, self.codes, self.buffers
        model.subgraphs = [self.graph, *self.others]
        model.description = b"tiny"
        model.metadata = []
        for name, content in (metadata or {}).items():
            buffer, entry = schema.BufferT(), schema.MetadataT()
            buffer.data = np.frombuffer(content, np.uint8)
            entry.name, entry.buffer = name.encode(), len(self.buffers)
            self.buffers.append(buffer)
            model.metadata.append(entry)
        return packed(model)


def packed(model: Any) -> bytes:
    """The file of a ``schema.ModelT``."""
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def classifier(
    h: int = 8,
    w: int = 8,
    c: int = 1,
    classes: int = 10,
    seed: int = 0,
    dtype: str = "int8",
    softmax: bool = True,
    *,
    label: bool = False,
    dead: bool = False,
    fixed_batch: bool = False,
    input_scale: float = 1 / 255,
    sigmoid: bool = False,
    metadata: dict[str, bytes] | None = None,
) -> bytes:
    """An int8 classifier: conv 3x3 with 8 channels and ReLU, average pool 2x2, fully connected, and softmax or not.

    ``dtype``: of input and output; ``uint8`` and ``float32`` stand around the same int8 kernels. The input's real range is 0..1
    (``255 * input_scale``). Without ``softmax`` the output is logits; ``sigmoid`` stands in its place; ``label`` puts ARG_MAX (int32)
    behind. ``dead`` leaves the last layer without weights: one answer to every image. ``fixed_batch`` writes a batch of one into the
    RESHAPE, so that the file cannot be resized.
    ``h`` and ``w`` even.
    """
    rng = np.random.default_rng(seed)
    g = Graph()
    last = x = _input(g, (1, h, w, c), dtype, input_scale)
    if dtype != "int8":
        last = g.tensor("codes", (1, h, w, c), "int8", input_scale, -128)
        g.op(B.QUANTIZE, [x], [last], schema.QuantizeOptionsT())
    last = _conv(g, rng, last, (1, h, w, c), 8, input_scale)
    pooled = g.tensor("pooled", (1, h // 2, w // 2, 8), "int8", 2 / 255, -128)
    pool = schema.Pool2DOptionsT()
    pool.padding, pool.strideW, pool.strideH, pool.filterWidth, pool.filterHeight = 1, 2, 2, 2, 2
    g.op(B.AVERAGE_POOL_2D, [last], [pooled], pool)
    n = h // 2 * (w // 2) * 8
    flat = g.tensor("flat", (1, n), "int8", 2 / 255, -128)
    shape = g.tensor("shape", (2,), "int32", data=[1 if fixed_batch else -1, n])
    g.op(B.RESHAPE, [pooled, shape], [flat], schema.ReshapeOptionsT())
    scale = 12 / np.sqrt(n) / 127
    values = rng.uniform(-80, 80, (classes, n // 8, 8))
    values -= values.mean(axis=1, keepdims=True)  # blind to a channel's mean, or every image would be one class
    values *= not dead
    weights = g.tensor("fc/w", (classes, n), "int8", scale, 0, np.rint(values).reshape(classes, n))
    bias = g.tensor("fc/b", (classes,), "int32", scale * 2 / 255, 0, rng.integers(-500, 500, classes) * (not dead))
    last = g.tensor("logits", (1, classes), "int8", 16 / 255, 0)
    g.op(B.FULLY_CONNECTED, [flat, weights, bias], [last], schema.FullyConnectedOptionsT())
    at = (16 / 255, 0)
    if sigmoid:
        given, at = last, (1 / 256, -128)
        last = g.tensor("probs", (1, classes), "int8", *at)
        g.op(B.LOGISTIC, [given], [last])
    elif softmax:
        options, given, at = schema.SoftmaxOptionsT(), last, (1 / 256, -128)
        options.beta = 1.0
        last = g.tensor("probs", (1, classes), "int8", *at)
        g.op(B.SOFTMAX, [given], [last], options)
    if label:
        axis, options = g.tensor("axis", (), "int32", data=1), schema.ArgMaxOptionsT()
        options.outputType = TYPES["int32"]
        out = g.tensor("label", (1,), "int32")
        g.op(B.ARG_MAX, [last, axis], [out], options)
        return g.done([x], [out], metadata)
    if dtype == "uint8":
        out = g.tensor("out", (1, classes), "uint8", at[0], at[1] + 128)
        g.op(B.QUANTIZE, [last], [out], schema.QuantizeOptionsT())
        last = out
    elif dtype == "float32":
        out = g.tensor("out", (1, classes), "float32")
        g.op(B.DEQUANTIZE, [last], [out], schema.DequantizeOptionsT())
        last = out
    return g.done([x], [last], metadata)


def flat(shape: Sequence[int], classes: int = 5, dtype: str = "int8") -> bytes:
    """An int8 or uint8 fully connected layer on images of ``shape``, a batch of one: (1, h, w, c), (1, c, h, w) or (1, h, w)."""
    rng, g, n = np.random.default_rng(0), Graph(), int(np.prod(shape))
    x = _input(g, shape, dtype, 1 / 255)
    zero = -128 if dtype == "int8" else 0
    row = g.tensor("flat", (1, n), dtype, 1 / 255, zero)
    g.op(B.RESHAPE, [x, g.tensor("shape", (2,), "int32", data=[-1, n])], [row], schema.ReshapeOptionsT())
    middle = 0 if dtype == "int8" else 128
    weights = g.tensor("w", (classes, n), dtype, 0.02, middle, rng.integers(-100, 101, (classes, n)) + middle)
    bias = g.tensor("b", (classes,), "int32", 0.02 / 255, 0, rng.integers(-500, 500, classes))
    out = g.tensor("logits", (1, classes), dtype, 0.2, zero + 128)
    g.op(B.FULLY_CONNECTED, [row, weights, bias], [out], schema.FullyConnectedOptionsT())
    return g.done([x], [out])


def floats(h: int = 8, w: int = 8, c: int = 1, classes: int = 10, seed: int = 0) -> bytes:
    """A classifier without any integers: fully connected and softmax, input 0..1."""
    rng, g, n = np.random.default_rng(seed), Graph(), h * w * c
    x, flat = g.tensor("image", (1, h, w, c), "float32"), g.tensor("flat", (1, n), "float32")
    g.op(B.RESHAPE, [x, g.tensor("shape", (2,), "int32", data=[-1, n])], [flat], schema.ReshapeOptionsT())
    values = rng.normal(0, 8 / np.sqrt(n), (classes, n))
    weights = g.tensor("w", (classes, n), "float32", data=values - values.mean(axis=1, keepdims=True))
    bias, logits = g.tensor("b", (classes,), "float32", data=np.zeros(classes)), g.tensor("logits", (1, classes), "float32")
    g.op(B.FULLY_CONNECTED, [flat, weights, bias], [logits], schema.FullyConnectedOptionsT())
    options, out = schema.SoftmaxOptionsT(), g.tensor("probs", (1, classes), "float32")
    options.beta = 1.0
    g.op(B.SOFTMAX, [logits], [out], options)
    return g.done([x], [out])


def stateful(inner: bool = False) -> bytes:
    """A float classifier with a memory of three images (SVDF): its answer to one depends on those before, unless it is reset.

    ``inner``: the memory is in a graph inside an IF.
    """
    g, options = Graph(), schema.SoftmaxOptionsT()
    options.beta = 1.0
    x, flat = g.tensor("image", (1, 8, 8, 1), "float32"), g.tensor("flat", (1, 64), "float32")
    g.op(B.RESHAPE, [x, g.tensor("shape", (2,), "int32", data=[1, 64])], [flat], schema.ReshapeOptionsT())
    if inner:
        scores, choice = g.tensor("scores", (1, 10), "float32"), schema.IfOptionsT()
        choice.thenSubgraphIndex, choice.elseSubgraphIndex = 1, 2
        g.op(B.IF, [g.tensor("yes", (), "bool", data=True), flat], [scores], choice)
        for _ in range(2):
            branch = Graph(g)
            given = branch.tensor("given", (1, 64), "float32")
            branch.graph.inputs, branch.graph.outputs = [given], [_memory(branch, given)]
    else:
        scores = _memory(g, flat)
    out = g.tensor("probs", (1, 10), "float32")
    g.op(B.SOFTMAX, [scores], [out], options)
    return g.done([x], [out])


def restless(op: str) -> bytes:
    """A good classifier beside an op that no reset reaches: a random number, or a resource variable that is read."""
    g, n = Graph(), 64
    x, flat = g.tensor("image", (1, 8, 8, 1), "float32"), g.tensor("flat", (1, n), "float32")
    g.op(B.RESHAPE, [x, g.tensor("shape", (2,), "int32", data=[1, n])], [flat], schema.ReshapeOptionsT())
    more = g.tensor("more", (1, n), "float32")
    if op == "RANDOM_UNIFORM":
        g.op(B.RANDOM_UNIFORM, [g.tensor("size", (2,), "int32", data=[1, n])], [more], schema.RandomOptionsT())
    else:
        handle, options = g.tensor("handle", (1,), "resource"), schema.VarHandleOptionsT()
        options.sharedName = b"seen"
        g.op(B.VAR_HANDLE, [], [handle], options)
        g.op(B.READ_VARIABLE, [handle], [more], schema.ReadVariableOptionsT())
    both = g.tensor("both", (1, n), "float32")
    g.op(B.ADD, [flat, more], [both], schema.AddOptionsT())
    weights = g.tensor("w", (10, n), "float32", data=np.random.default_rng(0).normal(0, 1, (10, n)))
    out = g.tensor("logits", (1, 10), "float32")
    g.op(B.FULLY_CONNECTED, [both, weights, g.tensor("b", (10,), "float32", data=np.zeros(10))], [out], schema.FullyConnectedOptionsT())
    return g.done([x], [out])


def two_inputs() -> bytes:
    """Adds two images: no classifier."""
    g = Graph()
    a, b = (g.tensor(name, (1, 8, 8, 1), "int8", 1 / 255, -128) for name in "ab")
    out = g.tensor("sum", (1, 8, 8, 1), "int8", 2 / 255, -128)
    g.op(B.ADD, [a, b], [out], schema.AddOptionsT())
    return g.done([a, b], [out])


def detector() -> bytes:
    """Ends in the detection post-processing op with its four outputs."""
    g = Graph()
    x = g.tensor("image", (1, 8, 8, 3), "int8", 1 / 255, -128)
    outs = [g.tensor(name, (1, 10), "float32") for name in ("boxes", "classes", "scores", "count")]
    g.op(B.CUSTOM, [x], outs, custom="TFLite_Detection_PostProcess")
    return g.done([x], outs)


def segmentation(classes: int = 4) -> bytes:
    """One score a class for every pixel."""
    g = Graph()
    x = _input(g, (1, 8, 8, 3), "int8", 1 / 255)
    return g.done([x], [_conv(g, np.random.default_rng(0), x, (1, 8, 8, 3), classes, 1 / 255)])


def autoencoder() -> bytes:
    """Returns an image of the input's size."""
    g = Graph()
    x = _input(g, (1, 8, 8, 3), "int8", 1 / 255)
    return g.done([x], [_conv(g, np.random.default_rng(0), x, (1, 8, 8, 3), 3, 1 / 255)])


def edgetpu(custom: str = "edgetpu-custom-op") -> bytes:
    """One opaque op, for the Edge TPU or another chip."""
    g = Graph()
    x = g.tensor("image", (1, 8, 8, 3), "uint8", 1 / 255, 0)
    out = g.tensor("probs", (1, 10), "uint8", 1 / 256, 0)
    g.op(B.CUSTOM, [x], [out], custom=custom)
    return g.done([x], [out])


def unresolved() -> bytes:
    """A custom op that nobody knows, in a file without any buffers: tensors without data say number 0 all the same."""
    g = Graph()
    x, out = g.tensor("image", (1, 8, 8, 3), "uint8"), g.tensor("out", (1, 10), "float32")
    g.op(B.CUSTOM, [x], [out], custom="fake-op-double")
    g.buffers.clear()
    return g.done([x], [out])


def sound() -> bytes:
    """A custom op on a signal."""
    g = Graph()
    x, out = g.tensor("sound", (1, 480), "int8", 1.0, 0), g.tensor("out", (1, 10), "float32")
    g.op(B.CUSTOM, [x], [out], custom="SignalFft")
    return g.done([x], [out])


def labelled_pixels() -> bytes:
    """The class of every pixel: ARG_MAX over a map of scores."""
    g = Graph()
    x = _input(g, (1, 8, 8, 3), "int8", 1 / 255)
    scores, out = _conv(g, np.random.default_rng(0), x, (1, 8, 8, 3), 4, 1 / 255), g.tensor("classes", (1, 8, 8), "int64")
    options = schema.ArgMaxOptionsT()
    options.outputType = TYPES["int64"]
    g.op(B.ARG_MAX, [scores, g.tensor("axis", (), "int32", data=3)], [out], options)
    return g.done([x], [out])


def not_an_image() -> bytes:
    """A fully connected layer over 16 numbers."""
    g = Graph()
    x = g.tensor("features", (1, 16), "int8", 1 / 255, -128)
    weights = g.tensor("w", (4, 16), "int8", 0.01, 0, np.ones((4, 16)))
    bias = g.tensor("b", (4,), "int32", 0.01 / 255, 0, np.zeros(4))
    out = g.tensor("logits", (1, 4), "int8", 0.1, 0)
    g.op(B.FULLY_CONNECTED, [x, weights, bias], [out], schema.FullyConnectedOptionsT())
    return g.done([x], [out])


def puzzling() -> bytes:
    """Scores of the right shape behind an op that does not say what they are (a maximum of two pixels)."""
    g = Graph()
    x = _input(g, (1, 8, 8, 1), "int8", 1 / 255)
    flat = g.tensor("flat", (1, 64), "int8", 1 / 255, -128)
    shape = g.tensor("shape", (2,), "int32", data=[-1, 64])
    g.op(B.RESHAPE, [x, shape], [flat], schema.ReshapeOptionsT())
    other = g.tensor("other", (1, 64), "int8", 1 / 255, -128, np.zeros((1, 64)))
    out = g.tensor("out", (1, 64), "int8", 1 / 255, -128)
    g.op(B.MAXIMUM, [flat, other], [out], schema.MaximumMinimumOptionsT())
    return g.done([x], [out])


def _input(g: Graph, shape: Sequence[int], dtype: str, scale: float) -> int:
    if dtype == "float32":
        return g.tensor("image", shape, dtype)
    return g.tensor("image", shape, dtype, scale, -128 if dtype == "int8" else 0)


def _memory(g: Graph, x: int) -> int:
    rng, options = np.random.default_rng(0), schema.SVDFOptionsT()
    options.rank = 1
    weights = g.tensor("features", (10, 64), "float32", data=rng.normal(0, 0.5, (10, 64)))
    times = g.tensor("times", (10, 3), "float32", data=rng.normal(0, 1, (10, 3)))
    state = g.tensor("state", (1, 30), "float32")
    g.graph.tensors[state].isVariable = True
    out = g.tensor("out", (1, 10), "float32")
    g.op(B.SVDF, [x, weights, times, g.tensor("bias", (10,), "float32", data=np.zeros(10)), state], [out], options)
    return out


def _conv(g: Graph, rng: np.random.Generator, x: int, shape: Sequence[int], channels: int, input_scale: float) -> int:
    """3x3, SAME, ReLU; per-channel weights scaled so that activations fill 0..2 for any input range."""
    _, h, w, c = shape
    scales = rng.uniform(0.6, 1.2, channels).astype(np.float32) / np.float32(127 * 255 * input_scale * np.sqrt(c))
    weights = g.tensor("conv/w", (channels, 3, 3, c), "int8", scales, 0, rng.integers(-127, 128, (channels, 3, 3, c)))
    bias = g.tensor("conv/b", (channels,), "int32", scales * np.float32(input_scale), 0, rng.integers(-2000, 6000, channels))
    out = g.tensor("conv", (1, h, w, channels), "int8", 2 / 255, -128)
    options = schema.Conv2DOptionsT()
    options.padding, options.strideW, options.strideH, options.fusedActivationFunction = 0, 1, 1, 1
    options.dilationWFactor = options.dilationHFactor = 1
    g.op(B.CONV_2D, [x, weights, bias], [out], options)
    return out
