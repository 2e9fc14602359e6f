"""The official files of a data set, from a folder or a tar, as bytes. Nothing is extracted to disk."""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from pathlib import Path
from typing import IO

from edgeq.core.errors import EdgeqError

MAX_TOTAL = 2 << 30  # what a tar may unpack to
BOMB = 20  # times its size, beyond which it contains no images
MAX_MEMBERS = 1000


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than ``most`` bytes: a compressed tar may be a bomb."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream, self.most, self.left = stream, most, most

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self.left:
            raise EOFError(f"it unpacks to more than {self.most >> 20} MB")
        data = self.stream.read(size)
        self.left -= len(data)
        return data


def official_files(spec: str, path: str, wanted: list[str], limit: int) -> dict[str, bytes]:
    """Base name -> content of the ``wanted`` files in ``path``: a folder, a folder in it, a tar (also compressed), or the file."""
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            return _from_folder(spec, place, wanted, limit)
        if place.is_file():
            return {place.name: _read(spec, place, limit)} if place.name in wanted else _from_tar(spec, place, wanted, limit)
    except OSError as error:
        raise EdgeqError(f"{spec}: cannot be read ({error.strerror or error})") from None
    raise EdgeqError(f"{spec}: there is no file or folder {path!r}")


def keras_cache() -> Path:
    """Where Keras keeps data sets that it downloaded."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "datasets"


def _from_folder(spec: str, place: Path, wanted: list[str], limit: int) -> dict[str, bytes]:
    for folder in [place, *sorted(p for p in place.iterdir() if p.is_dir())]:
        contents = {name: _read(spec, folder / name, limit) for name in wanted if (folder / name).is_file()}
        if contents:
            return contents
    return {}


def _read(spec: str, path: Path, limit: int) -> bytes:
    if path.stat().st_size > limit:
        raise EdgeqError(f"{spec}: {path.name} is larger than {limit >> 20} MB, so it is not the official file")
    return path.read_bytes()


def _from_tar(spec: str, place: Path, wanted: list[str], limit: int) -> dict[str, bytes]:
    import lzma

    contents: dict[str, bytes] = {}
    most = min(MAX_TOTAL, BOMB * place.stat().st_size + (1 << 20))
    try:
        with place.open("rb") as raw, tarfile.open(fileobj=_Bounded(_unpacked(raw), most), mode="r|") as archive:
            for count, member in enumerate(archive):
                if count > MAX_MEMBERS:
                    raise ValueError("it contains too many files")
                name = member.name.rsplit("/", 1)[-1]
                if name not in wanted or not member.isfile():
                    continue
                if member.size > limit:
                    raise EdgeqError(f"{spec}: {name} is larger than {limit >> 20} MB, so it is not the official file")
                content = archive.extractfile(member)
                contents[name] = content.read() if content is not None else b""
                if len(contents) == len(wanted):
                    break
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError, OverflowError, RuntimeError, KeyError) as error:
        raise EdgeqError(f"{spec}: is not a tar file that can be read ({error})") from None
    return contents


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    import bz2
    import gzip
    import lzma

    magic = raw.read(6)
    raw.seek(0)
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if magic[:3] == b"BZh":
        return bz2.BZ2File(raw)
    if magic == b"\xfd7zXZ\x00":
        return lzma.LZMAFile(raw)
    return raw
