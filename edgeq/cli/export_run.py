"""``edgeq export-run``: every row of a run, to stdout."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import click

from edgeq.cli import streams
from edgeq.core.errors import EdgeqError, printable


@click.command("export-run", epilog="\b\nExample:\n  edgeq export-run runs/model.sqlite --csv > rows.csv")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values (the one format there is today).")
def command(run_path: Path, as_csv: bool) -> None:
    """Write a run's rows to stdout: one line a cell, runtime and image, with what it answered, clean and attacked.

    correct and clean_correct: the answer, the lowest index among equal scores, is the label. fooled: a class is strictly above the label's.
    tied: classes share the top score. Robust accuracy is the share of rows with clean_correct 1 and fooled 0.

    A name that a spreadsheet would calculate (it begins with =, +, - or @) has an apostrophe in front.
    """
    if not as_csv:
        raise EdgeqError("export-run: say which format: edgeq export-run RUN --csv")
    from edgeq.api.results import result
    from edgeq.report.rows import COLUMNS

    try:
        out = csv.writer(sys.stdout, lineterminator="\n")
        rows = result(run_path).rows()
        out.writerow(COLUMNS)
        out.writerows(map(_cell, row) for row in rows)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough: no error
        streams.abandon(sys.stdout)


def _cell(value: Any) -> Any:
    """A number short, a text so that the spreadsheet that opens it shows it and never calculates it."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if not isinstance(value, str):
        return value
    return printable("'" + value if value.lstrip()[:1] in ("=", "+", "-", "@") or value[:1] in ("\t", "\r", "\n") else value)
