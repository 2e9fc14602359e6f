"""``edgeq runs``: which runs there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console
from edgeq.core.errors import EdgeqError


@click.command(epilog="\b\nExample:\n  edgeq runs\n  edgeq runs results/ --json")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(directory: Path, as_json: bool) -> None:
    """List the run files of a folder (default: runs/) and of the folders in it, newest first."""
    if not directory.is_dir():
        raise EdgeqError(f"{directory}: there is no such folder; edgeq attack makes the first run in runs/")
    files = sorted({*directory.glob("*.sqlite"), *directory.glob("*/*.sqlite")}, key=lambda p: (-p.stat().st_mtime, str(p)))
    found = [_facts(path) for path in files]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    if not found:
        console.say(f"{directory}: holds no runs; edgeq attack makes one")
    for facts in found:
        _show(facts)


def _facts(path: Path) -> dict[str, Any]:
    """One run's line; a file that cannot be read is a line that says why."""
    from edgeq.runs.store import Run
    from edgeq.targets.spec import short

    try:
        with Run.open(path) as run:
            records = [t.spec for t in run.targets(running=True) if t.spec.derived != "before-grid"]
            own = {spec.id for spec in records if spec.answers}
            called = short(records)
            ships = {spec.artifact for spec in records if spec.role == "target"}
            cells = run.cells()
            done = sum(k for (_, target), k in run.answered().items() if target in own)
            files = [a.name for a in run.artifacts() if a.sha256 in ships]
            return {
                "run": str(path),
                "created": run.meta("created"),
                "targets": files,
                "n": run.n,
                "runtimes": [called[spec.id] for spec in records],
                "attacks": list(dict.fromkeys(c.attack for c in cells if c.cell)),
                "cells": len(cells),
                "done": min(1.0, done / max(1, run.n * len(own) * len(cells))),
                "error": None,
            }
    except EdgeqError as error:
        return {"run": str(path), "error": str(error)}


def _show(facts: dict[str, Any]) -> None:
    from rich.text import Text

    from edgeq.report.text import plain

    if facts["error"]:
        console.out.print(Text(plain(facts["run"]), "bold"))
        console.out.print(Text(f"  {plain(facts['error'], 400)}", "red"))
        return
    state = "finished" if facts["done"] == 1 else f"{100 * facts['done']:.0f} % done, edgeq resume goes on"
    console.out.print(Text(plain(facts["run"]), "bold"))
    console.out.print(Text(f"  {plain(', '.join(facts['targets']))}, n = {facts['n']}, {plain(facts['created'], 25)}: {state}"))
    attacks, runtimes = ", ".join(facts["attacks"]), ", ".join(facts["runtimes"])
    console.out.print(Text(f"  {plain(attacks)} in {facts['cells']} cells on {plain(runtimes)}", "dim"))
