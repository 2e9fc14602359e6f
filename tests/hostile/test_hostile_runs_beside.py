"""What a stranger may put beside a run file: SQLite would delete files named there, or believe what stands there."""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic import make_run

from edgeq.cli import export_run, pack, report, resume, runs
from edgeq.core.errors import EdgeqError
from edgeq.runs import beside
from edgeq.runs.store import Run

MAGIC = bytes.fromhex("d9d505f920a163d7")


def journal(pages: int = 1, page: int = 4096, name: bytes = b"") -> bytes:
    """A hot journal of no pages; ``name``: of its super-journal."""
    head = (MAGIC + struct.pack(">5I", 0, 1, pages, 512, page)).ljust(512, b"\0")
    lock_page = (1 << 30) // page + 1
    tail = struct.pack(">I", lock_page) + name + struct.pack(">2I", len(name), sum(name)) + MAGIC
    return head + (tail if name else b"")


def state(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".html"}


def readers(path: Path, out: Path) -> list[tuple[int, str, str]]:
    """Exit code (2 for an EdgeqError), stdout and the sentence of every command that only reads."""
    found = []
    commands = [(report, path, "-o", out / "page.html", "--json"), (export_run, path, "--csv"), (runs, path.parent, "--json")]
    for module, *arguments in [*commands, (pack, path, "-o", out / "board")]:
        result = CliRunner().invoke(module.command, [str(a) for a in arguments])
        assert result.exit_code == 0 or isinstance(result.exception, EdgeqError), result.exception
        found.append((result.exit_code, result.stdout, str(result.exception)))
    shutil.rmtree(out, ignore_errors=True)
    return found


def test_a_planted_super_journal_deletes_nothing(tmp_path):
    path = make_run(tmp_path / "r" / "a.sqlite", n=6)
    victim = tmp_path / "thesis.tex"
    victim.write_text("all of it")
    pages = path.stat().st_size // 4096
    beside_it = path.with_name("a.sqlite-journal")
    beside_it.write_bytes(journal(pages, name=os.fsencode(victim)))
    before = state(tmp_path)
    assert [code for code, *_ in readers(path, tmp_path / "out")] == [1, 1, 0, 1]  # `runs` lists it with its error
    for module in (resume, runs):
        result = CliRunner().invoke(module.command, [str(path if module is resume else path.parent)])
        said = " ".join(f"{result.output} {result.exception}".replace("\n", "").split())
        assert "a.sqlite-journal: was not left by edgeq" in said
    assert state(tmp_path) == before


@pytest.mark.parametrize("planted", [b"not a journal at all", journal(10**6), journal(1, page=1000), journal(1)[:20], "folder", "fifo"])
def test_a_journal_that_is_none_is_refused_by_name_and_left_alone(tmp_path, planted):
    path = make_run(tmp_path / "a.sqlite", n=6)
    other = path.with_name("a.sqlite-journal")
    if planted == "fifo":
        os.mkfifo(other)
    elif planted == "folder":
        other.mkdir()
    else:
        other.write_bytes(planted)
    before = path.read_bytes()
    for write in (False, True):
        with pytest.raises(EdgeqError, match=r"a\.sqlite-journal: was not left by edgeq"):
            Run.open(path, write=write)
    assert path.read_bytes() == before
    assert other.exists()


def test_a_planted_log_is_not_believed(tmp_path):
    path = make_run(tmp_path / "r" / "a.sqlite", n=6)
    honest = readers(path, tmp_path / "out")
    forged = tmp_path / "forged.sqlite"
    shutil.copy(path, forged)
    db = sqlite3.connect(forged, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("UPDATE rows SET label = 9 - label")
    shutil.copy(f"{forged}-wal", f"{path}-wal")
    shutil.copy(f"{forged}-shm", f"{path}-shm")
    before = state(path.parent)
    assert readers(path, tmp_path / "out") == honest
    for _ in range(2):  # nor where the file itself says that it has one
        with pytest.raises(EdgeqError, match="WAL"):
            Run.open(forged)
    with pytest.raises(EdgeqError, match=r"a\.sqlite-wal: was not left by edgeq"):
        Run.open(path, write=True)
    assert state(path.parent) == before
    db.close()


def test_the_last_commit_is_shown_after_a_kill_in_the_midst_of_one_and_resume_gives_the_same(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=60, shape=(16, 16, 3))
    whole = path.read_bytes()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA cache_size = 5")  # pages reach the file long before the commit
    db.execute("BEGIN IMMEDIATE")
    changed = set()
    for step, statement in enumerate(
        [
            "UPDATE rows SET label = 9 - label",
            "UPDATE candidates SET queries = queries + 1",
            "DELETE FROM answers WHERE cell = 2",
            "INSERT INTO answers SELECT cell + 100, target, idx, correct, tied, label, scores FROM answers",
            "UPDATE answers SET label = 0",
        ]
    ):
        db.execute(statement)
        killed = tmp_path / str(step) / "a.sqlite"
        killed.parent.mkdir()
        shutil.copy(path, killed)
        shutil.copy(f"{path}-journal", f"{killed}-journal")
        changed.add(killed.read_bytes() != whole)
        before = state(killed.parent)
        with Run.open(killed) as run:
            assert run._db.serialize() == whole
        assert state(killed.parent) == before
        Run.open(killed, write=True).close()
        # SQLite counts a change when it is asked for one, and so this one byte may differ from the file that was killed
        assert sum(a != b for a, b in zip(killed.read_bytes(), whole, strict=True)) <= 2 * 4
    assert True in changed
    db.execute("ROLLBACK")
    db.close()


def test_who_reads_beside_a_living_writer_sees_whole_commits(tmp_path):
    path = make_run(tmp_path / "a.sqlite", n=12)
    with Run.open(path, write=True) as writer:
        with writer.transaction():
            writer.set_meta("half", 1)
            with Run.open(path) as reader:
                assert reader.meta("half") is None
        with Run.open(path) as reader:
            assert reader.meta("half") == 1
            writer.set_meta("half", 2)
            assert reader.meta("half") == 2
    assert [p.name for p in tmp_path.iterdir()] == ["a.sqlite"]


def test_a_writer_waits_for_readers_who_copy_and_not_for_writers(tmp_path, monkeypatch):
    import threading

    path = make_run(tmp_path / "a.sqlite", n=4)
    with path.open("rb") as file:
        assert beside._lock(file.fileno(), exclusive=False)
        threading.Timer(0.1, lambda: file.close()).start()
        os.close(beside.write_lock(path))


def test_a_run_is_never_found_half_planned(tmp_path, monkeypatch):
    """Records and tables are one transaction: after a kill there is a plan to resume, or an empty file that is named so."""
    from edgeq.runs.store import CLEAN

    with Run.create(tmp_path / "a.sqlite", shape=(2, 2, 1), n=3, meta={}, records=[CLEAN]) as run:
        assert run.cells() == [CLEAN]
    snapshots = []
    monkeypatch.setattr(Run, "set_meta", lambda self, *_: snapshots.append(path.read_bytes()))
    path = tmp_path / "b.sqlite"
    with pytest.raises(EdgeqError):  # no shape was written
        Run.create(path, shape=(2, 2, 1), n=3, meta={"x": 1}, records=[CLEAN])
    assert set(snapshots) == {b""}
    assert not path.exists()


def test_a_full_disk_promises_no_resume_of_a_file_that_is_gone(tmp_path, monkeypatch):
    real = beside._connect

    def tight(path, mode):
        db = real(path, mode)
        db.execute("PRAGMA max_page_count = 3")
        return db

    monkeypatch.setattr(beside, "_connect", tight)
    with pytest.raises(EdgeqError, match="disk is full") as said:
        Run.create(tmp_path / "a.sqlite", shape=(2, 2, 1), n=3, meta={"x": "y" * 9000})
    assert "resume" not in str(said.value)
    assert "nothing is kept" in str(said.value)
    assert not list(tmp_path.iterdir())
