"""What a run file holds: its tables, their rows as values, and how an array becomes a blob."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

APPLICATION = 0x45444751  # "EDGQ": what `file` and SQLite call the application id
VERSION = 1
BEFORE_GRID = " (before the grid)"
"""Ends the name of a target that saw a float source's iterates instead of the integer candidates."""

# Blobs stand last in their tables: SQLite walks a row's overflow pages to reach what stands behind one.
SCHEMA = (
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
LIMIT = 1 << 26  # bytes of one image or JSON text, and rows of a run: a hostile file allocates no more
MOST_TARGETS, MOST_COLUMNS = 64, 4096  # of a run: targets, and targets times cells
MOST_ANSWERS = 1 << 24  # that a run may still lack; those it holds take more than a byte each


@dataclass(frozen=True)
class Artifact:
    """A file with its hash. ``role``: target | source | sibling."""

    name: str
    role: str
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class RunTarget:
    """An artifact in a runtime. ``status``: "runs" or "cannot run", and then ``reason`` is a sentence."""

    name: str
    artifact: str
    status: str = "runs"
    reason: str = ""
    signature: Any = None  # Signature.to_json()
    codes: Any = None  # PixelCodes.to_json()
    identity: Any = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        return self.status == "runs"


@dataclass(frozen=True)
class Cell:
    """One attack at one radius. Cell 0 is the clean images: ``kind`` clean | gradient | query | noise; ``eps`` in [0, 1].

    ``crafted_on``: the name of the target or source that was attacked, "" for clean and noise; ``access``: what it revealed
    ("gradients", "scores", "label", or "").
    """

    cell: int
    attack: str
    params: Any
    norm: str
    eps: float
    crafted_on: str = ""
    access: str = ""
    kind: str = "gradient"


@dataclass(frozen=True, eq=False)
class Outcomes:
    """A target's answers to a cell, ``(n,)`` each: ``correct``, ``tied`` and ``right`` int8, ``label`` int64; -1 where missing.

    ``correct``: not fooled, so a tie with the true class is; ``right``: the label, an argmax, is the true class.
    """

    correct: np.ndarray
    tied: np.ndarray
    label: np.ndarray
    right: np.ndarray


CLEAN = Cell(0, "clean", {}, "", 0.0, kind="clean")
TABLE: dict[type, str] = {Artifact: "artifacts", RunTarget: "targets", Cell: "cells"}


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
