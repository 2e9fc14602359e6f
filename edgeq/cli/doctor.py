"""``edgeq doctor``: what is installed, which runtimes work here, and what of this processor changes results."""

from __future__ import annotations

import json

import click

from edgeq.cli import console, options


@click.command(epilog="\b\nExample:\n  edgeq doctor\n  edgeq doctor --json")
@options.as_json
def command(as_json: bool) -> None:
    """Say what is installed, which runtimes work here (each runs a small file), which processor flags change results, and what to
    install for the rest."""
    from edgeq.measure.installation import installation
    from edgeq.report.installation import render

    here = installation()
    if as_json:
        print(json.dumps(here.to_json(), indent=2))
    else:
        render(here, console.out)
