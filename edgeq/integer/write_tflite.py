"""Writes a graph as a ``.tflite`` file for int8 kernels, with the schema's own object API (``ai_edge_litert.schema_py_generated``).

A converter works on float networks and ignores how many bits were trained; here codes, scales and biases reach the file as they stand in
the graph. Equal graphs give equal bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.describe import weight_levels
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.ops import Call, clamp_range
from edgeq.integer.rewrite import dense_int4_as_conv, with_biases

METADATA = "edgeq"
_TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int16": 7, "int8": 9, "int4": 17}
_ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
# kind: (builtin operator, options table, version). A version is the lowest whose kernel does int8: what old resolvers accept, new ones do.
_OPS: dict[str, tuple[str, str | None, int]] = {
    "conv": ("CONV_2D", "Conv2DOptions", 3),
    "depthwise": ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", 3),
    "dense": ("FULLY_CONNECTED", "FullyConnectedOptions", 4),
    "add": ("ADD", "AddOptions", 2),
    "sub": ("SUB", "SubOptions", 2),
    "mul": ("MUL", "MulOptions", 2),
    "average_pool": ("AVERAGE_POOL_2D", "Pool2DOptions", 2),
    "max_pool": ("MAX_POOL_2D", "Pool2DOptions", 2),
    "mean": ("MEAN", "ReducerOptions", 2),
    "pad": ("PAD", "PadOptions", 2),
    "reshape": ("RESHAPE", "ReshapeOptions", 1),
    "softmax": ("SOFTMAX", "SoftmaxOptions", 2),
    "logistic": ("LOGISTIC", None, 2),
    "tanh": ("TANH", None, 2),
    "relu": ("RELU", None, 2),
    "relu6": ("RELU6", None, 2),
    "relu_n1_to_1": ("RELU_N1_TO_1", None, 1),
    "leaky_relu": ("LEAKY_RELU", "LeakyReluOptions", 2),
    "hard_swish": ("HARD_SWISH", "HardSwishOptions", 1),
    "concatenation": ("CONCATENATION", "ConcatenationOptions", 2),
    "quantize": ("QUANTIZE", "QuantizeOptions", 2),
    "dequantize": ("DEQUANTIZE", "DequantizeOptions", 2),
    "transpose": ("TRANSPOSE", "TransposeOptions", 2),
    "minimum": ("MINIMUM", "MaximumMinimumOptions", 2),
    "maximum": ("MAXIMUM", "MaximumMinimumOptions", 2),
    "strided_slice": ("STRIDED_SLICE", "StridedSliceOptions", 2),
    "resize_bilinear": ("RESIZE_BILINEAR", "ResizeBilinearOptions", 3),
    "resize_nearest": ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", 3),
}
# packed weights; LiteRT's reference kernels know INT4 depthwise weights only up to version 6
_INT4_VERSIONS = {"conv": 7, "depthwise": 6, "dense": 10}


def write_tflite(graph: Graph, metadata: Mapping[str, bytes] = MappingProxyType({})) -> bytes:
    """The file's content. It takes batches of any size through ``resize_tensor_input``, and states one image.

    INT4 constants are packed, low nibble first. ``metadata``: further named buffers; into the one named "edgeq", a JSON object, goes
    what :func:`bits` says. A dense layer with INT4 weights and a scale a channel becomes the 1x1 convolution that TensorFlow Lite Micro
    runs as well, and a layer without a bias gets one of zeros.
    Raises :class:`EdgeqError` for what no ``.tflite`` can say.
    """
    graph = dense_int4_as_conv(with_biases(graph))
    writer = _Writer(graph)
    for op in graph.ops:
        writer.op(op)
    stated = {**_object(metadata.get(METADATA, b"{}")), **bits(graph)}
    own = {METADATA: json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()}
    return writer.done({**dict(sorted(metadata.items())), **own})


def bits(graph: Graph) -> dict[str, dict[str, dict[str, int]]]:
    """``{"weights": {name: {"levels", "bits", "stored"}}, "activations": {name: {"levels", "bits"}}}``: what int8 storage does not say.

    Weight levels are counted (K * {-1, 0, 1} with a K in every channel is three), activation levels are what the fused clamp leaves;
    ``bits = ceil(log2(levels))``.
    """
    weights, activations = {}, {}
    stored = {op.output: op.inputs[0] for op in graph.ops if op.kind == "dequantize"}  # behind the weights of float layers
    for op in graph.ops:
        if op.kind not in ("conv", "depthwise", "dense"):
            continue
        w, y = graph.tensors[stored.get(op.inputs[1], op.inputs[1])], graph.tensors[op.output]
        if w.data is not None and w.dtype in ("int4", "int8"):
            levels = weight_levels(w.data, w.axis if len(w.scale) > 1 else None)
            weights[w.name] = {"levels": levels, "bits": _bits(levels), "stored": 4 if w.dtype == "int4" else 8}
        if y.quantised:
            low, high = clamp_range(Call(op, (), y, "tflm"))
            activations[y.name] = {"levels": high - low + 1, "bits": _bits(high - low + 1)}
    return {"weights": weights, "activations": activations}


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _bits(levels: int) -> int:
    return max(1, math.ceil(math.log2(levels)))


class _Writer:
    def __init__(self, graph: Graph) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema, self.source = schema, graph
        self.buffers = [schema.BufferT()]  # the first one stands for "no data"
        self.codes: dict[tuple[str, int], int] = {}
        self.operators: list[Any] = []
        whole = {i for i, _ in graph.constants()}  # what has no batch axis: constants, and what is computed from them alone
        for op in graph.ops:
            if all(i < 0 or i in whole for i in op.inputs):
                whole.add(op.output)
        self.tensors = [self.tensor(t, t.shape if i in whole else (1, *t.shape)) for i, t in enumerate(graph.tensors)]

    def buffer(self, content: bytes) -> int:
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(content, np.uint8)
        self.buffers.append(buffer)
        return len(self.buffers) - 1

    def tensor(self, tensor: Tensor, shape: Iterable[int]) -> Any:
        if tensor.dtype not in _TYPES:
            raise EdgeqError(f"{tensor.name}: a .tflite for int8 kernels contains no {tensor.dtype} tensors; quantise it to int8 first")
        t = self.schema.TensorT()
        t.name, t.shape, t.type = tensor.name.encode(), list(shape), _TYPES[tensor.dtype]
        if tensor.quantised:
            q = self.schema.QuantizationParametersT()
            q.scale, q.zeroPoint, q.quantizedDimension = tensor.scale.astype(np.float32), tensor.zero.astype(np.int64), tensor.axis
            t.quantization = q
        if tensor.data is not None:
            t.buffer = self.buffer(pack(tensor))
        return t

    def integers(self, name: str, values: Any) -> int:
        """A constant that an op takes as an input where the graph has an option."""
        data = np.asarray(values, np.int32)
        self.tensors.append(self.tensor(Tensor(name, data.shape, "int32", data=data), data.shape))
        return len(self.tensors) - 1

    def op(self, op: Op) -> None:
        builtin, table, version = _OPS[op.kind]
        if op.kind in _INT4_VERSIONS and self.source.tensors[op.inputs[1]].dtype == "int4":
            version = _INT4_VERSIONS[op.kind]
        o = self.schema.OperatorT()
        o.opcodeIndex = self.codes.setdefault((builtin, version), len(self.codes))
        extra = _EXTRA_INPUTS.get(op.kind, _nothing)(op.options, len(self.source.tensors[op.inputs[0]].shape) + 1)
        o.inputs = [*op.inputs, *(self.integers(f"{self.source.tensors[op.output].name}/{name}", v) for name, v in extra.items())]
        o.outputs = [op.output]
        if table is not None:
            options = getattr(self.schema, table + "T")()
            for name, value in _fields(op).items():
                setattr(options, name, value)
            o.builtinOptions, o.builtinOptionsType = options, getattr(self.schema.BuiltinOptions, table)
        self.operators.append(o)

    def done(self, metadata: Mapping[str, bytes]) -> bytes:
        schema = self.schema
        graph, model = schema.SubGraphT(), schema.ModelT()
        graph.name, graph.tensors, graph.operators = b"main", self.tensors, self.operators
        graph.inputs, graph.outputs = [self.source.input], [self.source.output]
        model.version, model.description, model.subgraphs = 3, b"edgeq", [graph]
        model.operatorCodes = []
        for name, version in self.codes:
            code = schema.OperatorCodeT()
            number = getattr(schema.BuiltinOperator, name)
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), version
            model.operatorCodes.append(code)
        model.metadata = []
        for name, content in metadata.items():
            entry = schema.MetadataT()
            entry.name, entry.buffer = name.encode(), self.buffer(content)
            model.metadata.append(entry)
        model.buffers = self.buffers
        builder = _builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _builder() -> Any:
    import flatbuffers

    class Aligned(flatbuffers.Builder):
        """Byte vectors begin at multiples of 16, as the schema demands (``force_align: 16``) and Python's generated code forgets:
        constants are used in place, and a Cortex-M0 faults on an int32 at an odd address."""

        def StartVector(self, elem_size: int, count: int, alignment: int) -> Any:  # noqa: N802
            return super().StartVector(elem_size, count, 16 if elem_size == 1 else alignment)

    return Aligned(1 << 16)


def pack(tensor: Tensor) -> bytes:
    """A constant's stored bytes: little-endian, two INT4 codes a byte, low nibble first."""
    assert tensor.data is not None
    if tensor.dtype != "int4":
        return np.ascontiguousarray(tensor.data, np.dtype(tensor.dtype).newbyteorder("<")).tobytes()
    flat = tensor.data.reshape(-1)
    if flat.size and not -8 <= flat.min() <= flat.max() <= 7:
        raise EdgeqError(f"{tensor.name}: weights from {flat.min()} to {flat.max()} do not fit INT4 (-8 to 7); store them as int8")
    nibbles = np.append(flat, np.zeros(flat.size % 2, np.int8)).astype(np.uint8) & 15
    return (nibbles[::2] | nibbles[1::2] << 4).tobytes()


def _nothing(_options: Mapping[str, Any], _rank: int) -> dict[str, Any]:
    return {}


def _slice_inputs(options: Mapping[str, Any], rank: int) -> dict[str, Any]:
    # the whole batch: its begin and end are masked out in the options
    return {"begin": (0, *options["begin"]), "end": (0, *options["end"]), "strides": (1, *options["stride"])}


# options of the graph that are constant inputs in the file; axes here count with the batch
_EXTRA_INPUTS: dict[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
    "reshape": lambda options, rank: {"shape": (-1, *options["shape"])},
    "pad": lambda options, rank: {"paddings": ((0, 0), *zip(options["before"], options["after"], strict=True))},
    "mean": lambda options, rank: {"axes": options["axes"]},
    "transpose": lambda options, rank: {"perm": (0, *(axis + 1 for axis in options["order"]))},
    "strided_slice": _slice_inputs,
    "resize_bilinear": lambda options, rank: {"size": options["size"]},
    "resize_nearest": lambda options, rank: {"size": options["size"]},
}


def _fields(op: Op) -> dict[str, Any]:
    """The fields of the op's options table."""
    given, fields = op.options, {}
    if "activation" in given:
        fields["fusedActivationFunction"] = _ACTIVATIONS[given["activation"]]
    if "padding" in given:
        fields["padding"] = 0 if given["padding"] == "same" else 1
    if "stride" in given and op.kind != "strided_slice":
        fields["strideH"], fields["strideW"] = given["stride"]
    if "dilation" in given:
        fields["dilationHFactor"], fields["dilationWFactor"] = given["dilation"]
    if "window" in given:
        fields["filterHeight"], fields["filterWidth"] = given["window"]
    if op.kind == "strided_slice":
        fields["beginMask"] = fields["endMask"] = 1
    names = {"multiplier": "depthMultiplier", "keep": "keepDims", "beta": "beta", "alpha": "alpha"} | {
        **{"align_corners": "alignCorners", "half_pixel_centers": "halfPixelCenters"},
    }
    fields |= {names[key]: given[key] for key in names if key in given}
    if op.kind == "concatenation":
        fields["axis"] = given["axis"] + 1
    return fields
