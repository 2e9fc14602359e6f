"""Ways to damage a file, each a function ``(content, rng) -> content``: of bytes, and of what a zip, a JSON text, HDF5 or SQLite hold."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

warnings.filterwarnings("ignore", "Duplicate name")
Damage = Callable[[bytes, np.random.Generator], bytes]

STRANGE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 255, 2**31, 2**53, 2**63, -(2**63), 10**400, 1e308, 1e-320, float("nan"), float("inf"), 0.1),
    *("", "9" * 1000, "9" * 5000, "x" * 100_000, "\x1b[31mred", "=cmd|' /C calc'!A0", "\u202e", "\ud800", "a\0b", "\n", "%s%n", "{}"),
    *("/etc/hostname", "../../good/canary.txt", "../canary.txt", "file:///etc/hostname", "NaN", "tflm", "ort", "os.system", "TFOpLambda"),
    *([], {}, [[]], [1, 2, 3], {"a": 1}, [0] * 5000, ["x"] * 100),
)


def bits(content: bytes, rng: np.random.Generator) -> bytes:
    if not content:
        return bytes(rng.integers(0, 256, 4, np.uint8))
    data = np.frombuffer(content, np.uint8).copy()
    at = rng.integers(0, len(data), int(rng.integers(1, 30)))
    data[at] ^= np.uint8(1) << rng.integers(0, 8, len(at)).astype(np.uint8)
    return data.tobytes()


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def words(content: bytes, rng: np.random.Generator) -> bytes:
    """32-bit words (offsets, lengths) exchanged or overwritten; tables lie at both ends of such files, weights between them."""
    data = np.frombuffer(content, np.uint8).copy()
    whole = data[: len(data) // 4 * 4].view(np.uint32)
    near = np.concatenate([np.arange(min(2000, len(whole))), np.arange(max(0, len(whole) - 4000), len(whole))])
    if not len(near):
        return content
    a, b = rng.choice(near, 2 * int(rng.integers(1, 10))).reshape(2, -1)
    whole[a] = rng.choice(
        [whole[b], rng.integers(0, 2**32, len(a), dtype=np.uint32), rng.choice(np.array([0, 1, 2**31, 2**32 - 1], np.uint32), len(a))]
    )
    return data.tobytes()


def pieces(content: bytes, rng: np.random.Generator) -> bytes:
    """A piece moved, repeated or taken out."""
    start, stop, at = sorted(int(i) for i in rng.integers(0, len(content) + 1, 3))
    middle = content[start:stop] * int(rng.integers(0, 4))
    return content[:start] + middle[: 1 << 20] + content[at:]


def mutated(value: Any, rng: np.random.Generator) -> Any:
    """A JSON value with one node replaced, dropped, doubled or wrapped."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        keys: Sequence[Any] = list(value) if isinstance(value, dict) else range(len(value))
        key, changed = keys[int(rng.integers(len(keys)))], value.copy()
        kind = rng.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2:
            other = keys[int(rng.integers(len(keys)))]
            changed[key] = value[other]
        else:
            changed[key] = mutated(value[key], rng)
        return changed
    if isinstance(value, str) and value[:1] in "{[" and rng.random() < 0.7:  # JSON in JSON
        try:
            return json.dumps(mutated(json.loads(value), rng))
        except ValueError:
            return value
    if rng.random() < 0.1:
        for _ in range(int(rng.choice([3, 3000]))):
            value = [value]
        return value
    return STRANGE[int(rng.integers(len(STRANGE)))]


def json_values(content: bytes, rng: np.random.Generator) -> bytes:
    try:
        value = json.loads(content)
        for _ in range(int(rng.integers(1, 4))):
            value = mutated(value, rng)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return bits(content, rng)


def in_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """One member damaged by what it is, renamed, doubled, left out, or packed by another method."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [(i.filename, archive.read(i)) for i in archive.infolist()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return bits(content, rng)
    at = int(rng.integers(len(members)))
    name, data = members[at]
    kind = rng.random()
    if kind < 0.6:
        members[at] = name, within(name, data)(data, rng) if data else b"x"
    elif kind < 0.75:
        members[at] = (
            str(rng.choice(["../" + name, "/etc/hostname", "9" * 1000 + "/0.png", name + "\x1b[31m", "", "C:\\x", name.upper()])),
            data,
        )
    elif kind < 0.85:
        del members[at]
    else:
        members.append((name, data[: len(data) // 2]))
    out = io.BytesIO()
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]))
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(name or "x", data)
    return bits(out.getvalue(), rng) if rng.random() < 0.1 else out.getvalue()


def within(name: str, data: bytes) -> Damage:
    if name.endswith(".json"):
        return json_values
    if data[:4] == b"\x89HDF":
        return in_hdf5
    return npy_header if data[:6] == b"\x93NUMPY" else bits


def npy_header(content: bytes, rng: np.random.Generator) -> bytes:
    """The shape or type that an array says it has, changed; or its numbers."""
    if rng.random() < 0.4:
        return bits(content, rng)
    size = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + size].decode("latin1").rstrip()
    digits = [i for i, c in enumerate(header) if c.isdigit()] or [0]
    at = digits[int(rng.integers(len(digits)))]
    new = str(rng.choice(["9", "99999999", "-1", "0", "(", "8", "f2", "O", "V4", "1,"]))
    header = (header[:at] + new + header[at + 1 :]).ljust(size - 1)[: size - 1] + "\n"
    return content[:10] + header.encode("latin1") + content[10 + size :]


def in_hdf5(content: bytes, rng: np.random.Generator) -> bytes:
    """A JSON attribute (Keras's configuration) changed, an attribute or object replaced or moved; else words."""
    import h5py

    if rng.random() < 0.3:
        return words(content, rng)
    out = io.BytesIO(content)
    try:
        with h5py.File(out, "r+") as file:
            places = [file]
            file.visititems(lambda _, item: places.append(item))
            place = places[int(rng.integers(len(places)))] if rng.random() < 0.6 else file
            names = list(place.attrs)
            if names and rng.random() < 0.8:
                name = names[int(rng.integers(len(names)))]
                value = place.attrs[name]
                text = value.decode() if isinstance(value, bytes) else value
                if isinstance(text, str) and text[:1] in "{[":
                    place.attrs[name] = json_values(text.encode(), rng).decode("utf-8", "replace").replace("\0", "")
                else:
                    place.attrs[name] = rng.choice([0, -1, 2**31])
            elif place is not file:
                name = place.name
                del file[name]
                kind = rng.random()
                if kind < 0.3:
                    file[name] = h5py.ExternalLink("../../good/canary.h5", "/")
                elif kind < 0.6:
                    file[name] = h5py.SoftLink("/")
                elif kind < 0.8:
                    file.create_dataset(name, (2**30, 4), "f8", chunks=(1024, 4))
                else:
                    file[name] = np.zeros(3, "S7")
    except Exception:  # not every change is one that HDF5 writes
        return bits(content, rng)
    return out.getvalue()


def in_sqlite(content: bytes, rng: np.random.Generator) -> bytes:
    """Cells, pages or the schema of a run file changed by SQLite itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.sqlite"
        path.write_bytes(content)
        db = sqlite3.connect(path)
        try:
            for _ in range(int(rng.integers(1, 4))):
                _change(db, rng)
            db.commit()
        except sqlite3.Error:
            pass  # a constraint stood against it; what was changed before stays
        finally:
            db.close()
        return path.read_bytes()


def _change(db: sqlite3.Connection, rng: np.random.Generator) -> None:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = tables[int(rng.integers(len(tables)))]
    columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    column, kind = columns[int(rng.integers(len(columns)))], rng.random()
    if kind < 0.06:
        statement = rng.choice(
            [
                f"DROP TABLE {table}",
                f"DELETE FROM {table}",
                f"ALTER TABLE {table} RENAME COLUMN {column} TO other",
                f"CREATE TRIGGER t AFTER UPDATE ON {table} BEGIN DELETE FROM meta; END",
                "PRAGMA user_version = 99",
                "PRAGMA application_id = 0",
                f"CREATE VIEW v AS SELECT * FROM {table}",
            ]
        )
        db.execute(str(statement))
        return
    rows = db.execute(f"SELECT {column}, {', '.join(columns)} FROM {table}").fetchall()
    if not rows:
        return
    old, *key = rows[int(rng.integers(len(rows)))]
    new: Any = STRANGE[int(rng.integers(len(STRANGE)))]
    if isinstance(old, bytes) and old and rng.random() < 0.7:
        new = bits(old, rng) if rng.random() < 0.5 else old[: len(old) // 2]
    elif isinstance(old, str) and old[:1] in '{["' and rng.random() < 0.85:
        new = json_values(old.encode(), rng).decode("utf-8", "replace")
    if isinstance(new, list | dict):
        new = json.dumps(new)
    if isinstance(new, int) and abs(new) >= 2**63:
        new = 2**62
    if isinstance(new, str):
        new = new.encode("utf-8", "replace").decode()
    if column == "file" and "/" in str(new):
        return  # resume does read the files that a run names, to compare their hashes
    where = " AND ".join(f"{name} IS ?" for name in columns)
    db.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {where}", (new, *key))


def journal(names: str, rng: np.random.Generator) -> bytes:
    """A rollback journal that wants the run changed, and after it a super-journal, the file ``names``, deleted."""
    head = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + struct.pack(">5I", int(rng.choice([0, 1, 2**32 - 1])), 0, 1, 512, 4096)
    name = names.encode()
    return head.ljust(512, b"\0") + struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + head[:8]
