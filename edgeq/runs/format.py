"""What a run file holds: its tables, their rows as values, and how an array becomes a blob."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, get_args

import numpy as np

from edgeq.core.cell import KINDS, Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.goal import Goal
from edgeq.core.signature import Signature
from edgeq.core.threat import LARGEST
from edgeq.pipeline.codes import PixelCodes
from edgeq.targets.spec import Artifact, Derived, Role, TargetSpec

APPLICATION = 0x45444751  # "EDGQ": what `file` and SQLite call the application id
VERSION = 2

# Blobs stand last in their tables: SQLite walks a row's overflow pages to reach what stands behind one.
SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)",
    "CREATE TABLE artifacts (sha256 TEXT PRIMARY KEY, name TEXT, file TEXT, bytes INTEGER)",
    "CREATE TABLE targets (id TEXT PRIMARY KEY, network TEXT, artifact TEXT, runtime TEXT, role TEXT, derived TEXT, members TEXT,"
    " agree INTEGER, status TEXT, reason TEXT, signature TEXT, codes TEXT, identity TEXT)",
    "CREATE TABLE rows (idx INTEGER PRIMARY KEY, id INTEGER UNIQUE, name TEXT, label INTEGER, image BLOB)",
    "CREATE TABLE cells (cell INTEGER PRIMARY KEY, attack TEXT, params TEXT, norm TEXT, eps REAL, crafted_on TEXT, access TEXT, kind TEXT,"
    " goal TEXT)",
    "CREATE TABLE candidates (cell INTEGER, idx INTEGER, queries INTEGER, loss REAL, l2 REAL, linf INTEGER, delta BLOB,"
    " PRIMARY KEY (cell, idx))",
    "CREATE TABLE diagnostics (cell INTEGER, idx INTEGER, clamp TEXT, zero INTEGER, of INTEGER, first INTEGER, evaluations INTEGER,"
    " trace BLOB, PRIMARY KEY (cell, idx, clamp))",
    "CREATE TABLE answers (cell INTEGER, target TEXT, idx INTEGER, correct INTEGER, tied INTEGER, label INTEGER, scores BLOB,"
    " PRIMARY KEY (cell, target, idx)) WITHOUT ROWID",
    'CREATE TABLE measurements (cell INTEGER, idx INTEGER, name TEXT, size INTEGER, "values" BLOB, PRIMARY KEY (cell, name, idx))',
)
LIMIT = 1 << 26  # bytes of one image or JSON text, and rows of a run: a hostile file allocates no more
MOST_TARGETS, MOST_COLUMNS = 256, 4096  # of a run: targets, and targets times cells
MOST_ANSWERS = 1 << 24  # that a run may still lack; those it holds take more than a byte each


@dataclass(frozen=True)
class RunTarget:
    """A target of a run. ``status``: "runs" or "cannot run", and then ``reason`` is a sentence; ``identity``: engine, version, kernels."""

    spec: TargetSpec
    status: str = "runs"
    reason: str = ""
    identity: Any = field(default_factory=dict, hash=False)

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def runs(self) -> bool:
        return self.status == "runs"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A target's answers to a cell, ``(n,)`` each: ``correct``, ``tied`` and ``right`` int8, ``label`` int64; -1 where missing.

    ``correct``: not fooled, so a tie with the true class is; ``right``: the label, an argmax, is the true class.
    """

    correct: np.ndarray
    tied: np.ndarray
    label: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Table:
    """A table of records: its name, its key first among its columns, and a record as a row of it and back.

    ``record`` raises ValueError, TypeError or KeyError for what edgeq would not have written.
    """

    name: str
    columns: tuple[str, ...]
    row: Callable[[Any], tuple[Any, ...]]
    record: Callable[..., Any]


def _target_row(t: RunTarget) -> tuple[Any, ...]:
    s = t.spec
    signature, codes = (None if v is None else v.to_json() for v in (s.signature, s.codes))
    plain = (s.id, s.network, s.artifact, s.runtime, s.role, s.derived, json.dumps(s.members), s.agree, t.status, t.reason)
    return (*plain, *(json.dumps(v) for v in (signature, codes, t.identity)))


def _target(
    id: str,
    network: str,
    artifact: str,
    runtime: str,
    role: str,
    derived: str,
    members: str,
    agree: int,
    status: str,
    reason: str,
    signature: str,
    codes: str,
    identity: str,
) -> RunTarget:
    names, border, pixels = parse(members), an_object(signature), an_object(codes)
    if not isinstance(names, list) or role not in get_args(Role) or derived not in get_args(Derived):
        raise ValueError("a target of no known kind")
    spec = TargetSpec(
        _text(id),
        _text(network),
        _text(artifact),
        _text(runtime),
        role,  # type: ignore[arg-type]  # looked at above
        derived,  # type: ignore[arg-type]
        tuple(map(_text, names)),
        int(agree),
        None if border is None else Signature.from_json(border),
        None if pixels is None else PixelCodes.from_json(pixels),
    )
    return RunTarget(spec, _text(status), _text(reason), an_object(identity))


def _cell(
    cell: int, attack: str, params: str, norm: str, eps: float, crafted_on: str, access: str, kind: str, goal: str = "untargeted"
) -> Cell:
    fields_ = an_object(params)
    if norm not in ("linf", "l2", "") or kind not in KINDS:
        raise ValueError("a cell of no known kind")
    if not 0 <= eps <= LARGEST or fields_ is None or not (norm or kind == "clean"):
        raise ValueError("a cell of no possible radius or parameters")
    try:
        wanted = Goal.parse(_text(goal))
    except EdgeqError as error:
        raise ValueError(str(error)) from None
    return Cell(int(cell), _text(attack), fields_, norm, float(eps), _text(crafted_on), _text(access), kind, wanted)  # type: ignore[arg-type]


def _artifact(sha256: str, name: str, file: str, bytes: int) -> Artifact:
    return Artifact(_text(sha256), _text(name), _text(file), int(bytes))


def _names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls))


TABLES: dict[type, Table] = {
    Artifact: Table("artifacts", _names(Artifact), lambda a: (a.sha256, a.name, a.file, a.bytes), _artifact),
    RunTarget: Table("targets", (*_names(TargetSpec)[:8], "status", "reason", "signature", "codes", "identity"), _target_row, _target),
    Cell: Table(
        "cells",
        _names(Cell),
        lambda c: (c.cell, c.attack, json.dumps(c.params), c.norm, c.eps, c.crafted_on, c.access, c.kind, str(c.goal)),
        _cell,
    ),
}


def parse(text: Any) -> Any:
    """JSON as edgeq writes it: its numbers are finite, so that they can be written again. Raises ValueError."""
    return json.loads(_text(text), parse_constant=_finite, parse_float=_finite)


def an_object(text: Any) -> dict[str, Any] | None:
    value = parse(text)
    if value is not None and not isinstance(value, dict):
        raise ValueError("a record contains no JSON object")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text is missing")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is not finite")
    return value


def pack(array: np.ndarray) -> bytes:
    """zlib, unless that is no shorter: a blob as long as the array *is* the array."""
    plain = np.ascontiguousarray(array).tobytes()
    packed = zlib.compress(plain, 1)
    return packed if len(packed) < len(plain) else plain


def unpack(blob: Any, size: int) -> bytes:
    """The ``size`` bytes packed by :func:`pack`. Raises ValueError or zlib.error where it holds anything else."""
    if not isinstance(blob, bytes):
        raise ValueError("a blob is missing")
    if len(blob) == size:
        return blob
    engine = zlib.decompressobj()
    plain = engine.decompress(blob, size + 1)
    if len(plain) != size or not engine.eof:
        raise ValueError("an image or score has the wrong size")
    return plain
