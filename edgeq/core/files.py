"""What a file is: its SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from edgeq.core.errors import EdgeqError


def sha256(path: Path, beside: Path | None = None) -> str:
    """Of a file's bytes; of a folder (a SavedModel), over the sorted relative names, sizes and bytes of its files; of a file and the one
    ``beside`` it that it cannot do without, over the size (8 bytes, big-endian) and bytes of each."""
    total = hashlib.sha256()
    try:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else filter(None, (path, beside)):
            if path.is_dir():
                total.update(file.relative_to(path).as_posix().encode() + b"\0")
            if path.is_dir() or beside is not None:
                total.update(file.stat().st_size.to_bytes(8, "big"))
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    total.update(block)
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be read ({error.strerror})") from None
    return total.hexdigest()
