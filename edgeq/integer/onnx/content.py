"""The content of an ``.onnx`` file: its protobuf within limits, and all of it in one piece.

ONNX lets any tensor lie in another file. Only one form of that is taken: a regular file in the model's own folder, named without a path,
for all that is kept outside. Its bytes are taken in and checked here, so that ONNX Runtime opens no file, and what was hashed is what runs.
"""

from __future__ import annotations

import functools
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.integer.model import MAX_FILE, file_bytes

MAX_NODES = 40_000  # of all graphs and functions: ten times what large networks have, quantisers included
MAX_NAMES = 1_000_000  # that its nodes read and write
MAX_MESSAGES = 500_000  # of protobuf: two bytes of a file may become a hundred in memory
MAX_RANK = 16
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16, 21: 4, 22: 4}
"""``TensorProto.DataType`` -> bits an element."""


def damage(path: str) -> EdgeqError:
    return EdgeqError(f"{path}: the model is truncated or damaged; fetch or export it again")


def proto_of(data: bytes, path: str) -> Any:
    """The ``onnx.ModelProto`` in ``data``, if it has a graph and all its weights in itself. ``path`` names it in errors."""
    proto = _parsed(data, path)
    if next(outside(proto), None) is not None:
        raise EdgeqError(f"{path}: keeps its weights in a second file; save it as one file (onnx.save with save_as_external_data=False)")
    return proto


def self_contained(path: str | Path) -> bytes:
    """The model with the weights that lie in the one file beside it; the file's own bytes where it keeps none there."""
    data = file_bytes(path)
    if data[4:8] == b"TFL3":  # whatever its name
        return data
    proto = _parsed(data, str(path))
    tensors = list(outside(proto))
    if not tensors:
        return data
    content = file_bytes(_beside(tensors, Path(path)))
    left = len(content)
    if len(data) + left >= MAX_FILE:
        raise EdgeqError(f"{path}: is larger than 2 GiB with its second file, which no model of this kind can be")
    for tensor in tensors:
        start, length = _range(tensor, len(content), str(path))
        left -= length
        if left < 0:
            raise EdgeqError(f"{path}: its weights overlap in the second file; export it again")
        tensor.raw_data = content[start : start + length]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return bytes(proto.SerializeToString(deterministic=True))


def beside(path: str | Path) -> Path | None:
    """The second file that the weights of the ``.onnx`` file ``path`` lie in; None where it has none."""
    data = file_bytes(path)
    if data[4:8] == b"TFL3":
        return None
    tensors = list(outside(_parsed(data, str(path))))
    return _beside(tensors, Path(path)) if tensors else None


def _parsed(data: bytes, path: str) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise EdgeqError(f'{path}: reading .onnx files needs the onnx packages; pip install "edgeq[onnx]"') from None
    if data[4:8] == b"ORTM":  # ONNX Runtime would take it for another format, and run another model than the one that is read here
        raise EdgeqError(f"{path}: is a file of ONNX Runtime's own format (.ort), or poses as one; pass the .onnx it was made from")
    proto = onnx.ModelProto()
    try:
        if len(data) > 2 * MAX_MESSAGES:
            _check_messages(data, proto.DESCRIPTOR)
        proto.ParseFromString(data)
    except (DecodeError, IndexError, ValueError):
        raise damage(path) from None
    if not proto.ir_version or not proto.graph.node or not proto.graph.output:
        raise damage(path)
    _check_counts(proto, path)
    return proto


def _check_messages(data: bytes, model: Any) -> None:
    """Raises ``ValueError`` before a parser would take memory for more than ``MAX_MESSAGES`` messages."""
    count, todo = 0, [(0, len(data), model)]

    def varint(at: int) -> tuple[int, int]:
        value = data[at]
        if value < 128:
            return value, at + 1
        value, shift = value & 127, 7
        while True:
            at += 1
            byte = data[at]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value, at + 1
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    while todo:
        at, end, kind = todo.pop()
        inner = _messages_in(kind)
        while at < end:
            tag, at = varint(at)
            if tag & 7 == 2:
                length, at = varint(at)
                if (nested := inner.get(tag >> 3)) is not None:
                    count += 1
                    if count > MAX_MESSAGES:
                        raise ValueError("too many messages")
                    if length:
                        todo.append((at, at + length, nested))
                at += length
            elif tag & 7 == 0:
                _, at = varint(at)
            elif tag & 7 in (1, 5):
                at += 8 if tag & 7 == 1 else 4
            else:
                raise ValueError("a group, which onnx has none of")
        if at != end:
            raise ValueError("a message that ends behind its end")


@functools.cache
def _messages_in(kind: Any) -> dict[int, Any]:
    return {f.number: f.message_type for f in kind.fields if f.message_type is not None}


def _check_counts(proto: Any, path: str) -> None:
    nodes = names = 0
    for graph in graphs(proto):
        nodes += len(graph.node)
        names += len(graph.input) + len(graph.output)
        if nodes > MAX_NODES or names > MAX_NAMES:
            raise EdgeqError(f"{path}: has more than {MAX_NODES:,} ops; up to that many can be read")
        names += sum(len(node.input) + len(node.output) for node in graph.node)
    if any(len(t.dims) > MAX_RANK for t in _tensors(proto)):
        raise damage(path)
    lists = proto.graph.initializer, proto.graph.input, proto.graph.output, proto.graph.value_info
    if names > MAX_NAMES or sum(map(len, lists)) > MAX_NAMES:
        raise EdgeqError(f"{path}: its ops have more than {MAX_NAMES:,} inputs and outputs; that many cannot be read")


def graphs(proto: Any) -> Iterator[Any]:
    """Every graph and function of a model: its own, those of training, and however deep in attributes. Not recursive."""
    todo = [proto.graph, *proto.functions, *(g for t in proto.training_info for g in (t.initialization, t.algorithm))]
    while todo:
        graph = todo.pop()
        yield graph
        for attribute in attributes(graph):
            if attribute.HasField("g"):
                todo.append(attribute.g)
            todo.extend(attribute.graphs)


def attributes(graph: Any) -> Iterator[Any]:
    """Every attribute of a graph's or function's nodes, and a function's defaults."""
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())


def outside(proto: Any) -> Iterator[Any]:
    """Every tensor that lies in another file, wherever a tensor can stand."""
    return (t for t in _tensors(proto) if t.data_location or t.external_data)


def _tensors(proto: Any) -> Iterator[Any]:
    for graph in graphs(proto):
        sparse = list(getattr(graph, "sparse_initializer", ()))
        yield from getattr(graph, "initializer", ())
        for attribute in attributes(graph):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
            sparse.extend(attribute.sparse_tensors)
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices


def _beside(tensors: list[Any], path: Path) -> Path:
    names = {e.value for t in tensors for e in t.external_data if e.key == "location"}
    name = names.pop() if len(names) == 1 else ""
    if not isinstance(name, str) or not name.isprintable() or any(c in name for c in '/\\:*?"<>|') or name.strip(". ") in ("", path.name):
        raise EdgeqError(
            f"{path}: keeps its weights elsewhere; edgeq takes one second file in the model's own folder, named without a path: "
            "save it as one file (onnx.save with save_as_external_data=False)"
        )
    file = path.with_name(name)
    try:
        kind = os.lstat(file).st_mode
    except OSError as error:
        raise EdgeqError(f"{path}: keeps its weights in {name}, which cannot be read ({error.strerror}); put it beside the model") from None
    if not stat.S_ISREG(kind):
        raise EdgeqError(f"{path}: keeps its weights in {name}, which is no regular file; put the file itself beside the model")
    return file


def _range(tensor: Any, size: int, path: str) -> tuple[int, int]:
    """Where a tensor's bytes lie in the second file of ``size`` bytes."""
    entries = {e.key: e.value for e in tensor.external_data}
    start, length = (entries.get(key, "0") for key in ("offset", "length"))
    shape = tuple(tensor.dims)
    if not all(isinstance(v, str) and v.isascii() and v.isdecimal() and len(v) < 16 for v in (start, length)):
        raise damage(path)
    wanted = -(-math.prod(shape) * _BITS.get(tensor.data_type, 0) // 8)
    stated = int(length) if "length" in entries else wanted
    if min(shape, default=0) < 0 or tensor.data_type not in _BITS or stated != wanted or int(start) + wanted > size:
        raise EdgeqError(f"{path}: a tensor's place in the second file does not fit its shape; export it again")
    return int(start), wanted
