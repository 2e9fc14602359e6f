"""What a model file says of its own input: edgeq's sidecar ``NAME.edgeq.json``, or the TFLite Metadata inside a ``.tflite``.

TFLite Metadata is a flatbuffer of its own (``metadata_schema.fbs``) in the buffer named TFLITE_METADATA; label files lie in a zip
behind the model. Files are untrusted: every offset is checked, and damaged metadata counts as none.
"""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import zips
from edgeq.core.errors import EdgeqError
from edgeq.core.names import in_order, read_names
from edgeq.pipeline import sidecar
from edgeq.pipeline.preprocess import Preprocess

BESIDE = ("labels.txt", "imagenet_class_index.json")
"""Lists of class names that are looked for in a model's folder."""
MAX_LABELS, MAX_MODEL = 4 << 20, 1 << 30
_NORMALIZATION = 1  # ProcessUnitOptions
_AXIS_LABELS = 2  # AssociatedFileType TENSOR_AXIS_LABELS
_UINT8 = 3  # TensorType
MAX_TABLES = 100_000  # of one list: tensors, buffers


def stated(path: str | Path) -> tuple[str | None, list[str] | None, str]:
    """(``--preprocess`` spec, class labels in order, where they stand) of a model file; None for what is not stated.

    The sidecar is believed before the metadata, and both before a list of names in the same folder. Metadata states mean and std only, or
    for a uint8 input that pixels are copied: :func:`edgeq.pipeline.preprocess.resolve` adds the rest.
    Raises :class:`EdgeqError` for a sidecar that is not what edgeq writes.
    """
    path = Path(path)
    spec, labels, where = _sidecar(path)
    if path.suffix.lower() == ".tflite" and (spec is None or labels is None):
        more, names = _tflite(path)
        if (spec is None and more) or (labels is None and names):
            where = " and ".join(filter(None, (where, "TFLite metadata")))
        spec, labels = spec or more, labels or names
    if labels is None:
        labels, beside = _beside(path)
        where = " and ".join(filter(None, (where, beside)))
    return spec, labels, where


def _beside(path: Path) -> tuple[list[str] | None, str]:
    """The names in the first of ``BESIDE`` in the model's folder, and its name. One that lists none may be about something else."""
    for name in BESIDE:
        if path.with_name(name).is_file():
            with contextlib.suppress(EdgeqError):
                return list(read_names(path.with_name(name))), name
    return None, ""


def _sidecar(path: Path) -> tuple[str | None, list[str] | None, str]:
    value, where = sidecar.read(path)
    spec, labels = value.get("preprocess"), value.get("labels")
    names = labels if isinstance(labels, list) and all(isinstance(v, str) for v in labels) else None
    if not isinstance(spec, str | None) or (labels is not None and names is None):
        raise EdgeqError(f"{path.with_name(where)}: preprocess must be a text and labels a list of texts; remove it or export again")
    return spec or None, names or None, where


def _tflite(path: Path) -> tuple[str | None, list[str] | None]:
    try:
        if path.stat().st_size > MAX_MODEL:
            return None, None
        data = path.read_bytes()
        metadata = _metadata_buffer(data)
        if metadata is None:
            return None, None
        graphs = _Table.root(metadata).tables(3)
        spec = _normalisation(graphs[0].tables(2)) if graphs else None
        if spec is not None and _takes_bytes(data):
            spec = "bytes"
        return spec, _labels(data, graphs[0].tables(3)) if graphs else None
    except zips.DAMAGE:
        return None, None


def _metadata_buffer(data: bytes) -> bytes | None:
    if data[4:8] != b"TFL3":
        return None
    model = _Table.root(data)
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            buffers = model.tables(4)
            number = entry.number(1, "I")
            return buffers[number].content(0) if number < len(buffers) else None
    return None


def _takes_bytes(data: bytes) -> bool:
    """Whether the first input is uint8. Then the normalisation is that of the float network it was made from, and Google's Task Library and
    MediaPipe copy pixels as they are (tensorflow/tflite-support, ``image_tensor_specs.h``)."""
    graphs = _Table.root(data).tables(2)
    inputs = graphs[0].integers(1) if graphs else ()
    tensors = graphs[0].tables(0) if inputs else []
    return bool(inputs) and 0 <= inputs[0] < len(tensors) and tensors[inputs[0]].number(1, "b") == _UINT8


def _normalisation(inputs: list[_Table]) -> str | None:
    """Of the first input tensor. Mean and std in pixels 0..255, as the metadata's own tools write them."""
    for unit in inputs[0].tables(4) if inputs else []:
        options = unit.table(1)
        if unit.number(0, "B") == _NORMALIZATION and options is not None:
            mean, std = options.floats(0), options.floats(1)
            spec = f"mean={','.join(map(_spelt, mean))},std={','.join(map(_spelt, std))}"
            try:
                Preprocess.parse(spec, (1, 1), max(len(mean), len(std)))
            except EdgeqError:  # zeros, NaN, or of another length
                return None
            return spec
    return None


def _labels(data: bytes, outputs: list[_Table]) -> list[str] | None:
    files = outputs[0].tables(6) if outputs else []
    names = [f.text(0) for f in files if f.number(2, "B") == _AXIS_LABELS]
    if not names:
        return None
    with zips.opened(io.BytesIO(data)) as archive, zips.member(archive, names[0]) as member:
        content = member.read(MAX_LABELS + 1)
    if len(content) > MAX_LABELS:
        return None
    return list(in_order([line.strip() for line in content.decode("utf-8").rstrip().splitlines()])) or None


def _spelt(value: float) -> str:
    """The shortest decimal that is this float32."""
    return str(np.float32(value))


class _Table:
    """A flatbuffer table: every access is checked against the buffer, and raises ``ValueError`` or ``struct.error`` outside of it."""

    __slots__ = ("at", "data", "slots", "vtable")

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.vtable = at - self._read("i", at)
        self.slots = (self._read("H", self.vtable) - 4) // 2

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, struct.unpack_from("<I", data)[0])

    def _read(self, kind: str, at: int) -> Any:
        if at < 0:
            raise ValueError("an offset before the file")
        return struct.unpack_from("<" + kind, self.data, at)[0]

    def _field(self, slot: int) -> int | None:
        """Where a field's value lies; None where it is left out."""
        offset = self._read("H", self.vtable + 4 + 2 * slot) if slot < self.slots else 0
        return self.at + offset if offset else None

    def _vector(self, slot: int, itemsize: int) -> tuple[int, int]:
        """(start, length), inside of the file."""
        field = self._field(slot)
        if field is None:
            return 0, 0
        at = field + self._read("I", field)
        length = self._read("I", at)
        if at + 4 + length * itemsize > len(self.data):
            raise ValueError("a vector that ends behind the file")
        return at + 4, length

    def number(self, slot: int, kind: str) -> int:
        field = self._field(slot)
        return 0 if field is None else int(self._read(kind, field))

    def table(self, slot: int) -> _Table | None:
        field = self._field(slot)
        return None if field is None else _Table(self.data, field + self._read("I", field))

    def tables(self, slot: int) -> list[_Table]:
        start, length = self._vector(slot, 4)
        if length > MAX_TABLES:
            raise ValueError("more tables than a model has")
        return [_Table(self.data, at + self._read("I", at)) for at in range(start, start + 4 * length, 4)]

    def content(self, slot: int) -> bytes:
        start, length = self._vector(slot, 1)
        return self.data[start : start + length]

    def text(self, slot: int) -> str:
        return self.content(slot).decode("utf-8")

    def integers(self, slot: int) -> tuple[int, ...]:
        start, length = self._vector(slot, 4)
        if length > 16:
            raise ValueError("more inputs than an image classifier has")
        return struct.unpack_from(f"<{length}i", self.data, start)

    def floats(self, slot: int) -> tuple[float, ...]:
        start, length = self._vector(slot, 4)
        if length > 16:
            raise ValueError("more channels than an image has")
        return struct.unpack_from(f"<{length}f", self.data, start)
