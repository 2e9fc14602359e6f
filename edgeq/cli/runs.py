"""``edgeq runs``: which runs there are."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console


@click.command(epilog="\b\nExample:\n  edgeq runs\n  edgeq runs results/ --json")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(directory: Path, as_json: bool) -> None:
    """List the run files of a folder (default: runs/) and of the folders in it, newest first."""
    from edgeq.api.results import list_runs

    listed = list_runs(directory)
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    if not listed:
        console.say(f"{directory}: contains no runs; edgeq attack makes one")
    for facts in listed:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    from rich.text import Text

    from edgeq.report.text import plain

    if facts["error"]:
        console.out.print(Text(plain(facts["run"]), "bold"))
        console.out.print(Text(f"  {plain(facts['error'], 400)}", "red"))
        return
    part = f"{math.floor(100 * facts['done'])} % of the attacks' candidates and answers are there, edgeq resume goes on"
    state = "finished" if facts["done"] == 1 else part
    console.out.print(Text(plain(facts["run"]), "bold"))
    console.out.print(Text(f"  {plain(', '.join(facts['targets']))}, n = {facts['n']}, {plain(facts['created'], 25)}: {state}"))
    attacks, runtimes = ", ".join(facts["attacks"]), ", ".join(facts["runtimes"])
    console.out.print(Text(f"  {plain(attacks)} in {facts['cells']} cells on {plain(runtimes)}", "dim"))
