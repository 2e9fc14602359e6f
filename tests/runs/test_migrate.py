"""Runs of format 1, written by edgeq 0.1: ``synthetic.sqlite`` by its tests' generator (12 rows), ``attack.sqlite`` by ``edgeq attack`` on
:func:`tiny_tflite.classifier`, with rows of its last two cells deleted."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite

from edgeq.core.errors import EdgeqError
from edgeq.core.jsonable import as_json
from edgeq.measure.summary import summarise
from edgeq.report.html import render
from edgeq.runs.execute import execute
from edgeq.runs.format import SCHEMA, VERSION
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare
from edgeq.runs.store import Run

OLD = Path(__file__).parent / "format_1"


def statements(path):
    with sqlite3.connect(path) as db:
        return sorted(sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")), db.execute(
            "PRAGMA user_version"
        ).fetchone()[0]


def test_an_old_run_is_read_as_it_stands_and_rewritten_only_when_it_is_written_to(tmp_path):
    path = tmp_path / "a.sqlite"
    shutil.copyfile(OLD / "synthetic.sqlite", path)
    before = path.read_bytes()
    with Run.open(path) as run:
        read = as_json(summarise(run))
        page = render(run)
    assert path.read_bytes() == before
    specs = {t["id"]: t for t in read["targets"]}
    assert specs["keras"]["role"] == "source"
    assert (specs["keras (before the grid)"]["derived"], specs["keras (before the grid)"]["members"]) == ("before-grid", ["keras"])
    assert specs["ort"]["status"] == "cannot run"
    assert [c["crafted_on"] for c in read["cells"]] == ["", "", "keras", "keras", "litert-xnnpack", "litert-xnnpack"]
    assert "before the grid" in page
    Run.open(path, write=True).close()
    assert statements(path) == (sorted(SCHEMA), VERSION)
    with Run.open(path) as run:
        assert as_json(summarise(run)) == read
        rows = np.arange(12)
        candidates = run.candidates(3, rows)
    with Run.open(OLD / "synthetic.sqlite") as run:
        assert (run.candidates(3, rows) == candidates).all()


@pytest.mark.slow
def test_an_old_run_goes_on_and_ends_with_the_rows_of_a_new_one(tmp_path):
    path, model = tmp_path / "old.sqlite", tmp_path / "m.tflite"
    shutil.copyfile(OLD / "attack.sqlite", path)
    model.write_bytes(tiny_tflite.classifier())
    with sqlite3.connect(path) as db:  # the folder it was made in is gone
        db.execute("UPDATE artifacts SET file = ?", (str(model),))
        identities = {name: None for (name,) in db.execute("SELECT name FROM targets")}
        for name in identities:  # another processor than the one it was made on
            db.execute("UPDATE targets SET identity = '{}' WHERE name = ?", (name,))
    db.close()
    with Run.open(path, write=True) as run:
        execute(run)
    asked = {"targets": (str(model),), "data": "digits", "n": 12, "max_queries": 30, "threads": 1}
    setting = prepare(Plan(**asked, runtimes=("litert-reference", "litert-builtin"), attacks=("spsa:steps=2:batch=8", "rays")))
    with setting.create(tmp_path / "new.sqlite", []) as run:
        execute(run, setting)
    rows = np.arange(12)
    with Run.open(path) as old, Run.open(tmp_path / "new.sqlite") as new:
        assert [c.attack for c in old.cells()] == [c.attack for c in new.cells()] == ["clean", "noise", "spsa", "rays"]
        for cell in range(4):
            assert (old.candidates(cell, rows) == new.candidates(cell, rows)).all()
            for name in identities:
                assert (old.scores(cell, name, rows) == new.scores(cell, f"m/{name}", rows)).all()
            if cell:
                assert (old.queries(cell) == new.queries(cell)).all()


@pytest.mark.parametrize("sql", ["DROP TABLE answers", "UPDATE targets SET signature = '[]'", "UPDATE artifacts SET bytes = 'many'"])
def test_a_damaged_old_run_stays_as_it_is(tmp_path, sql):
    path = tmp_path / "a.sqlite"
    shutil.copyfile(OLD / "synthetic.sqlite", path)
    with sqlite3.connect(path) as db:
        db.execute(sql)
    db.close()
    before = path.read_bytes()
    with pytest.raises(EdgeqError, match="is damaged"), Run.open(path, write=True) as run:
        summarise(run)
    assert path.read_bytes() == before
