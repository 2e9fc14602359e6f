"""``edgeq resume``: brings a stopped run to its end."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import console, options, running, trusting


@click.command(epilog="\b\nExample:\n  edgeq resume runs/model-2026-11-20-1.sqlite")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
@options.fail_under
@options.workers
@trusting.option
def command(run_path: Path, as_json: bool, fail_under: float | None, workers: int | str) -> None:
    """Go on with a run that was stopped, by Ctrl-C, kill -9 or a full disk: it ends with the rows it would have ended with."""
    from edgeq.api.attacking import resume

    running.show(lambda: resume(run_path, workers=workers, reporter=console), run_path, as_json, fail_under)
