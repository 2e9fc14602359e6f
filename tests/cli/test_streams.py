"""What goes out: to a terminal, a spreadsheet, a closed pipe."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sqlite3
import subprocess
import sys

import pytest
from click.testing import CliRunner
from rich.table import Table
from rich.text import Text
from synthetic import make_run

from edgeq.cli import console, export_run, report, runs
from edgeq.core.errors import EdgeqError, printable

EVIL = "=cmd|' /C calc'!A0\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj\x7f\r\n\x00\ud800"


@pytest.fixture
def hostile(tmp_path):
    """A run whose every text says something to a terminal or to a spreadsheet."""
    path = make_run(tmp_path / "runs" / "a.sqlite", n=12)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE rows SET name = ? || idx", (EVIL.encode("utf-8", "surrogatepass").decode("utf-8", "replace"),))
        db.execute("UPDATE cells SET attack = attack || ? WHERE cell", ("\x1b[31m\u202e",))
        db.execute("UPDATE targets SET reason = ?, id = '@' || id || ?, runtime = id WHERE status <> 'runs'", ("\x1b[2J", "\x9b"))
        for key in ("classes", "notes", "command", "created", "environment"):
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps([EVIL] * 10)))
        db.execute("UPDATE artifacts SET name = name || ?", ("\x1b[5m",))
        db.execute("UPDATE targets SET artifact = artifact || ?, network = network || ?", ("\x1b[5m", "\x1b[7m"))
    db.close()
    return path


def test_no_control_character_of_a_run_goes_out(hostile):
    page = hostile.with_suffix(".html")
    for module, *arguments in (
        (report, hostile, "-o", page, "--json"),
        (export_run, hostile, "--csv"),
        (runs, hostile.parent),
        (runs, hostile.parent, "--json"),
    ):
        result = CliRunner().invoke(module.command, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0
        assert printable(result.output, "\n") == result.output
    assert printable(page.read_text("utf-8"), "\n") == page.read_text("utf-8")


def test_a_spreadsheet_calculates_nothing_and_numbers_stay_numbers(hostile):
    result = CliRunner().invoke(export_run.command, [str(hostile), "--csv"], catch_exceptions=False)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert {row["name"][:5] for row in rows} == {"'=cmd"}
    for row in rows:
        assert not any(value[:1] in "=@\t\r" or (value[:1] in "+-" and not _number(value)) for value in row.values() if value)
        assert int(row["id"]) > 0
    assert any(row["loss"].startswith("-") for row in rows)


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def test_consoles_show_what_is_not_printable_and_keep_their_own_styles(capsys):
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(Text(EVIL, "red"))
    with console.out.capture() as captured:
        for what in (EVIL, Text(EVIL, "bold"), table):
            console.out.print(what, markup=False)
    console.say(EVIL, "red")
    for text in (captured.get(), capsys.readouterr().err):
        assert printable(text, "\n") == text
        assert "owned" in text
    styled = console.Shown(force_terminal=True, color_system="standard", file=io.StringIO())
    styled.print("\x1b[2J", style="red", markup=False)
    assert re.sub(r"\x1b\[[\d;]*m", "", styled.file.getvalue()) == "\ufffd[2J\n"
    assert "\x1b[31m" in styled.file.getvalue()
    assert str(EdgeqError(EVIL)).isprintable()


PYTHON = [sys.executable, "-m", "edgeq"]
CLOSED = {"stdout": ">&-", "stderr": "2>&-", "all": "<&- >&- 2>&-", "half": "2>&1 | head -c 1", "full": ">/dev/full"}


@pytest.mark.parametrize("how", CLOSED)
def test_closed_and_full_streams_are_no_fault(tmp_path, how):
    path = make_run(tmp_path / "a.sqlite", n=12)
    before = path.read_bytes()
    asked = {"report": f"report {path} --json -o {tmp_path}/a.html", "export-run": f"export-run {path} --csv", "no": "no-such-command"}
    for name, words in asked.items():
        line = f"{' '.join(PYTHON)} {words} {CLOSED[how]}; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=os.environ)
        assert done.returncode == (2 if name == "no" or how == "full" else 0), done.stderr
        assert len(done.stderr.splitlines()) <= 2
        assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    assert (tmp_path / "a.html").is_file() or how == "full"
