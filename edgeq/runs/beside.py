"""What may lie beside a run file, and what of it is believed: the door through which every run is opened.

SQLite acts on files beside a database by their names alone. A ``-journal`` that is left over is rolled back into the database *and*
deletes the file that its last bytes name (a super-journal); a ``-wal`` is read as if it were part of the database. A folder from a
stranger may hold either. So SQLite never meets a neighbour here that was not looked at:

- Reading never writes. Where nothing lies beside the file, or a process that holds the writer's lock is at work, the file is opened
  read-only under SQLite's own locks: each statement sees whole commits, whatever is written meanwhile. Where something lies beside it
  and no writer lives, a copy in memory is read: the journal of a killed writer is undone in that copy after every field of it was
  checked, which shows the last commit; a write-ahead log is ignored, as edgeq writes none. Nothing on the disk changes.
- Writing (resume, score) leaves the rollback to SQLite, after the same checks, and refuses where a write-ahead log lies beside the file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import struct
import time
from pathlib import Path
from typing import BinaryIO

from edgeq.core.errors import EdgeqError
from edgeq.runs.format import LIMIT

_MAGIC = bytes.fromhex("d9d505f920a163d7")  # of a journal's header, and behind the name of a super-journal
_MOST = 1 << 30  # bytes of a copy in memory
_PATIENCE = 1.0  # seconds that a writer waits for readers who copy


def connect_to_read(path: Path) -> sqlite3.Connection:
    """A connection that cannot change ``path`` or anything beside it. Raises :class:`EdgeqError`."""
    try:
        with path.open("rb") as file:
            _refuse_log_mode(path, file)
            copy = _copy(path, file) if _neighbours(path) else None
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be opened ({error.strerror})") from None
    if copy is None:
        return _connect(path, "ro")
    try:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.deserialize(copy)
        return _careful(db)
    except sqlite3.Error as error:
        raise EdgeqError(f"{path}: is not a run file of edgeq ({error}); `edgeq runs` lists those there are") from None


def connect_to_write(path: Path) -> sqlite3.Connection:
    """A connection for the process that holds :func:`write_lock`. Raises :class:`EdgeqError`."""
    try:
        with path.open("rb") as file:
            _refuse_log_mode(path, file)
            size = os.fstat(file.fileno()).st_size
        if path.with_name(path.name + "-wal") in _neighbours(path):
            raise _foreign(path, "-wal")
        _undo(path, bytearray(), size)
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be opened ({error.strerror})") from None
    return _connect(path, "rw")


def write_lock(path: Path) -> int:
    """Takes the run for this process, on the file itself: the kernel releases it however the process ends."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be written ({error.strerror}); check its permissions, or work on a copy") from None
    end = time.monotonic() + _PATIENCE
    while not _lock(descriptor, exclusive=True):
        if time.monotonic() > end or not _lock(descriptor, exclusive=False):
            os.close(descriptor)
            raise EdgeqError(f"{path}: another process is writing to this run; wait until it ends (reading it meanwhile is fine)")
        time.sleep(0.02)  # readers who copy hold it: for moments
    return descriptor


def _lock(descriptor: int, exclusive: bool) -> bool:
    try:
        import fcntl  # not on Windows, where SQLite's own locks must do
    except ModuleNotFoundError:  # pragma: no cover
        return exclusive
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    try:
        return _careful(sqlite3.connect(path.absolute().as_uri() + f"?mode={mode}", uri=True, timeout=30, isolation_level=None))
    except sqlite3.Error as error:
        raise EdgeqError(f"{path}: cannot be opened ({error})") from None


def _careful(db: sqlite3.Connection) -> sqlite3.Connection:
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LIMIT)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")
    return db


def _neighbours(path: Path) -> list[Path]:
    return [other for end in ("-journal", "-wal") if os.path.lexists(other := path.with_name(path.name + end))]


def _foreign(path: Path, end: str) -> EdgeqError:
    return EdgeqError(f"{path}{end}: was not left by edgeq; look at who put it beside the run, and delete it")


def _refuse_log_mode(path: Path, file: BinaryIO) -> None:
    """The versions in the header are 1 for a rollback journal, 2 for a write-ahead log."""
    head = file.read(20)
    if head.startswith(b"SQLite format 3\0") and head[18:20] != b"\1\1":
        raise EdgeqError(f"{path}: keeps its changes in a second file (WAL), which no run of edgeq does; use a copy that edgeq wrote")


def _copy(path: Path, file: BinaryIO) -> bytes | None:
    """The last commit, with no writer about; None while one lives, whose own journal it is."""
    if not _lock(file.fileno(), exclusive=False):  # kept until the file is closed
        if path.with_name(path.name + "-wal") in _neighbours(path):
            raise _foreign(path, "-wal")
        return None
    size = os.fstat(file.fileno()).st_size
    if size > _MOST:
        raise EdgeqError(f"{path}: was stopped in the midst of a commit; `edgeq resume {path}` mends that (it is too large to show so)")
    file.seek(0)
    content = bytearray(file.read(size))
    _undo(path, content, size)
    if not content:
        raise EdgeqError(f"{path}: is empty, its run was stopped before the first row; delete it and start the run again")
    return bytes(content)


def _undo(path: Path, content: bytearray, size: int) -> None:
    """Rolls the journal beside ``path``, if there is one to be rolled back, into ``content``; only checks it where that is empty.

    The format is SQLite's (https://www.sqlite.org/fileformat2.html, section 3): headers that fill a sector, and behind each its pages
    as they were. As there, a page whose checksum is wrong, or that is cut off, ends it: it never reached the disk.
    """
    data = _plain(path, path.with_name(path.name + "-journal"), 2 * size + LIMIT)
    if not data or data[0] == 0:  # a header of zeros is how a journal that is over is kept
        return
    if len(data) < 28 or data[:8] != _MAGIC:
        raise _foreign(path, "-journal")
    pages, sector, page = struct.unpack(">3I", data[16:28])
    if data.endswith(_MAGIC) or any(not low <= s <= 65536 or s & (s - 1) for s, low in ((sector, 32), (page, 512))) or pages * page > size:
        raise _foreign(path, "-journal")
    if not content:
        return
    del content[pages * page :]
    at = 0
    while data[at : at + 8] == _MAGIC:
        count, nonce = struct.unpack(">2I", data[at + 8 : at + 16])
        at += sector
        for _ in range(min(count, (len(data) - at) // (page + 8))):
            number, old = struct.unpack(">I", data[at : at + 4])[0], data[at + 4 : at + 4 + page]
            total = nonce + sum(old[page - 200 : 0 : -200])
            if number == 0 or struct.unpack(">I", data[at + 4 + page : at + 8 + page])[0] != total & 0xFFFFFFFF:
                return
            if number <= pages:
                content[(number - 1) * page : number * page] = old
            at += page + 8
        at = -(-at // sector) * sector


def _plain(path: Path, journal: Path, most: int) -> bytes:
    """What is in the journal; nothing where there is none. Anything but a plain file of at most ``most`` bytes is refused."""
    try:
        descriptor = os.open(journal, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return b""
    except OSError:
        raise _foreign(path, "-journal") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise _foreign(path, "-journal")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            return stream.read(status.st_size)
    finally:
        os.close(descriptor)
