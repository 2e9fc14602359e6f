"""Small hostile data files: each once took gigabytes, minutes, or ended in a traceback."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype, "fortran_order": False, "shape": shape})
    return out.getvalue()


def npz(members: dict[str, tuple[tuple[int, ...], int]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An npz of zeros: name -> (declared shape, bytes behind the header)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, (shape, size) in members.items():
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                member.write(npy_header(shape))
                for start in range(0, size, 1 << 20):
                    member.write(bytes(min(1 << 20, size - start)))
    return out.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return out.getvalue()


def png(width: int, height: int, bits: int = 16, noise: int = 0) -> bytes:
    """A grey PNG of zeros, as small as they get; ``noise``: bytes that do not shrink, in a chunk that says nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    pixels = b"".join([*(packer.compress(bytes(1 + width * bits // 8)) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"noIs", bytes(noise)) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiled_tiff(side: int) -> bytes:
    """A TIFF of 8 x 8 pixels in one tile of ``side`` squared."""
    tags = [(256, 8), (257, 8), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 200), (325, 20)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4)
    return data.ljust(200, b"\0") + zlib.compress(bytes(1 << 16))
