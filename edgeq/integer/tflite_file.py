"""Reads a ``.tflite`` file as a :class:`~edgeq.integer.model.Model`. The file is untrusted.

The accessors are the schema's own (``ai_edge_litert.schema_py_generated``), but they check little: a vector's length is whatever the
file says, and offsets may alias. So every length is checked against the file's size before it is followed, names are cut, and what is
copied counts against a budget of the file's own size. Constants stay views into the file.
"""

from __future__ import annotations

import functools
import math
import struct
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.model import BITS, MAX_OPS, Model, Op, Tensor, file_bytes

MAX_RANK = 8
MAX_NAME = 512
SPARSE = 1000  # times the stored bytes that a sparse tensor may come to
MAX_COUNT = 40_000  # tensors, buffers: ten times what large networks have, and what can be read in two seconds
RESTLESS = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"}
_DAMAGE = (struct.error, IndexError, ValueError, OverflowError, TypeError, AttributeError, KeyError)


class _DamageError(ValueError):
    pass


def read(path: str) -> Model:
    """The model in the file ``path``. Raises :class:`EdgeqError`."""
    return parse(file_bytes(path), str(path))


def parse(data: bytes, path: str) -> Model:
    """The model in ``data``; ``path`` names it in errors."""
    if data[4:8] != b"TFL3":
        raise EdgeqError(f"{path}: is not a TFLite model (it does not carry the file identifier TFL3)")
    try:
        return _Reader(data).model(path)
    except _DAMAGE:
        raise EdgeqError(f"{path}: the model is truncated or damaged; fetch or export it again") from None


@functools.cache
def _names(enum: str) -> dict[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    return {v: k for k, v in vars(getattr(schema, enum)).items() if isinstance(v, int)}


@functools.cache
def _option_fields(kind: str) -> tuple[tuple[str, str, bool], ...]:
    """``(accessor, our name, is a vector)`` of an options table, read off the generated class."""
    from ai_edge_litert import schema_py_generated as schema

    accessors = {k: v.__code__.co_argcount for k, v in vars(getattr(schema, kind)).items() if hasattr(v, "__code__") and k != "Init"}
    fields = []
    for name, arguments in accessors.items():
        if arguments == 1 and not name.endswith(("AsNumpy", "Length", "IsNone")):
            fields.append((name, _snake(name), False))
        elif arguments == 2 and name + "Length" in accessors:
            fields.append((name, _snake(name), True))
    return tuple(fields)


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(name))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)
        self.budget = 4 * self.size + 65536

    def spend(self, count: int, width: int = 4) -> int:
        """``count`` if that many elements of ``width`` bytes can be in the file and the budget is not used up."""
        self.budget -= count * width
        if count < 0 or count * width > self.size or self.budget < 0:
            raise _DamageError
        return count

    def name(self, text: bytes | None) -> str:
        text = text or b""
        self.spend(len(text), 1)
        return text[:MAX_NAME].decode("utf-8", "replace")

    def integers(self, table: Any, field: str, limit: int) -> tuple[int, ...]:
        count = self.spend(getattr(table, field + "Length")())
        if count > limit:
            raise _DamageError
        return tuple(getattr(table, field + "AsNumpy")().tolist()) if count else ()

    def tables(self, table: Any, field: str) -> list[Any]:
        count = self.spend(getattr(table, field + "Length")())
        if count > MAX_COUNT:
            raise _DamageError
        return [getattr(table, field)(i) for i in range(count)]

    def model(self, path: str) -> Model:
        from ai_edge_litert import schema_py_generated as schema

        root = schema.Model.GetRootAs(self.data, 0)
        buffers = [self.buffer(b) for b in self.tables(root, "Buffers")]
        codes = [self.code(c) for c in self.tables(root, "OperatorCodes")]
        graphs = self.tables(root, "Subgraphs")
        graph = graphs[0]
        if MAX_OPS < graph.OperatorsLength() <= self.size // 4:  # else the number is damaged
            raise EdgeqError(f"{path}: has {graph.OperatorsLength():,} ops; up to {MAX_OPS:,} can be read")
        tensors = tuple(self.tensor(t, buffers) for t in self.tables(graph, "Tensors"))
        count = len(tensors)
        return Model(
            path,
            "tflite",
            self.size,
            tensors,
            tuple(self.op(o, codes, count) for o in self.tables(graph, "Operators")),
            self.indices(graph, "Inputs", count),
            self.indices(graph, "Outputs", count),
            len(graphs),
            MappingProxyType({self.name(m.Name()): buffers[m.Buffer()] for m in self.tables(root, "Metadata")}),
            self.name(root.Description()),
            tuple(self.name(t.Name()) for g in graphs for t in self.tables(g, "Tensors") if t.IsVariable()),
            tuple(sorted({codes[o.OpcodeIndex()][0] for g in graphs for o in self.tables(g, "Operators")} & RESTLESS)),
        )

    def indices(self, table: Any, field: str, count: int, lowest: int = 0) -> tuple[int, ...]:
        values = self.integers(table, field, MAX_COUNT)
        if any(not lowest <= i < count for i in values):
            raise _DamageError
        return values

    def buffer(self, buffer: Any) -> memoryview:
        if buffer.Offset() > 1:  # beyond the flatbuffer, in the same file
            start, stop = buffer.Offset(), buffer.Offset() + buffer.Size()
        elif length := buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            stop = start + length
        else:
            return memoryview(b"")
        if not 0 <= start <= stop <= self.size:
            raise _DamageError
        return memoryview(self.data)[start:stop]

    def code(self, code: Any) -> tuple[str, bool]:
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _names("BuiltinOperator").get(number, f"BUILTIN_{number}")
        return (self.name(code.CustomCode()) or "unnamed", True) if name == "CUSTOM" else (name, False)

    def tensor(self, tensor: Any, buffers: list[memoryview]) -> Tensor:
        shape = self.integers(tensor, "Shape", MAX_RANK)
        signature = self.integers(tensor, "ShapeSignature", MAX_RANK) or shape
        if any(d < 0 for d in shape) or any(d < -1 for d in signature):
            raise _DamageError
        scales, zeros, axis = np.empty(0, np.float32), np.empty(0, np.int64), 0
        if (q := tensor.Quantization()) is not None:
            if self.spend(q.ScaleLength()):
                scales = q.ScaleAsNumpy()
            if self.spend(q.ZeroPointLength(), 8):
                zeros = q.ZeroPointAsNumpy()
            axis = q.QuantizedDimension()
        dtype = _names("TensorType").get(tensor.Type(), "unknown").lower()
        data = buffers[tensor.Buffer()] or None if tensor.Buffer() or buffers else None  # 0 is the empty one, which a file may leave out
        if data is not None and math.prod(shape) * BITS.get(dtype, 0) > 8 * len(data) * (SPARSE if tensor.Sparsity() is not None else 1):
            raise _DamageError  # TFLite Micro would read on behind the buffer
        return Tensor(self.name(tensor.Name()), shape, signature, dtype, scales, zeros, axis, data)

    def op(self, op: Any, codes: list[tuple[str, bool]], count: int) -> Op:
        name, custom = codes[op.OpcodeIndex()]
        options = MappingProxyType({} if custom else self.options(op))
        return Op(name, self.indices(op, "Inputs", count, -1), self.indices(op, "Outputs", count), options, custom)

    def options(self, op: Any) -> dict[str, Any]:
        from ai_edge_litert import schema_py_generated as schema

        kind, table = _names("BuiltinOptions").get(op.BuiltinOptionsType(), "NONE"), op.BuiltinOptions()
        if kind == "NONE" or table is None:
            return {}
        view = getattr(schema, kind)()
        view.Init(table.Bytes, table.Pos)
        values: dict[str, Any] = {}
        for accessor, ours, vector in _option_fields(kind):
            if vector:
                count = min(self.spend(getattr(view, accessor + "Length")()), MAX_COUNT)
                values[ours] = tuple(getattr(view, accessor)(i) for i in range(count))
            else:
                value = getattr(view, accessor)()
                if isinstance(value, bytes):
                    value = self.name(value)
                if isinstance(value, (int, float, str)):
                    values[ours] = value
        return values
