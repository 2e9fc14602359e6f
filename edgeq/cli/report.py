"""``edgeq report``: a run as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path

import click

from edgeq.cli import console
from edgeq.core import files
from edgeq.core.errors import EdgeqError


@click.command(epilog="\b\nExamples:\n  edgeq report runs/model.sqlite\n  edgeq report runs/model.sqlite -o model.html --json > model.json")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE.html", type=click.Path(path_type=Path, dir_okay=False), help="Default: beside the run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document of the same numbers on stdout; a page only with -o.")
def command(run_path: Path, output: Path | None, as_json: bool) -> None:
    """Write a run's report as one self-contained HTML page, or its numbers as JSON. A run that still goes on can be reported too."""
    from edgeq.measure.summary import summarise
    from edgeq.runs.store import Run

    page = output or run_path.with_suffix(".html")
    if page.resolve() == run_path.resolve():
        raise EdgeqError(f"{page}: is the run itself; choose another name with -o")
    with Run.open(run_path) as run:
        summary = summarise(run)
        if output is not None or not as_json:  # before anything is printed: the reader of stdout may have left
            from edgeq.report.html import render

            _write(page, render(run, summary))
            console.say(f"report: {page}")
        if as_json:
            from edgeq.report.to_json import document, dumps

            print(dumps(document(run, summary)))


def _write(page: Path, text: str) -> None:
    """All or nothing: a full disk or a kill leaves an older report as it was."""
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        with files.scratch(page.parent) as folder:
            (folder / page.name).write_text(text, encoding="utf-8", errors="replace")
            os.replace(folder / page.name, page)
    except OSError as error:
        raise EdgeqError(f"{page}: cannot be written ({error.strerror}); choose another place with -o") from None
