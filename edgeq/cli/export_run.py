"""``edgeq export-run``: every row of a run, to stdout."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import streams
from edgeq.core.errors import EdgeqError, printable

if TYPE_CHECKING:
    from edgeq.runs.store import Run

COLUMNS = "cell attack norm eps crafted_on target id name label clean_answer clean_correct"
COLUMNS += " answer correct fooled tied queries loss l2 linf_px"


@click.command("export-run", epilog="\b\nExample:\n  edgeq export-run runs/model.sqlite --csv > rows.csv")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values (the one format there is today).")
def command(run_path: Path, as_csv: bool) -> None:
    """Write a run's rows to stdout: one line a cell, runtime and image, with what it answered, clean and attacked.

    correct and clean_correct: the answer, the lowest index among equal scores, is the label. fooled: a class is strictly above the label's.
    tied: classes share the top score. Robust accuracy is the share of rows with clean_correct 1 and fooled 0.

    A name that a spreadsheet would calculate (it begins with =, +, - or @) has an apostrophe in front.
    """
    from edgeq.runs.store import Run

    if not as_csv:
        raise EdgeqError("export-run: say which format: edgeq export-run RUN --csv")
    try:
        with Run.open(run_path) as run:
            _write(run)
            sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough: no error
        streams.abandon(sys.stdout)


def _write(run: Run) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(COLUMNS.split())
    ids, labels, names, targets = run.ids(), run.labels(), run.names(), [t.id for t in run.targets(running=True)]
    clean = {name: run.outcomes(0, name) for name in targets}
    for cell in run.cells():
        queries, losses, (l2, linf) = run.queries(cell.cell), run.losses(cell.cell), run.norms(cell.cell)
        head = [cell.cell, _text(cell.attack), _text(cell.norm), f"{cell.eps:.9g}", _text(cell.crafted_on)]
        for name in targets:
            seen = run.outcomes(cell.cell, name)
            for i in (seen.correct >= 0).nonzero()[0].tolist():
                made = ["", "", "", ""] if queries[i] < 0 else [queries[i], f"{losses[i]:.9g}", f"{l2[i]:.9g}", f"{linf[i]:g}"]
                known = [clean[name].label[i], clean[name].right[i]] if clean[name].right[i] >= 0 else ["", ""]
                answers = [seen.label[i], seen.right[i], 1 - seen.correct[i], seen.tied[i]]
                out.writerow([*head, _text(name), ids[i], _text(names.get(i, "")), labels[i], *known, *answers, *made])


def _text(value: str) -> str:
    """A text from the run as a cell: shown, and never calculated by the spreadsheet that opens it."""
    return printable("'" + value if value.lstrip()[:1] in ("=", "+", "-", "@") or value[:1] in ("\t", "\r", "\n") else value)
