"""One SQLite file a run: what was planned, on which artifacts and runtimes, every image, every candidate, every answer.

The journal is SQLite's rollback journal, not WAL: what was committed is then always in the one file itself, even after ``kill -9``
(WAL would leave it in a second file that people forget to copy). After a kill at most the transaction in flight has a ``-journal``
beside the file, and the next opening to write rolls it back (:mod:`edgeq.runs.beside`). Commits are a batch of rows apart, so the
slower journal costs nothing.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.cell import CLEAN, Batch, Cell
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.errors import EdgeqError
from edgeq.runs import migrate
from edgeq.runs.beside import connect_to_read, connect_to_write, write_lock
from edgeq.runs.format import APPLICATION, SCHEMA, TABLES, VERSION, RunTarget, pack
from edgeq.runs.reader import Reader
from edgeq.targets.spec import Artifact

NewRows = tuple[np.ndarray, np.ndarray, Sequence[str], np.ndarray, np.ndarray]
"""Row numbers, ids, names, labels and images, as :meth:`Run.add_rows` takes them."""

__all__ = ["CLEAN", "Artifact", "Cell", "Run", "RunTarget"]


class Run(Reader):
    """An open run file; a context manager. Every writer is one transaction."""

    def __init__(self, path: Path, db: sqlite3.Connection, lock: int | None) -> None:
        super().__init__(path, db)
        self._lock, self._depth = lock, 0

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        shape: Sequence[int],
        n: int,
        meta: Mapping[str, Any],
        records: Sequence[Artifact | RunTarget | Cell] = (),
        rows: Iterable[NewRows] = (),
    ) -> Run:
        """A new run of ``n`` images of ``shape`` (h, w, c) with all its ``records``, open for writing. ``meta``: JSON-able values by key;
        ``rows``: those that are there already, in parts.

        One transaction: a kill leaves the whole plan with these rows, or an empty file. Raises :class:`EdgeqError` where the file exists
        already or cannot be written; then nothing is left behind.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644))
        except FileExistsError:
            raise EdgeqError(f"{path}: this run exists already; go on with `edgeq resume {path}`, or choose another name") from None
        except OSError as error:
            raise EdgeqError(f"{path}: cannot be written ({error.strerror}); choose another place with --run") from None
        run = None
        try:
            lock = write_lock(path)
            try:
                run = cls(path, connect_to_write(path), lock)
            except BaseException:
                os.close(lock)
                raise
            run._begun = False
            with run.transaction():
                for statement in (*SCHEMA, f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {VERSION}"):
                    run._write(statement)
                for key, value in {**meta, "shape": [int(s) for s in shape], "n": int(n)}.items():
                    run.set_meta(key, value)
                run.add(*records)
                for part in rows:
                    run.add_rows(*part)
            run._begun = True
            run._measure()
            return run
        except BaseException:
            if run is not None:
                run.close()
            path.unlink(missing_ok=True)
            raise

    @classmethod
    def open(cls, path: str | Path, write: bool = False) -> Run:
        """An existing run. With ``write`` it is this process's alone to write to, until closed or killed; others may still read."""
        path = Path(path)
        if not path.is_file():
            raise EdgeqError(f"{path}: there is no such run file; `edgeq runs` lists those there are")
        if path.stat().st_size == 0:
            raise EdgeqError(f"{path}: is empty, its run was stopped before the first row; delete it and start the run again")
        lock = write_lock(path) if write else None
        run = None
        try:
            run = cls(path, connect_to_write(path) if write else connect_to_read(path), lock)
            run._verify(thoroughly=write)
            run._measure()
            if not write:
                run._db.execute("PRAGMA query_only = ON")
            elif run._version == 1:
                with run.transaction(), run._errors():
                    migrate.upgrade(run._db)
                run._version = VERSION
            else:  # proves now that the file can be written, and removes the journal of a writer that was killed before its first change
                run._write(f"PRAGMA user_version = {VERSION}")
            return run
        except BaseException:
            if run is not None:
                run.close()
            elif lock is not None:
                os.close(lock)
            raise

    def close(self) -> None:
        self._db.close()  # before the lock: closing any descriptor of the file drops this process's POSIX locks on it
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writers inside commit together or not at all. May nest: the outermost commits."""
        self._depth += 1
        try:
            if self._depth > 1:
                yield
                return
            with self._sqlite():
                self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                with self._sqlite():
                    self._db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                raise
        finally:
            self._depth -= 1

    def _write(self, sql: str, rows: Iterable[tuple[Any, ...]] | None = None) -> None:
        with self.transaction(), self._sqlite():
            if rows is None:
                self._db.execute(sql)
            else:
                self._db.executemany(sql, rows)

    def set_meta(self, key: str, value: Any) -> None:
        self._write("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value, sort_keys=True))])

    def add(self, *records: Artifact | RunTarget | Cell) -> None:
        """Adds records in one transaction. A target that is there already is replaced; any other record that is, is an error of ours."""
        with self.transaction():
            for record in records:
                table = TABLES[type(record)]
                sql = f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(table.columns))})"
                if isinstance(record, RunTarget):
                    key, *others = table.columns
                    sql += f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
                self._write(sql, [table.row(record)])

    def add_rows(self, idx: np.ndarray, ids: np.ndarray, names: Sequence[str], labels: np.ndarray, images: np.ndarray) -> None:
        """``idx``, ``ids``, ``labels`` ``(m,)`` integers; ``images`` ``(m, h, w, c) uint8``. Rows that are there already stay."""
        packed = (pack(image) for image in images)
        rows = zip(idx.tolist(), ids.tolist(), names, labels.tolist(), packed, strict=True)
        self._write("INSERT OR IGNORE INTO rows VALUES (?, ?, ?, ?, ?)", rows)

    def add_candidates(
        self, cell: int, idx: np.ndarray, candidates: np.ndarray, clean: np.ndarray, queries: np.ndarray | int = 0, loss: Any = np.nan
    ) -> None:
        """``candidates``, ``clean`` ``(m, h, w, c) uint8``; ``queries`` and ``loss`` ``(m,)`` or one number.

        The delta is kept modulo 256 (uint8 subtraction wraps, and adding it back unwraps); the norms are of the true integer delta.
        """
        m = len(idx)
        if not m:
            return
        flat = (candidates.astype(np.int16) - clean).reshape(m, -1)
        l2 = np.sqrt(np.einsum("ij,ij->i", flat, flat, dtype=np.float64)) / 255
        columns = (np.broadcast_to(queries, m).tolist(), np.broadcast_to(loss, m).tolist(), l2.tolist(), np.abs(flat).max(1).tolist())
        rows = ((cell, i, *c, pack(delta)) for i, *c, delta in zip(idx.tolist(), *columns, candidates - clean, strict=True))
        self._write("INSERT OR REPLACE INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def add_answers(self, cell: int, target: str, idx: np.ndarray, answer: Answer, labels: np.ndarray) -> None:
        """What ``target`` answered to the rows ``idx`` of ``cell``; ``labels`` ``(m,)`` are the true classes."""
        scores = [None] * len(idx) if answer.kind == "label" else [pack(raw) for raw in answer.raw]
        columns = ((~answer.fooled(labels)).tolist(), answer.tied().tolist(), answer.label().tolist())
        rows = ((cell, target, i, *rest) for i, *rest in zip(idx.tolist(), *columns, scores, strict=True))
        self._write("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def commit(self, batch: Batch, labels: np.ndarray) -> None:
        """All of a batch, in one transaction. ``labels``: ``(n,)``, the true classes of all rows."""
        with self.transaction():
            if batch.candidates is not None:
                assert batch.clean is not None
                queries = 0 if batch.queries is None else batch.queries
                loss = np.nan if batch.loss is None else batch.loss
                self.add_candidates(batch.cell, batch.index, batch.candidates, batch.clean, queries, loss)
            for clamp, diagnostics in batch.diagnostics.items():
                self._write("INSERT OR REPLACE INTO diagnostics VALUES (?, ?, ?, ?, ?, ?, ?, ?)", _diagnostics(batch, clamp, diagnostics))
            for target, answer in batch.answers.items():
                self.add_answers(batch.cell, target, batch.index, answer, labels[batch.index])

    def add_measurements(self, cell: int, idx: np.ndarray, values: Mapping[str, Sequence[np.ndarray]]) -> None:
        """What was measured of the rows ``idx (m,)`` of a cell, in one transaction: by name a vector of float64 for each row."""
        rows = idx.tolist()
        with self.transaction():
            for name, vectors in values.items():
                packed = ((cell, i, name, len(v), pack(v.astype(np.float64))) for i, v in zip(rows, vectors, strict=True))
                self._write("INSERT OR REPLACE INTO measurements VALUES (?, ?, ?, ?, ?)", packed)

    def remove_target(self, name: str) -> None:
        """Forgets a target and all it answered."""
        with self.transaction():
            self._write("DELETE FROM answers WHERE target = ?", [(name,)])
            self._write("DELETE FROM targets WHERE id = ?", [(name,)])


def _diagnostics(batch: Batch, clamp: str, diagnostics: Diagnostics) -> Iterator[tuple[Any, ...]]:
    """A row each: what was zero of the first gradient, or of the differences of scores, and of how many; queries to the first success;
    the losses."""
    nothing = [None] * len(batch.index)

    def column(values: np.ndarray | None) -> list[Any]:
        return nothing if values is None else values.tolist()

    size = None if batch.clean is None or diagnostics.zero_pixels is None else batch.clean[0].size
    zero, of = (diagnostics.zero_pixels, [size] * len(nothing)) if size else (diagnostics.zero_differences, column(diagnostics.differences))
    traces = nothing if diagnostics.trace is None else [pack(trace.astype(np.float32)) for trace in diagnostics.trace]
    evaluations = nothing if diagnostics.trace is None else [diagnostics.trace.shape[1]] * len(nothing)
    rows = zip(batch.index.tolist(), column(zero), of, column(diagnostics.first), evaluations, traces, strict=True)
    return ((batch.cell, idx, clamp, *rest) for idx, *rest in rows)
