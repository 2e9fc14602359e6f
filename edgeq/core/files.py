"""What a file is: its SHA-256. And how one is written: beside its place, then moved there whole."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeq.core.errors import EdgeqError


def sha256(path: Path, beside: Path | None = None) -> str:
    """Of a file's bytes; of a folder (a SavedModel), over the sorted relative names, sizes and bytes of its files; of a file and the one
    ``beside`` it that it cannot do without, over the size (8 bytes, big-endian) and bytes of each."""
    total = hashlib.sha256()
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would be waited for, a device read for ever
            raise EdgeqError(f"{path}: is neither a file nor a folder")
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


_PREFIX = ".edgeq-scratch-"


@contextmanager
def scratch(directory: Path | None = None) -> Iterator[Path]:
    """A folder of this process's own inside ``directory`` (by default the system's for temporary files), removed at the end.

    A process that is killed leaves its folder behind: it is removed when the next one is made there. The folder is locked while its
    process lives, and the kernel takes that lock back however the process ends. Raises OSError.
    """
    directory = directory or Path(tempfile.gettempdir())
    _sweep(directory)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        lock = _hold(folder, wait=True)
        if folder.is_dir():
            break
        _release(lock)  # another process swept it before it was locked
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(lock)


def move(item: Path, there: Path) -> None:
    """Moves ``item`` to ``there`` on the same file system, in place of the file or SavedModel that was there: at every moment one of the
    two stands there whole. Raises OSError, for a folder that is something else too."""
    if not (there.is_dir() and (there / "saved_model.pb").is_file()):
        os.replace(item, there)
    elif not _exchange(item, there):  # what was there goes with the folder of ``item``
        os.replace(there, item.with_name(item.name + ".old"))
        os.replace(item, there)


def _exchange(a: Path, b: Path) -> bool:
    """Linux swaps two names in one step; False where that is not to be had."""
    if sys.platform != "linux":
        return False
    with suppress(AttributeError, OSError):
        here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        return ctypes.CDLL(None).renameat2(here, os.fsencode(a), here, os.fsencode(b), swap) == 0
    return False


def _sweep(directory: Path) -> None:
    for folder in directory.glob(_PREFIX + "*"):
        lock = _hold(folder, wait=False)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            _release(lock)


def _hold(folder: Path, wait: bool) -> int | None:
    """The lock on a folder that belongs to this user; None where another process has it, or where there are no such locks."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (ModuleNotFoundError, OSError):
        return None
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
