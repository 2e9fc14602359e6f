"""A small reader of MATLAB v5 files: the numeric arrays at their top level, and nothing else (MAT-File Level 5 format, MathWorks).

Sizes are checked before anything is allocated.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from edgeq.core.errors import EdgeqError

MAX_BYTES = 256 << 20  # all arrays; the official train file has 225 MB
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # double, single, int8 .. uint64


def read_arrays(data: bytes, wanted: set[str], where: str) -> dict[str, np.ndarray]:
    """Name -> array (in MATLAB's column order) of those ``wanted`` arrays that ``data`` holds. Raises :class:`EdgeqError`."""
    if data[:8] == b"\x89HDF\r\n\x1a\n" or b"MATLAB 7.3" in data[:32]:
        raise EdgeqError(f"{where}: is a MATLAB 7.3 file; use the official one, or save it with -v7")
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if len(data) < 136 or order is None:
        raise EdgeqError(f"{where}: is not a MATLAB v5 file")
    arrays: dict[str, np.ndarray] = {}
    left = MAX_BYTES
    try:
        for kind, body in _elements(memoryview(data)[128:], order):
            if kind == _COMPRESSED:
                kind, body = _inflate(body, order, left)
                left -= len(body)
            if kind == _MATRIX:
                name, array = _matrix(body, order, wanted)
                if array is not None:
                    arrays[name] = array
    except (struct.error, zlib.error, ValueError, KeyError) as error:
        raise EdgeqError(f"{where}: is a damaged MATLAB file ({error})") from None
    return arrays


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, body) of each data element. Bodies are padded to 8 bytes, except compressed ones; up to 4 bytes fit into the tag itself."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise ValueError("a small element that is not small")
            yield kind, data[at + 4 : at + 4 + size]
            at += 8
            continue
        at += 8
        if size > len(data) - at:
            raise ValueError("it ends early")
        yield kind, data[at : at + size]
        at += size if kind == _COMPRESSED else (size + 7) // 8 * 8


def _inflate(body: memoryview, order: str, most: int) -> tuple[int, memoryview]:
    stream = zlib.decompressobj()
    head = stream.decompress(body, 8)
    kind, size = struct.unpack(order + "II", head)
    if size > most:
        raise ValueError(f"arrays of more than {MAX_BYTES >> 20} MB")
    rest = stream.decompress(stream.unconsumed_tail, max(size, 1))
    if len(rest) < size:
        raise ValueError("it ends early")
    return kind, memoryview(rest)


def _matrix(body: memoryview, order: str, wanted: set[str]) -> tuple[str, np.ndarray | None]:
    parts = _elements(body, order)
    flags, dimensions, title = (next(parts, (0, memoryview(b"")))[1] for _ in range(3))
    name = bytes(title).decode("ascii", "replace")
    if len(flags) < 8 or name not in wanted:
        return name, None
    word = struct.unpack_from(order + "I", flags)[0]
    if (word & 0xFF) not in _NUMERIC_CLASSES or word & 0x0800:
        raise ValueError(f"{name} is not an array of real numbers")
    shape = tuple(int(s) for s in np.frombuffer(dimensions, order + "i4"))
    kind, content = next(parts, (0, memoryview(b"")))
    array = np.frombuffer(content, order + _TYPES[kind])
    if not shape or min(shape) < 0 or math.prod(shape) != len(array):
        raise ValueError(f"{name}'s shape {shape} does not fit its {len(array)} numbers")
    return name, array.reshape(shape, order="F")
