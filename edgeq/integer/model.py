"""A model file as a small read-only value, whatever its format. Names, shapes and indices were checked when it was read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeq.core.errors import EdgeqError

BITS = {"int4": 4, "int8": 8, "uint8": 8, "bool": 8, "int16": 16, "uint16": 16, "float16": 16} | {
    **dict.fromkeys(("int32", "uint32", "float32"), 32),
    **dict.fromkeys(("int64", "uint64", "float64"), 64),
}
"""Of an element of a type that is stored at a fixed width."""
MAX_FILE = 2**31  # bytes: what flatbuffers and protobuf can address
MAX_OPS = 10_000

_NUMBERS = {"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph.

    ``shape``: as stored (1 for a free batch axis in ``.tflite``, -1 where unknown); ``signature``: the same with -1 on free axes.
    ``dtype``: numpy's name, or ``int4``, ``string`` ... ; ``value = scales * (code - zeros)``, one scale, or one a slice of ``axis``.
    ``data``: the stored bytes of a constant (little-endian), else None.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scales: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    zeros: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    axis: int = 0
    data: memoryview | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds for one image; free axes count once."""
        return math.prod(abs(d) for d in self.shape)

    def codes(self) -> np.ndarray | None:
        """The constant's stored numbers in ``shape``; None where it is no constant, or of a type numpy cannot hold.

        ``int4`` is unpacked to int8, low nibble first.
        """
        if self.data is None:
            return None
        if self.dtype in ("int4", "uint4"):
            packed = np.frombuffer(self.data, np.uint8)
            nibbles = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[: self.elements].astype(np.int8)
            flat = nibbles - np.int8(16) * (nibbles > 7) if self.dtype == "int4" else nibbles
            return flat.reshape(self.shape) if flat.size == self.elements else None
        if self.dtype not in _NUMBERS or len(self.data) != self.elements * np.dtype(self.dtype).itemsize:
            return None
        return np.frombuffer(self.data, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Op:
    """One operator. ``inputs``, ``outputs``: indices into the model's tensors, -1 where an optional one is absent."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    custom: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """The main graph of a model file. ``size``: bytes of the file; ``metadata``: named blobs that travel in it.

    Of the main graph and those inside it: ``variables``, names of the tensors that keep their content from one image to the next, and
    ``restless``, ops whose answer no runtime can be made to give twice: resource variables, and random numbers.
    """

    path: str
    format: Literal["tflite", "onnx"]
    size: int
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    graphs: int = 1
    metadata: Mapping[str, memoryview] = field(default_factory=dict)
    description: str = ""
    variables: tuple[str, ...] = ()
    restless: tuple[str, ...] = ()

    def producer(self, tensor: int) -> Op | None:
        """The op that writes a tensor, the first of several; None for inputs and constants."""
        return self._producers.get(tensor)

    @cached_property
    def _producers(self) -> dict[int, Op]:
        return {tensor: op for op in reversed(self.ops) for tensor in op.outputs}


def file_bytes(path: str | Path) -> bytes:
    """The content of a model file; :class:`EdgeqError` where it is missing, empty, no file, or beyond 2 GiB."""
    path = Path(path)
    try:
        if not path.is_file():
            raise EdgeqError(f"{path}: " + ("is not a file" if path.exists() else "no such file"))
        if path.stat().st_size >= MAX_FILE:
            raise EdgeqError(f"{path}: is larger than 2 GiB, which no model of this kind can be")
        data = path.read_bytes()
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be read ({error.strerror})") from None
    if not data:
        raise EdgeqError(f"{path}: is empty")
    return data
