"""``npz:PATH``: numpy's ``.npz`` (NEP 1) with ``x_test`` and ``y_test`` (``x_train`` ..), or ``images`` and ``labels``. Never unpickled."""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgeq.core import zips
from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import OpenDataset
from edgeq.data._images import Images, whole_labels

MAX_BYTES = 8 << 30  # one array
MAX_IMAGES = 2_000_000  # ImageNet has 1.3 million
PAIRS = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels"), ("images", "labels"), ("x", "y")),
}


@dataclass(frozen=True)
class _Declared:
    """An array of the archive as its header says it is: ``start`` bytes into the member ``info``."""

    info: zipfile.ZipInfo
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    start: int


def open_npz(spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Images:
    """Images are ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``: uint8, other integers in 0..255, or floats in 0..1 or 0..255.

    Arrays are mapped, not loaded: from the file itself where it is not compressed, else from an unnamed temporary file.
    Floats are rounded to the grid of pixels; a note says so. Names: ``x_test/0`` ...
    """
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise EdgeqError(f"{spec}: there is no file {path!r}; write npz:PATH")
    try:
        with file.open("rb") as stream, zips.opened(stream) as archive:
            arrays = {n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")}
            notes: list[str] = []
            x, y = _pair(arrays, split, spec, notes)
            images, numbers = (_declared(archive, name + ".npy", f"{spec}: {name}") for name in (x, y))
            count, others = (a.shape[0] if a.shape else 1 for a in (images, numbers))
            if count != others:
                raise EdgeqError(f"{spec}: {x}: contains {count} images, and {y} {others} labels")
            if count > MAX_IMAGES:
                raise EdgeqError(f"{spec}: {x}: contains {count:,} images; give up to {MAX_IMAGES:,}")
            pixels = _mapped(file, archive, images)
            labels = whole_labels(_mapped(file, archive, numbers), f"{spec}: {y}")
    except zips.DAMAGE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise EdgeqError(f"{spec}: is not an npz file that can be read ({reason})") from None
    where = f"{spec}: {x}"
    pixels = _as_images(pixels, where, notes)
    factor = _factor(pixels, where, notes)

    def read(index: int) -> np.ndarray:
        image = np.asarray(pixels[index])
        return np.ascontiguousarray(image if image.dtype == np.uint8 else np.rint(image * factor), dtype=np.uint8)

    def content() -> Iterator[bytes]:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                yield chunk

    return Images(spec, [f"{x}/{i}" for i in range(len(labels))], labels, None, read, content, notes)


def _pair(arrays: set[str], split: str, spec: str, notes: list[str]) -> tuple[str, str]:
    for x, y in PAIRS[split]:
        if {x, y} <= arrays:
            if split == "train" and x in ("images", "x"):
                notes.append(f"{spec} has no train and test arrays: the same images serve for calibration and for testing")
            return x, y
    other = "test" if split == "train" else "train"
    for x, y in PAIRS[other]:
        if {x, y} <= arrays:
            notes.append(f"{spec} has no {split} arrays: {x} is used")
            return x, y
    listing = ", ".join(sorted(arrays))[:200] or "nothing"
    raise EdgeqError(f"{spec}: contains no x_test and y_test, and no images and labels (but {listing})")


def _declared(archive: zipfile.ZipFile, name: str, where: str) -> _Declared:
    """What the header of an array says, after it was checked against the array's size."""
    info = archive.getinfo(name)
    with zips.member(archive, info) as member:
        shape, fortran, dtype, start = _header(member, where)
    size = math.prod(shape) * dtype.itemsize
    if size > MAX_BYTES:
        raise EdgeqError(f"{where}: is larger than {MAX_BYTES >> 30} GB; give fewer images")
    if info.file_size - start != size:
        raise EdgeqError(f"{where}: has {info.file_size - start} bytes where its shape {shape} needs {size}")
    if size == 0:
        raise EdgeqError(f"{where}: is empty")
    return _Declared(info, shape, fortran, dtype, start)


def _mapped(file: Path, archive: zipfile.ZipFile, array: _Declared) -> np.ndarray:
    """An array of the archive as a memory map."""
    options: dict[str, Any] = {"dtype": array.dtype, "mode": "r", "shape": array.shape, "order": "F" if array.fortran else "C"}
    if array.info.compress_type == zipfile.ZIP_STORED:
        return np.memmap(file, offset=_data_offset(file, array.info) + array.start, **options)
    with zips.member(archive, array.info) as member, tempfile.TemporaryFile() as spool:
        member.read(array.start)
        shutil.copyfileobj(_Limited(member, math.prod(array.shape) * array.dtype.itemsize), spool, 1 << 20)
        spool.flush()
        return np.memmap(spool, offset=0, **options)


class _Limited:
    """At most ``left`` bytes of a stream: a member that unpacks to more than it says is not followed."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self.stream, self.left = stream, left

    def read(self, size: int = -1, /) -> bytes:
        data = self.stream.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        return data


def _header(member: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise EdgeqError(f"{where}: has npy version {version}; save it again")
    try:
        shape, fortran, dtype = read(member)
    except Exception as error:  # numpy evaluates it as Python does, with as many kinds of errors
        raise ValueError(f"the header of {where.split(': ')[-1]} is damaged: {error}") from None
    if dtype.kind not in "uifb":
        raise EdgeqError(f"{where}: contains {dtype}, not numbers; save it as uint8")
    if len(shape) > 4 or any(s < 0 for s in shape):
        raise EdgeqError(f"{where}: has shape {shape}; give (n, h, w, c)")
    return shape, fortran, dtype, member.tell()


def _data_offset(file: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin. Name and extra field of the local header may differ from those in the listing."""
    with file.open("rb") as stream:
        stream.seek(info.header_offset)
        head = stream.read(30)
    signature, name, extra = struct.unpack("<4s22xHH", head)
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile("a member is not where the listing says")
    return info.header_offset + 30 + name + extra


def _as_images(values: np.ndarray, where: str, notes: list[str]) -> np.ndarray:
    """A view ``(n, h, w, c)``."""
    if values.ndim == 3:
        return values[..., None]
    if values.ndim == 4 and values.shape[3] in (1, 3):
        return values
    if values.ndim == 4 and values.shape[1] in (1, 3):
        notes.append(f"{where} is taken as (n, c, h, w)")
        return values.transpose(0, 2, 3, 1)
    raise EdgeqError(f"{where}: has shape {values.shape}; give (n, h, w) or (n, h, w, c) with 1 or 3 channels")


def _factor(pixels: np.ndarray, where: str, notes: list[str]) -> float:
    """What a value is multiplied with to be a pixel. One streamed pass over floats and wide integers; NaN and other ranges are refused."""
    if pixels.dtype == np.uint8:
        return 1.0
    low, high, whole = math.inf, -math.inf, True
    step = max(1, (16 << 20) // max(1, pixels[0].nbytes))
    for at in range(0, len(pixels), step):
        chunk = np.asarray(pixels[at : at + step])
        if chunk.dtype.kind == "f":
            if not np.isfinite(chunk).all():
                row = at + int(np.argmin(np.isfinite(chunk).reshape(len(chunk), -1).all(axis=1)))
                raise EdgeqError(f"{where}: image {row} contains NaN or infinity; repair the file")
            whole = whole and bool((np.rint(chunk) == chunk).all())
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    if low < 0 or high > 255:
        raise EdgeqError(f"{where}: values run from {low:g} to {high:g}; give pixels 0..255, or floats 0..1 (before any normalisation)")
    if pixels.dtype.kind == "b" or (pixels.dtype.kind == "f" and high <= 1):
        notes.append(f"{where} holds values in 0..1, taken as pixel/255" + ("" if whole else " and rounded to the pixel grid"))
        return 255.0
    if not whole:
        notes.append(f"{where} holds fractions of pixels in 0..255, rounded to the pixel grid")
    return 1.0


plugin: OpenDataset = open_npz
