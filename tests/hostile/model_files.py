"""Small hostile model files: each once hung, filled the memory, or slipped a second file in. All return bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flatbuffers
import numpy as np
import tiny_tflite
from ai_edge_litert import schema_py_generated as schema

B = schema.BuiltinOperator


def chain(ops: int, code: int = B.LOGISTIC, classes: int = 10) -> bytes:
    """A ``.tflite`` of ``ops`` ops in a row, each with its own tensor, written without the slow object API."""
    b = flatbuffers.Builder(ops * 100)
    schema.BufferStart(b)
    buffer = schema.BufferEnd(b)
    schema.OperatorCodeStart(b)
    schema.OperatorCodeAddBuiltinCode(b, code)
    schema.OperatorCodeAddDeprecatedBuiltinCode(b, code)
    schema.OperatorCodeAddVersion(b, 1)
    opcode = schema.OperatorCodeEnd(b)

    def vector(values: Any) -> int:
        return int(b.CreateNumpyVector(np.asarray(values)))

    def offsets(tables: list[int]) -> int:
        b.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            b.PrependUOffsetTRelative(table)
        return int(b.EndVector())

    scale, zero, name = vector(np.float32([1 / 256])), vector(np.int64([-128])), b.CreateString("t")
    schema.QuantizationParametersStart(b)
    schema.QuantizationParametersAddScale(b, scale)
    schema.QuantizationParametersAddZeroPoint(b, zero)
    quantisation, shape, tensors, operators = schema.QuantizationParametersEnd(b), vector(np.int32([1, 8, 8, 1])), [], []
    for _ in range(ops + 1):
        schema.TensorStart(b)
        schema.TensorAddShape(b, shape)
        schema.TensorAddType(b, tiny_tflite.TYPES["int8"])
        schema.TensorAddName(b, name)
        schema.TensorAddQuantization(b, quantisation)
        tensors.append(schema.TensorEnd(b))
    for i in range(ops):
        given, made = vector(np.int32([i])), vector(np.int32([i + 1]))
        schema.OperatorStart(b)
        schema.OperatorAddInputs(b, given)
        schema.OperatorAddOutputs(b, made)
        operators.append(schema.OperatorEnd(b))
    parts = vector(np.int32([0])), vector(np.int32([ops])), offsets(tensors), offsets(operators)
    schema.SubGraphStart(b)
    for add, part in zip(("Inputs", "Outputs", "Tensors", "Operators"), parts, strict=True):
        getattr(schema, "SubGraphAdd" + add)(b, part)
    lists = offsets([schema.SubGraphEnd(b)]), offsets([opcode]), offsets([buffer])
    schema.ModelStart(b)
    schema.ModelAddVersion(b, 3)
    for add, part in zip(("Subgraphs", "OperatorCodes", "Buffers"), lists, strict=True):
        getattr(schema, "ModelAdd" + add)(b, part)
    b.Finish(schema.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def paths_to_tensors() -> Iterator[tuple[str, ...]]:
    """Every way from a model to a tensor in ONNX's own schema, graphs in attributes entered once: the names of fields."""
    import onnx

    todo: list[tuple[tuple[str, ...], Any]] = [((), onnx.ModelProto.DESCRIPTOR)]
    while todo:
        path, kind = todo.pop()
        if kind.name == "TensorProto":
            yield path
        elif len(path) < 9:
            todo += [((*path, f.name), f.message_type) for f in kind.fields if f.message_type is not None and path.count(f.name) < 2]


def field(number: int, content: bytes) -> bytes:
    """One field of a protobuf message, as bytes."""
    size, length = len(content), b""
    while size > 127:
        size, length = size >> 7, length + bytes([size & 127 | 128])
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def with_outside_tensor(content: bytes, path: tuple[str, ...], location: str = "weights.bin") -> bytes:
    """``content`` with one more tensor at ``path``, whose four bytes lie in another file."""
    import onnx

    model = onnx.load_model_from_string(content)
    here: Any = model
    for name in path:
        child = getattr(here, name)
        here = child.add() if hasattr(child, "add") else child
    here.SetInParent()
    here.name, here.data_type, here.data_location = "outside", onnx.TensorProto.INT8, onnx.TensorProto.EXTERNAL
    here.dims.append(4)
    here.external_data.add(key="location", value=location)
    return model.SerializeToString()


def wide(units: int) -> bytes:
    """A ``.tflite`` of one dense layer from an image of 4 pixels to ``units`` classes: 4 bytes a class."""
    g = tiny_tflite.Graph()
    x = g.tensor("image", (1, 2, 2, 1), "int8", 1 / 255, -128)
    w = g.tensor("w", (units, 4), "int8", 0.01, 0, np.resize(np.arange(-127, 128), 4 * units))
    out = g.tensor("scores", (1, units), "int8", 0.1, 0)
    g.op(B.FULLY_CONNECTED, [x, w, -1], [out], schema.FullyConnectedOptionsT())
    return g.done([x], [out])


def same_weights(tensors: int, size: int) -> bytes:
    """A ``.tflite`` of ``tensors`` dense layers, whose weights are ``tensors`` tensors that show the same ``size`` squared bytes."""
    g = tiny_tflite.Graph()
    last = x = g.tensor("image", (1, size), "int8", 1 / 255, -128)
    buffer = 0
    for i in range(tensors):
        w = g.tensor(f"w{i}", (size, size), "int8", 0.01, 0, None if buffer else np.resize(np.arange(-127, 128), size * size))
        buffer = g.graph.tensors[w].buffer = buffer or g.graph.tensors[w].buffer
        last, before = g.tensor(f"t{i}", (1, size), "int8", 1 / 255, -128), last
        g.op(B.FULLY_CONNECTED, [before, w, -1], [last], schema.FullyConnectedOptionsT())
    return g.done([x], [last])
