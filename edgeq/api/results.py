"""A run and what was measured of it."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from edgeq.api.figures import Figures, lookup
from edgeq.core import files
from edgeq.core.errors import EdgeqError
from edgeq.measure.figures import Summary
from edgeq.runs.store import Run


class Result:
    """A run file with its figures: a context manager. A finished run or one that still goes on; reading it changes nothing.

    ``path``: the run file. ``result["pgd", "4/255"]`` are the figures of an attack at a radius on the attacked target, a third key names
    another target, and a fourth what it was crafted on: :func:`edgeq.api.figures.lookup`. The run file that ``edgeq.attack`` makes
    where none is named is deleted with the result. Every method raises :class:`EdgeqError` for a file that is gone or damaged.
    """

    def __init__(self, path: str | Path, owned: contextlib.ExitStack | None = None) -> None:
        """``owned``: the folder of a temporary run file, which goes with the result, at the latest when nobody holds it any more."""
        self.path = Path(path)
        self._gone = None if owned is None else weakref.finalize(self, owned.close)
        with self._run():
            pass

    def _run(self) -> Run:
        if self._gone is not None and not self._gone.alive:
            raise EdgeqError(f"{self.path}: was a temporary run file, and the result is closed; name one with run= to keep it")
        return Run.open(self.path)

    @cached_property
    def summary(self) -> Summary:
        """All figures, as values (:mod:`edgeq.measure.figures`): as they were when they were first asked for."""
        from edgeq.measure.summary import summarise

        with self._run() as run:
            return summarise(run)

    @property
    def finished(self) -> bool:
        """Whether every target has answered every image of every attack."""
        return not self.summary.unfinished

    def __getitem__(self, key: str | tuple[Any, ...]) -> Figures:
        parts = key if isinstance(key, tuple) else (key,)
        if not 2 <= len(parts) <= 4:
            raise EdgeqError(
                f"result[{', '.join(map(repr, parts))}]: takes an attack and a radius, then a target, then what it was crafted on"
            )
        return lookup(self.summary, *parts)

    def table(self, console: Any = None) -> None:
        """Prints the tables in 80 columns. ``console``: a ``rich.console.Console``; by default one on stdout."""
        from rich.console import Console

        from edgeq.report.terminal import render

        render(self.summary, console or Console(highlight=False, soft_wrap=False))

    def to_json(self) -> dict[str, Any]:
        """The figures and what was planned, asked and installed: docs/json.md. Plain values, without NaN."""
        from edgeq.report.to_json import document

        with self._run() as run:
            return document(run, self.summary)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, a row for each cell, target and image: the columns of ``edgeq export-run``, described at
        :data:`edgeq.report.rows.COLUMNS`. Raises :class:`EdgeqError` where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise EdgeqError("to_pandas needs pandas; pip install pandas, or take result.rows()") from None
        from edgeq.report.rows import COLUMNS

        return pandas.DataFrame.from_records(self.rows(), columns=list(COLUMNS))

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The same, one tuple after the other, of Python's own numbers and texts; None where there is no value."""
        from edgeq.report.rows import rows

        with self._run() as run:
            yield from rows(run)

    def report(self, page: str | Path) -> Path:
        """Writes one self-contained HTML page, all of it or nothing. Returns its path."""
        from edgeq.report.html import render

        page = Path(page)
        if page.resolve() == self.path.resolve():
            raise EdgeqError(f"{page}: is the run itself; choose another name with -o")
        with self._run() as run:
            text = render(run, self.summary)
        try:
            page.parent.mkdir(parents=True, exist_ok=True)
            with files.scratch(page.parent) as folder:
                (folder / page.name).write_text(text, encoding="utf-8", errors="replace")
                os.replace(folder / page.name, page)
        except OSError as error:
            raise EdgeqError(f"{page}: cannot be written ({error.strerror}); choose another place with -o") from None
        return page

    def missed(self, fail_under: float) -> str:
        """Why this run does not pass a gate, as a sentence; "" where it passes.

        ``fail_under``: the least that the lowest robust accuracy of what ships may be, under any attack on any runtime. Raises
        :class:`EdgeqError` where that cannot be judged, as the answers to clean images look wrong.
        """
        summary, lowest = self.summary, self.summary.lowest
        if void := next((c for c in summary.clean if c.void), None):
            why = next(doubt.sentence for doubt in void.doubts if doubt.void)
            raise EdgeqError(f"--fail-under {fail_under:g}: cannot be judged: {why}")
        if lowest is None or lowest.robust_accuracy >= fail_under:
            return ""
        return f"the lowest robust accuracy is {lowest.robust_accuracy:.3f} ({lowest.attack} on {summary.name(lowest.target)})"

    def close(self) -> None:
        """Deletes the run file if it is a temporary one. A second call does nothing."""
        if self._gone is not None:
            self._gone()

    def __enter__(self) -> Result:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<run {self.path}>"

    def _repr_html_(self) -> str:
        from edgeq.report.notebook import render

        return render(self.summary)


def result(run: str | Path) -> Result:
    """The run file ``run`` as a :class:`Result`. Raises :class:`EdgeqError` where it is none."""
    return Result(run)


def list_runs(folder: str | Path = "runs") -> list[dict[str, Any]]:
    """The run files of ``folder`` and of the folders in it, newest first: of each ``run``, ``created``, ``targets``, ``n``, ``runtimes``,
    ``attacks``, ``cells``, ``done`` (share of the attacks' candidates and answers that are there, in [0, 1]) and ``error``: why the file
    cannot be read, or None."""
    folder = Path(folder)
    if not folder.is_dir():
        raise EdgeqError(f"{folder}: there is no such folder; edgeq attack makes the first run in runs/")
    paths = sorted({*folder.glob("*.sqlite"), *folder.glob("*/*.sqlite")}, key=lambda p: (-p.stat().st_mtime, str(p)))
    return [_facts(path) for path in paths]


def _facts(path: Path) -> dict[str, Any]:
    from edgeq.targets.spec import short

    try:
        with Run.open(path) as run:
            records = [t.spec for t in run.targets(running=True) if t.spec.derived != "before-grid"]
            own = {spec.id for spec in records if spec.answers}
            called = short(records)
            ships = {spec.artifact for spec in records if spec.role == "target"}
            cells = run.cells()
            attacks = [c for c in cells if c.adversarial] or cells  # images and their noise are answered in no time: no part of the work
            mine = {c.cell for c in attacks}
            done = sum(k for (cell, target), k in run.answered().items() if target in own and cell in mine)
            done += sum(int((run.queries(cell) >= 0).sum()) for cell in mine - {0})  # crafting is most of the work of gradients
            rows = run.n * (len(own) * len(mine) + len(mine - {0}))
            return {
                "run": str(path),
                "created": run.meta("created"),
                "targets": [a.name for a in run.artifacts() if a.sha256 in ships],
                "n": run.n,
                "runtimes": [called[spec.id] for spec in records],
                "attacks": list(dict.fromkeys(c.attack for c in cells if c.cell)),
                "cells": len(cells),
                "done": min(1.0, done / max(1, rows)),
                "error": None,
            }
    except EdgeqError as error:
        return {"run": str(path), "error": str(error)}
