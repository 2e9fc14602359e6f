"""``edgeq score``: what a board answered becomes one more runtime of the run."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import console


@click.command(epilog='\b\nExample:\n  edgeq score runs/model.sqlite answers.csv --name "X-CUBE-AI 10 on STM32H7"')
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("answers", metavar="CSV", type=click.Path(path_type=Path))
@click.option("--name", metavar="NAME", help="What to call the board. Default: the CSV file's name.")
@click.option("--replace", is_flag=True, help="Forget what a board of this name answered before.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(run_path: Path, answers: Path, name: str | None, replace: bool, as_json: bool) -> None:
    """Take back what a board said to a pack: a CSV with the columns id, cell, and label or score_0, score_1, ..."""
    from edgeq.api.boards import score

    result = score(run_path, answers, name, replace=replace, reporter=console)
    if as_json:
        from edgeq.report.to_json import dumps

        print(dumps(result.to_json()))
    else:
        result.table(console.out)
    console.say(f"added; as a page: edgeq report {run_path}")
