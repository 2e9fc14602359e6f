"""Zip files from strangers: bounds on what they list and on what they unpack to, before anything is allocated."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO

MAX_LISTING = 16 << 20  # bytes: some 200,000 members
BOMB = 100  # times its packed size: what no image or array of images shrinks by
SMALL = 64 << 20  # bytes that any member may unpack to
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, OverflowError, NotImplementedError, RuntimeError)
"""What reading a zip may raise."""


def opened(stream: IO[bytes]) -> zipfile.ZipFile:
    """Raises one of ``DAMAGE``."""
    end = zipfile._EndRecData(stream)  # type: ignore[attr-defined]  # else the listing is in memory before it can be looked at
    if end is not None and end[5] > MAX_LISTING:
        raise zipfile.BadZipFile(f"it lists more than {MAX_LISTING >> 20} MB of names")
    return zipfile.ZipFile(stream)


def member(archive: zipfile.ZipFile, name: str | zipfile.ZipInfo) -> IO[bytes]:
    """The open member, if it is stored or deflated and no bomb. Raises one of ``DAMAGE``."""
    try:
        info = archive.getinfo(name) if isinstance(name, str) else name
    except KeyError:
        raise zipfile.BadZipFile(f"it contains no {name}") from None
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError("packed by a method other than deflate; pack it again")
    if info.file_size > max(SMALL, BOMB * info.compress_size):
        raise zipfile.BadZipFile(f"it unpacks to {info.file_size >> 20} MB, more than {BOMB} times its packed size")
    return archive.open(info)
