"""Reads an ``.onnx`` file as a :class:`~edgeq.integer.model.Model`. The file is untrusted: see :mod:`edgeq.integer.onnx.content`."""

from __future__ import annotations

import functools
import math
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer.model import BITS, Model, Op, Tensor
from edgeq.integer.onnx.content import MAX_RANK, damage, graphs, proto_of, self_contained
from edgeq.integer.onnx.inference import inferred

__all__ = ["parse", "proto_of", "read", "self_contained"]

MAX_NAME = 512
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16"} | {
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    21: "uint4",
    22: "int4",
}
_ATTRIBUTES = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}  # onnx.AttributeProto.AttributeType: the plain ones


def read(path: str) -> Model:
    """The model in the file ``path``. Raises :class:`~edgeq.core.errors.EdgeqError`."""
    return parse(self_contained(path), str(path))


def parse(data: bytes, path: str) -> Model:
    """The model in ``data``; ``path`` names it in errors."""
    proto = proto_of(data, path)
    try:
        return _model(proto, path, len(data))
    except (ValueError, IndexError, KeyError, TypeError, OverflowError):
        raise damage(path) from None


def _model(proto: Any, path: str, size: int) -> Model:
    graph = proto.graph
    constants = {t.name: t for t in graph.initializer}
    constants |= {n.output[0]: a.t for n in graph.node if n.op_type == "Constant" and n.output for a in n.attribute if a.name == "value"}
    values = {v.name: v for v in (*inferred(proto), *graph.value_info, *graph.output, *graph.input)}
    nodes = [n for n in graph.node if not (n.op_type == "Constant" and n.output and n.output[0] in constants)]
    names = list(dict.fromkeys([*values, *constants, *(x for n in nodes for x in (*n.input, *n.output) if x)]))
    index = {name: i for i, name in enumerate(names)}
    if not all(isinstance(text, str) for text in (proto.producer_name, *names, *(x for n in nodes for x in (n.op_type, n.domain)))):
        raise ValueError("text that is not UTF-8")

    def find(names: Any) -> tuple[int, ...]:
        return tuple(index.get(x, -1) for x in names)

    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    ops = tuple(Op(n.op_type, find(n.input), find(n.output), MappingProxyType(_options(n, version)), _is_custom(n)) for n in nodes)
    quantised = _quantisation(nodes, constants)
    tensors = tuple(_tensor(name, values.get(name), constants.get(name), quantised.get(name)) for name in names)
    inputs = find(v.name for v in graph.input if v.name not in constants)
    about = {
        "description": proto.producer_name[:MAX_NAME],
        "restless": tuple(sorted({n.op_type for g in graphs(proto) for n in g.node} & RANDOM)),
    }
    return Model(path, "onnx", size, tensors, ops, inputs, find(v.name for v in graph.output), **about)


def _is_custom(node: Any) -> bool:
    return node.domain not in ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")


def _options(node: Any, version: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for a in node.attribute:
        if (field := _ATTRIBUTES.get(a.type)) is not None:
            value = getattr(a, field)
            options[a.name] = (
                value.decode("utf-8", "replace")[:MAX_NAME]
                if isinstance(value, bytes)
                else tuple(value)
                if field in ("floats", "ints")
                else value
            )
    if node.op_type == "Softmax":  # before version 13 its axis meant another thing
        options["axis"] = options.get("axis", -1) if version >= 13 else None
    return options


def _tensor(name: str, value: Any, constant: Any, quantised: tuple[np.ndarray, np.ndarray, int] | None) -> Tensor:
    scales, zeros, axis = quantised or (np.empty(0, np.float32), np.empty(0, np.int64), 0)
    name = name[:MAX_NAME]
    if constant is not None:
        shape = tuple(constant.dims)
        if any(d < 0 for d in shape):
            raise ValueError(name)
        dtype = _DTYPES.get(constant.data_type, "unknown")
        if 0 < 8 * len(constant.raw_data) < math.prod(shape) * BITS.get(dtype, 0):
            raise ValueError(name)
        return Tensor(name, shape, shape, dtype, scales, zeros, axis, _content(constant, dtype, math.prod(shape)))
    if value is None:
        return Tensor(name, (), (), "unknown", scales, zeros, axis)
    kind = value.type.tensor_type
    if len(kind.shape.dim) > MAX_RANK:
        raise ValueError(name)
    signature = tuple(d.dim_value if d.dim_value > 0 else -1 for d in kind.shape.dim)
    # a free batch axis counts as one image, as in a .tflite
    shape = (1, *signature[1:]) if signature[:1] == (-1,) else signature
    return Tensor(name, shape, signature, _DTYPES.get(kind.elem_type, "unknown"), scales, zeros, axis)


def _content(constant: Any, dtype: str, elements: int) -> memoryview | None:
    """The constant's bytes, little-endian; None where it is of a type that is not looked at, or does not hold what its shape says."""
    if constant.raw_data:
        return memoryview(constant.raw_data)
    field = {"float32": "float_data", "int64": "int64_data", "float64": "double_data"}.get(dtype)
    if dtype in ("int8", "uint8", "int16", "uint16", "int32", "bool"):
        field = "int32_data"
    numbers = getattr(constant, field) if field else ()
    if not numbers or len(numbers) != elements:
        return None
    return memoryview(np.array(numbers, np.int64 if field == "int32_data" else dtype).astype(dtype).tobytes())


def _quantisation(nodes: list[Any], constants: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Scale, zero point and axis of the tensors that stand on the integer side of a (de)quantisation or of an integer kernel."""
    sides = {  # op: positions of (tensor, scale, zero) triples; the output is named by its node
        "DequantizeLinear": ((0, 1, 2),),
        "QLinearConv": ((0, 1, 2), (3, 4, 5)),
        "QLinearMatMul": ((0, 1, 2), (3, 4, 5)),
        "QGemm": ((0, 1, 2), (3, 4, 5)),
    }
    outputs = {"QuantizeLinear": (1, 2), "QLinearConv": (6, 7), "QLinearMatMul": (6, 7), "QGemm": (7, 8), "QLinearSoftmax": (3, 4)}
    known: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}

    @functools.cache  # many ops may share one constant
    def numbers(name: str, dtype: type) -> np.ndarray:
        return _numbers(constants[name]).astype(dtype)

    @functools.cache
    def zeros(count: int) -> np.ndarray:
        return np.zeros(count, np.int64)

    def note(tensor: str, scale: str, zero: str, axis: int) -> None:
        if scale in constants:
            scales = numbers(scale, np.float32)
            known[tensor] = (scales, numbers(zero, np.int64) if zero in constants else zeros(scales.size), axis)

    for node in nodes:
        given = [*node.input, *[""] * 9]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        for tensor, scale, zero in sides.get(node.op_type, ()):
            note(given[tensor], given[scale], given[zero], axis if node.op_type == "DequantizeLinear" else 0)
        if node.op_type in outputs and node.output:
            scale, zero = outputs[node.op_type]
            note(node.output[0], given[scale], given[zero], axis)
    moves = [n for n in nodes if n.op_type in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity") and n.output]
    for node in reversed(moves):  # an input may be moved about before it is dequantised, as tf2onnx does to images
        if node.output[0] in known and known[node.output[0]][0].size == 1:
            known.setdefault(node.input[0], known[node.output[0]])
    for node in moves:
        if node.input[0] in known and known[node.input[0]][0].size == 1:
            known.setdefault(node.output[0], known[node.input[0]])
    return known


def _numbers(constant: Any) -> np.ndarray:
    dtype = _DTYPES.get(constant.data_type, "unknown")
    content = _content(constant, dtype, math.prod(constant.dims))
    if content is None or dtype not in ("float32", "int8", "uint8", "int32", "int64"):
        return np.zeros(1)
    return np.frombuffer(content, np.dtype(dtype).newbyteorder("<"))
