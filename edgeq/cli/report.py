"""``edgeq report``: a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import console


@click.command(epilog="\b\nExamples:\n  edgeq report runs/model.sqlite\n  edgeq report runs/model.sqlite -o model.html --json > model.json")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="FILE.html", type=click.Path(path_type=Path, dir_okay=False), help="Default: beside the run.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document of the same numbers on stdout; a page only with -o.")
def command(run_path: Path, output: Path | None, as_json: bool) -> None:
    """Write a run's report as one self-contained HTML page, or its numbers as JSON. A run that still goes on can be reported too."""
    from edgeq.api.results import result

    run = result(run_path)
    if output is not None or not as_json:  # before anything is printed: the reader of stdout may have left
        console.say(f"report: {run.report(output or run_path.with_suffix('.html'))}")
    if as_json:
        from edgeq.report.to_json import dumps

        print(dumps(run.to_json()))
