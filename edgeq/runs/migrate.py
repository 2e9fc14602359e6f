"""Runs of format 1, in which a target was known by its runtime's name: read as runs of today, and rewritten when one is written to.

Their targets keep those names as ids, so that answers and candidates, which take nearly all of the file, stay as they are.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from edgeq.core.cell import Cell
from edgeq.runs.format import APPLICATION, SCHEMA, TABLES, VERSION, RunTarget, an_object, parse
from edgeq.targets.spec import KERAS, Artifact

SCHEMA_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE artifacts (name TEXT PRIMARY KEY, role TEXT, file TEXT, sha256 TEXT, bytes INTEGER)",
    "CREATE TABLE targets (name TEXT PRIMARY KEY, artifact TEXT, status TEXT, reason TEXT, signature TEXT, codes TEXT, identity TEXT)",
    "CREATE TABLE rows (idx INTEGER PRIMARY KEY, id INTEGER UNIQUE, name TEXT, label INTEGER, image BLOB)",
    "CREATE TABLE cells (cell INTEGER PRIMARY KEY, attack TEXT, params TEXT, norm TEXT, eps REAL, crafted_on TEXT, access TEXT, kind TEXT)",
    "CREATE TABLE candidates (cell INTEGER, idx INTEGER, queries INTEGER, loss REAL, l2 REAL, linf INTEGER, delta BLOB,"
    " PRIMARY KEY (cell, idx))",
    "CREATE TABLE answers (cell INTEGER, target TEXT, idx INTEGER, correct INTEGER, tied INTEGER, label INTEGER, scores BLOB,"
    " PRIMARY KEY (cell, target, idx)) WITHOUT ROWID",
)
_BEFORE_GRID, _STAND_INS, _BOARD = " (before the grid)", {"tflm-exact": "tflm"}, "answers.csv"


def artifacts(db: sqlite3.Connection) -> list[Artifact]:
    """In their order. Raises what :class:`~edgeq.runs.format.Table` does."""
    rows = db.execute("SELECT sha256, name, file, bytes FROM artifacts ORDER BY rowid").fetchall()
    by_hash: dict[str, Artifact] = {}
    for row in rows:
        record: Artifact = TABLES[Artifact].record(*row)
        by_hash.setdefault(record.sha256, record)
    return list(by_hash.values())


def targets(db: sqlite3.Connection) -> list[RunTarget]:
    files = {name: (sha256, role) for name, sha256, role in db.execute("SELECT name, sha256, role FROM artifacts")}
    rows = db.execute("SELECT name, artifact, status, reason, signature, codes, identity FROM targets ORDER BY rowid").fetchall()
    return [_target(files, *row) for row in rows]


def _target(files: dict[str, tuple[str, str]], name: str, artifact: str, status: str, reason: str, *border: str) -> RunTarget:
    sha256, role = files.get(artifact, ("", "target"))
    derived, runtime, members = "", name, list[str]()
    if name.endswith(_BEFORE_GRID):
        derived, runtime, members = "before-grid", KERAS, [name.removesuffix(_BEFORE_GRID)]
    elif name in _STAND_INS:
        derived, members = "stand-in", [_STAND_INS[name]]
    elif (an_object(border[2]) or {}).get("engine") == _BOARD:
        derived, runtime = "board", ""
    role = "source" if role == "source" else "target"
    spec = (name, artifact, sha256, runtime, role, derived, json.dumps(members), 0)
    record: RunTarget = TABLES[RunTarget].record(*spec, status, reason, *border)
    return record


def cells(db: sqlite3.Connection) -> list[Cell]:
    rows = db.execute("SELECT cell, attack, params, norm, eps, crafted_on, access, kind FROM cells ORDER BY rowid").fetchall()
    return [TABLES[Cell].record(*row) for row in rows]


def plan(value: Any) -> Any:
    """A plan of one target and at most one source, as one of several."""
    if not isinstance(value, dict) or "target" not in value:
        return value
    rest = {k: v for k, v in value.items() if k not in ("target", "source")}
    source = value.get("source")
    return {"clamp": "clipped", **rest, "targets": [value["target"]], "sources": [] if source is None else [source]}


def upgrade(db: sqlite3.Connection) -> None:
    """Rewrites the small tables in the transaction that is open: a kill leaves the old run or the new one."""
    records: list[Any] = [*artifacts(db), *targets(db), *cells(db)]
    stored = db.execute("SELECT value FROM meta WHERE key = 'plan'").fetchone()
    for kind in (Artifact, RunTarget, Cell):
        db.execute(f"DROP TABLE {TABLES[kind].name}")
    for statement in SCHEMA:
        if statement not in SCHEMA_1:
            db.execute(statement)
    for record in records:
        table = TABLES[type(record)]
        db.execute(f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(table.columns))})", table.row(record))
    if stored is not None:
        db.execute("UPDATE meta SET value = ? WHERE key = 'plan'", (json.dumps(plan(parse(stored[0])), sort_keys=True),))
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")
