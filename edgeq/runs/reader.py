"""Reading a run file, one's own or a stranger's.

The schema must be this format's to the letter (no views or triggers run here), blobs are inflated no further than the image's known
size, and whatever SQLite or the types object to becomes one sentence.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.runs import migrate
from edgeq.runs.format import (
    APPLICATION,
    LIMIT,
    MOST_ANSWERS,
    MOST_COLUMNS,
    MOST_TARGETS,
    SCHEMA,
    TABLES,
    VERSION,
    Outcomes,
    RunTarget,
    parse,
    unpack,
)
from edgeq.targets.spec import KERAS, Artifact


@dataclass(frozen=True)
class ZeroGradients:
    """Of one cell under one clamp ("" for a float network): rows without any gradient, components without one, and components in all."""

    clamp: str
    rows: int
    components: int
    of: int


class Reader:
    """An open run file of ``n`` images of ``shape`` (h, w, c). Rows are numbered ``idx`` 0..n-1."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self.path, self._db = path, db
        self.n, self.shape = 0, (0, 0, 0)
        self._version = VERSION
        self._begun = True  # whether there is anything to go on with

    def _verify(self, thoroughly: bool) -> None:
        with self._errors():
            application, version = (self._db.execute(f"PRAGMA {p}").fetchone()[0] for p in ("application_id", "user_version"))
            if application != APPLICATION:
                raise EdgeqError(f"{self.path}: is not a run file of edgeq; `edgeq runs` lists those there are")
            if version > VERSION:
                raise EdgeqError(f"{self.path}: was written by a newer edgeq (format {version}, this one reads {VERSION}); upgrade edgeq")
            statements = sorted(row[0] for row in self._db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"))
            if statements != sorted({1: migrate.SCHEMA_1, VERSION: SCHEMA}.get(version, ())) or not statements:
                raise self._damaged("its tables are not those of a run")
            self._version = version
            if thoroughly and (verdict := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise self._damaged(str(verdict).splitlines()[-1])

    def _measure(self) -> None:
        shape, n = self.meta("shape"), self.meta("n")
        sizes = shape if isinstance(shape, list) and len(shape) == 3 else [0]
        if not all(type(s) is int and 0 < s <= LIMIT for s in sizes) or np.prod(sizes, dtype=float) > LIMIT:
            raise self._damaged("its image shape makes no sense")
        if type(n) is not int or not 0 <= n <= LIMIT:
            raise self._damaged("its number of images makes no sense")
        targets, cells = (self._rows(f"SELECT COUNT(*) FROM {table}")[0][0] for table in ("targets", "cells"))
        if targets > MOST_TARGETS or targets * cells > MOST_COLUMNS or n * targets * cells > max(MOST_ANSWERS, self.path.stat().st_size):
            raise self._damaged("its numbers of targets, cells and images make no sense")
        self.shape, self.n = (sizes[0], sizes[1], sizes[2]), n

    def _damaged(self, what: str) -> EdgeqError:
        return EdgeqError(f"{self.path}: is damaged ({what}); use a copy, or run the attack again")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._sentence(error) from error
        except OSError as error:
            raise EdgeqError(f"{self.path}: cannot be read or written ({error.strerror})") from error
        except (ValueError, TypeError, OverflowError, IndexError, KeyError, zlib.error, RecursionError) as error:
            raise self._damaged(f"{type(error).__name__}: {error}") from error

    def _sentence(self, error: sqlite3.Error) -> EdgeqError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            kept = f"every row written before is kept, make room and go on with `edgeq resume {self.path}`"
            nothing = "the run had not begun and nothing is kept, make room and start it again"
            return EdgeqError(f"{self.path}: the disk is full or fails ({error}); {kept if self._begun else nothing}")
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_READONLY_ROLLBACK:
            return EdgeqError(f"{self.path}: the process that wrote to it was stopped just now; try again")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return EdgeqError(f"{self.path}: another process holds it; wait until it ends")
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            return EdgeqError(f"{self.path}: cannot be opened or written ({error}); check the permissions of the file and its folder")
        if code == sqlite3.SQLITE_NOTADB:
            return EdgeqError(f"{self.path}: is not a run file of edgeq; `edgeq runs` lists those there are")
        return self._damaged(str(error))

    @contextmanager
    def _sqlite(self) -> Iterator[None]:
        """Only SQLite's own errors become sentences: a wrong type in a writer's argument is this program's fault, not the file's."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._sentence(error) from error

    def _rows(self, sql: str, *args: Any) -> list[Any]:
        with self._errors():  # all rows at once: an open cursor would hold the writer off
            return self._db.execute(sql, args).fetchall()

    def _records(self, kind: type[Any]) -> list[Any]:
        table = TABLES[kind]
        with self._errors():
            rows = self._db.execute(f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY rowid").fetchall()
            return [table.record(*row) for row in rows]

    def meta(self, key: str, default: Any = None) -> Any:
        with self._errors():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            value = default if row is None else parse(row[0])
        return migrate.plan(value) if key == "plan" and self._version == 1 else value

    def unreadable(self) -> tuple[str, ...]:
        """The names of the images that the sample leaves out, as they could not be read when the run began."""
        names = self.meta("unreadable") or []
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise self._damaged("its unreadable images are no names")
        return tuple(names)

    def artifacts(self) -> list[Artifact]:
        if self._version == 1:
            with self._errors():
                return migrate.artifacts(self._db)
        return self._records(Artifact)

    def targets(self, running: bool = False) -> list[RunTarget]:
        """In the order they were added; with ``running`` only those that can run."""
        if self._version == 1:
            with self._errors():
                records = migrate.targets(self._db)
        else:
            records = self._records(RunTarget)
        return [t for t in records if t.runs or not running]

    def cells(self) -> list[Cell]:
        if self._version == 1:
            with self._errors():
                return migrate.cells(self._db)
        return self._records(Cell)

    def zeros(self, cell: int) -> list[ZeroGradients]:
        """A line a clamp, over the rows that were crafted with it."""
        sql = "SELECT clamp, SUM(zero = of), SUM(zero), SUM(of) FROM diagnostics WHERE cell = ? AND of > 0 GROUP BY clamp ORDER BY clamp"
        lines: list[ZeroGradients] = []
        if self._version > 1:
            with self._errors():
                rows = self._db.execute(sql, (cell,)).fetchall()
                lines = [ZeroGradients(str(clamp), int(whole), int(zero), int(of)) for clamp, whole, zero, of in rows]
        return lines or self._zeros_1(cell)

    def traces(self, cell: int, clamp: str = "") -> dict[int, np.ndarray]:
        """Row number -> ``(evaluations,) float32``: the loss at each point whose gradient was taken, in order."""
        if self._version == 1:
            return {}
        sql = "SELECT idx, evaluations, trace FROM diagnostics WHERE cell = ? AND clamp = ? AND trace IS NOT NULL ORDER BY idx"
        with self._errors():
            rows = self._db.execute(sql, (cell, clamp)).fetchall()
            if any(not 0 <= n <= LIMIT // 4 for _, n, _ in rows):
                raise ValueError("a trace of no possible length")
            return {int(i): np.frombuffer(unpack(blob, 4 * n), np.float32) for i, n, blob in rows}

    def _zeros_1(self, cell: int) -> list[ZeroGradients]:
        """What format 1 kept a batch: ``{"cell/start": {clamp: [rows, components, of]}}``."""
        kept = self.meta("zero_gradients")
        batches = [v for k, v in kept.items() if k.startswith(f"{cell}/")] if isinstance(kept, dict) else []
        mine = [v if isinstance(v, dict) else {"": [v, 0, 0]} for v in batches]  # at first rows alone were counted
        lines = []
        for clamp in dict.fromkeys(clamp for batch in mine for clamp in batch):
            several = [batch[clamp] for batch in mine if isinstance(batch.get(clamp), list) and len(batch[clamp]) == 3]
            rows, zero, of = (sum(v[k] for v in several if type(v[k]) is int and v[k] >= 0) for k in range(3))
            lines.append(ZeroGradients(str(clamp), rows, min(zero, of), of))
        return lines

    def _columns(self, sql: str, args: Sequence[Any], dtypes: Sequence[Any], fill: Any) -> list[np.ndarray]:
        """The query's columns behind its first, ``idx``, scattered into ``(n,)`` arrays."""
        with self._errors():
            columns = list(zip(*self._db.execute(sql, args).fetchall(), strict=True)) or [()] * (1 + len(dtypes))
            idx = np.array(columns[0], np.int64)
            if len(idx) and not 0 <= idx.min() <= idx.max() < self.n:
                raise self._damaged("a row number is out of range")
            out = [np.full(self.n, fill, dtype) for dtype in dtypes]
            for array, values in zip(out, columns[1:], strict=True):
                array[idx] = np.array(values, array.dtype)
            return out

    def labels(self) -> np.ndarray:
        """``(n,) int64``: the true classes; -1 for rows that were not written yet."""
        return self._columns("SELECT idx, label FROM rows", (), (np.int64,), -1)[0]

    def ids(self) -> np.ndarray:
        """``(n,) int64``; -1 for rows that were not written yet."""
        return self._columns("SELECT idx, id FROM rows", (), (np.int64,), -1)[0]

    def names(self) -> dict[int, str]:
        """Image names by row number."""
        return {int(i): str(name) for i, name in self._rows("SELECT idx, name FROM rows ORDER BY idx")}

    def queries(self, cell: int) -> np.ndarray:
        """``(n,) int64``: queries each candidate took; -1 where there is none yet."""
        return self._columns("SELECT idx, queries FROM candidates WHERE cell = ?", (cell,), (np.int64,), -1)[0]

    def losses(self, cell: int) -> np.ndarray:
        """``(n,) float64``: the loss kept with each candidate; NaN where there is none."""
        return self._columns("SELECT idx, loss FROM candidates WHERE cell = ?", (cell,), (np.float64,), np.nan)[0]

    def norms(self, cell: int) -> tuple[np.ndarray, np.ndarray]:
        """``(n,) float64`` each, of the integer delta: l2 in pixels / 255, l_inf in pixels; NaN where missing."""
        l2, linf = self._columns("SELECT idx, l2, linf FROM candidates WHERE cell = ?", (cell,), (np.float64, np.float64), np.nan)
        return l2, linf

    def outcomes(self, cell: int, target: str) -> Outcomes:
        sql = (
            "SELECT idx, correct, tied, answers.label, answers.label = rows.label FROM answers JOIN rows USING (idx)"
            " WHERE cell = ? AND target = ?"
        )
        return Outcomes(*self._columns(sql, (cell, target), (np.int8, np.int8, np.int64, np.int8), -1))

    def correct(self, cell: int, target: str) -> np.ndarray:
        """``(n,) int8``: 1 where not fooled, 0 where fooled, -1 where missing."""
        return self.outcomes(cell, target).correct

    def tied(self, cell: int, target: str) -> np.ndarray:
        return self.outcomes(cell, target).tied

    def labels_of(self, cell: int, target: str) -> np.ndarray:
        """``(n,) int64``: the runtime's own labels, -1 where missing."""
        return self.outcomes(cell, target).label

    def done(self, cell: int, target: str | None = None) -> np.ndarray:
        """``(n,) bool``: rows of ``cell`` that have a candidate, or that ``target`` has answered. For cell 0 alone: rows written."""
        if target is not None:
            return self.correct(cell, target) >= 0
        return self.ids() >= 0 if cell == 0 else self.queries(cell) >= 0

    def measured(self, cell: int) -> np.ndarray:
        """``(n,) bool``: rows of ``cell`` of which something was measured; all of it, for that is one transaction."""
        if self._version == 1:
            return np.zeros(self.n, bool)
        return self._columns("SELECT DISTINCT idx, 1 FROM measurements WHERE cell = ?", (cell,), (bool,), False)[0]

    def measurements(self, cell: int, name: str, size: int | None = None) -> list[np.ndarray]:
        """What was measured under a name: ``(k,) float64`` for each of the ``n`` rows, in their order.

        ``size``: the ``k`` that each row has, None where they differ. Raises :class:`EdgeqError` where a row lacks it.
        """
        sql = 'SELECT size, "values" FROM measurements WHERE cell = ? AND name = ? ORDER BY idx'
        with self._errors():
            rows = [] if self._version == 1 else self._db.execute(sql, (cell, name)).fetchall()
            sizes = [k for k, _ in rows]
            if len(rows) != self.n or any(type(k) is not int or k < 0 or k != (k if size is None else size) for k in sizes):
                raise ValueError(f"{name} is not measured of every row")
            if sum(sizes) > LIMIT // 8:
                raise ValueError("measurements of no possible size")
            return [np.frombuffer(unpack(blob, 8 * k), np.float64) for k, blob in rows]

    def answered(self) -> dict[tuple[int, str], int]:
        """How many rows each (cell, target) has."""
        return {(c, t): k for c, t, k in self._rows("SELECT cell, target, COUNT(*) FROM answers GROUP BY cell, target")}

    def _images(self, sql: str, args: tuple[Any, ...], idx: np.ndarray) -> np.ndarray:
        out = np.empty((len(idx), *self.shape), np.uint8)
        with self._errors():
            for k, i in enumerate(np.asarray(idx).tolist()):
                row = self._db.execute(sql, (*args, i)).fetchone()
                if row is None:
                    raise self._damaged(f"row {i} is missing")
                out[k] = np.frombuffer(unpack(row[0], out[k].nbytes), np.uint8).reshape(self.shape)
        return out

    def images(self, idx: np.ndarray) -> np.ndarray:
        """``(m, h, w, c) uint8``: the clean images. Ask in chunks: only these are in memory."""
        return self._images("SELECT image FROM rows WHERE idx = ?", (), idx)

    def candidates(self, cell: int, idx: np.ndarray) -> np.ndarray:
        """``(m, h, w, c) uint8``: the candidates of ``cell``; for cell 0 the clean images. Ask in chunks."""
        clean = self.images(idx)
        if cell == 0:
            return clean
        return clean + self._images("SELECT delta FROM candidates WHERE cell = ? AND idx = ?", (cell,), idx)

    def scores(self, cell: int, target: str, idx: np.ndarray) -> np.ndarray | None:
        """``(m, k)`` raw scores in the runtime's dtype, or None where the target gives labels only."""
        signature = next((t.spec.signature for t in self.targets() if t.id == target), None)
        if signature is None or not signature.output.shape:
            return None
        sql = "SELECT scores FROM answers WHERE cell = ? AND target = ? AND idx = ?"
        with self._errors():
            width = signature.width
            if not 0 < width * len(idx) <= LIMIT:
                raise ValueError("a number of classes makes no sense")
            out = np.empty((len(idx), width), np.dtype(signature.output.dtype))
            for k, i in enumerate(np.asarray(idx).tolist()):
                row = self._db.execute(sql, (cell, target, i)).fetchone()
                if row is None or row[0] is None:
                    return None
                out[k] = np.frombuffer(unpack(row[0], out[k].nbytes), out.dtype)
            return out

    def answer(self, cell: int, target: str, idx: np.ndarray) -> Answer | None:
        """The same as the answer that it is a part of."""
        raw, spec = self.scores(cell, target, idx), next((t.spec for t in self.targets() if t.id == target), None)
        if raw is None or spec is None or spec.signature is None:
            return None
        kind = "logits" if spec.runtime == KERAS else spec.signature.kind  # a Keras network answers before its softmax
        return Answer(kind, raw, spec.signature.output.scale, spec.signature.output.zero)
