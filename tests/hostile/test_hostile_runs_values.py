"""A run file is valid SQLite of the right tables, and every value in it may be a stranger's: one sentence or a result, never a fault."""

from __future__ import annotations

import functools
import json
import math
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tiny_tflite
from click.testing import CliRunner

from edgeq import runtimes
from edgeq.cli import export_run, pack, report, resume, runs, score
from edgeq.core.errors import EdgeqError
from edgeq.runs.execute import execute
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run

CASES, SEED = (int(os.environ.get(f"EDGEQ_{name}", default)) for name, default in (("CASES", 24), ("SEED", 0)))
JSON = [None, -1, 0, 1, 2.5, 1e308, 10**30, -(10**12), 2**31, "", "x", "\x1b[2J", "int8", "9" * 5000, [], [[]], {}, {"a": 1}, True]
JSON += [[None], [1, 2, 3], "tflm", "probs", "../../etc", "pgd", math.nan, -math.inf]
CELL = [None, -1, 0, 2.5, math.inf, 1e308, 300 / 255, -(2**63), 2**63 - 1, 10**6, "", "x", "\x1b", "9" * 5000, b"\xff\x00", b"x\x9c"]
CELL += ["pgd", "query", "gradient", "l2", "label", "logits"]
RAW = ["{", "NaN", "1e999", "9" * 5000, "[" * 50_000, None, b"\xff", 7]


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run that was stopped in the midst of its attack."""
    folder = tmp_path_factory.mktemp("half")
    (folder / "m.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    asked = {"targets": (str(folder / "m.tflite"),), "data": "digits", "n": 6, "runtimes": ("litert-reference", "litert-builtin")}
    setting = prepare(Plan(**asked, attacks=("spsa:steps=2:batch=4",)))
    with setting.create(folder / "a.sqlite", []) as run:
        execute(run, setting)
    with sqlite3.connect(folder / "a.sqlite") as db:
        for statement in (
            "candidates WHERE cell = 2 AND idx > 2",
            "answers WHERE idx > 2",
            "rows WHERE idx > 4",
            "meta WHERE key = 'finished'",
        ):
            db.execute(f"DELETE FROM {statement}")
    db.close()
    return folder / "a.sqlite"


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:12]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = put(value[at[0]], at[1:], new)
    return copy


def edits(path: Path) -> list[tuple[str, tuple[Any, ...]]]:
    """SQL and its arguments: each value of the run in turn, made each of many others."""
    found: list[tuple[str, tuple[Any, ...]]] = []
    with sqlite3.connect(path) as db:
        for key, text in db.execute("SELECT key, value FROM meta").fetchall():
            changed = [json.dumps(put(json.loads(text), at, new)) for at in places(json.loads(text)) for new in JSON]
            found += [("UPDATE meta SET value = ? WHERE key = ?", (new, key)) for new in (*changed, *RAW)]
            found.append(("DELETE FROM meta WHERE key = ?", (key,)))
        for table in ("targets", "cells", "artifacts", "rows", "candidates", "answers"):
            several = db.execute(f"SELECT * FROM {table} LIMIT 3")
            columns = [c[0] for c in several.description]
            for row in several.fetchall():
                this = (f"{columns[0]} = ?", row[0])
                for column, value in zip(columns, row, strict=True):
                    inside: list[Any] = []
                    if column in ("signature", "codes", "identity", "params", "members") and value:
                        inside = [json.dumps(put(json.loads(value), at, new)) for at in places(json.loads(value)) for new in JSON]
                    for new in (*CELL, *inside):
                        found.append((f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {this[0]}", (new, this[1])))
    db.close()
    return found


def commands(path: Path, which: str) -> list[tuple[Any, ...]]:
    if which == "resume":
        return [(resume, path)]
    out = path.parent / "out"
    (path.parent / "answers.csv").write_text("id,cell,label\n3,0,1\n")
    reading = [(report, path, "-o", out / "a.html", "--json"), (export_run, path, "--csv"), (runs, path.parent)]
    return [*reading, (pack, path, "-o", out / "board"), (score, path, path.parent / "answers.csv", "--name", "b")]


@pytest.mark.parametrize("which", ["read", "resume"])
def test_edited_values_are_refused_in_a_sentence_or_taken(half, tmp_path, monkeypatch, which):
    monkeypatch.setattr(runtimes, "probe", functools.cache(runtimes.probe))  # the file is always the same
    every = edits(half)
    codes, path = [], tmp_path / "a.sqlite"
    for sql, values in random.Random(SEED).sample(every, CASES if which == "resume" else CASES // 2):
        for module, *arguments in commands(path, which):
            shutil.copy(half, path)
            with sqlite3.connect(path) as db, suppress(sqlite3.Error, OverflowError):  # what a column does not take
                db.execute(sql, values)
            db.close()
            result = CliRunner().invoke(module.command, [str(a) for a in arguments])
            fine = result.exit_code == 0 or isinstance(result.exception, EdgeqError)
            assert fine, (module.__name__, sql, [str(v)[:99] for v in values], result.exc_info)
            codes.append(result.exit_code)
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert {0, 1} == set(codes)


@pytest.mark.parametrize("finished", ["meta", "plan", "rows"])
def test_a_run_that_was_killed_before_its_first_row_can_be_reported(half, tmp_path, finished):
    path = shutil.copy(half, tmp_path / "a.sqlite")
    emptied = {"meta": ["artifacts", "targets", "cells"], "plan": [], "rows": []}[finished]
    with sqlite3.connect(path) as db:
        for table in ("rows", "candidates", "answers", *emptied):
            db.execute(f"DELETE FROM {table}")
        if finished == "rows":
            db.execute("INSERT INTO rows SELECT 0, 5, 'x', 1, zeroblob(64)")
    db.close()
    for module, *arguments in commands(path, "read")[:3]:
        assert CliRunner().invoke(module.command, [str(a) for a in arguments], catch_exceptions=False).exit_code == 0


@pytest.mark.parametrize("claim", ["n", "shape", "targets", "cells"])
def test_huge_claims_cost_neither_time_nor_memory(half, tmp_path, claim):
    import resource

    path = shutil.copy(half, tmp_path / "a.sqlite")
    with sqlite3.connect(path) as db:
        if claim in ("n", "shape"):
            db.execute("UPDATE meta SET value = ? WHERE key = ?", ({"n": "60000000", "shape": "[8000, 8000, 1]"}[claim], claim))
        else:
            kept = "network, artifact, runtime, role, derived, members, agree, status, reason, signature, codes, identity"
            columns = {"targets": f"'t' || i, {kept}"}
            columns["cells"] = "i + 9, attack, params, norm, eps, crafted_on, access, kind, goal"
            count = "WITH RECURSIVE k(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM k WHERE i < 3000)"
            db.execute(f"{count} INSERT INTO {claim} SELECT {columns[claim]} FROM k, (SELECT * FROM {claim} ORDER BY rowid DESC LIMIT 1)")
    db.close()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for module, *arguments in [*commands(path, "read"), (resume, path)]:
        result = CliRunner().invoke(module.command, [str(a) for a in arguments])
        assert result.exit_code == 0 or isinstance(result.exception, EdgeqError), result.exc_info
    assert time.process_time() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB


def test_what_a_plan_cannot_ask_for_is_said(tmp_path):
    for option in ({"threads": 10**9}, {"seed": 2**70}, {"max_queries": 0}, {"n": 10**12}):
        with pytest.raises(EdgeqError, match=f"--{next(iter(option)).replace('_', '-')}"):
            Plan(("m.tflite",), "digits", **option)
    with pytest.raises(EdgeqError, match="no such run"):
        Run.open(tmp_path)
