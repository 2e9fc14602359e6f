"""``edgeq pack``: a run's inputs as a board takes them."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import console


@click.command(epilog="\b\nExample:\n  edgeq pack runs/model.sqlite -o board/")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, metavar="DIR", type=click.Path(path_type=Path), help="A new or empty folder.")
@click.option("--target", metavar="NAME", help="Whose input codes to use. Default: the run's first runtime that is no Keras network.")
@click.option("--max", "header", type=click.IntRange(0, 4096), default=16, show_default=True, help="Images in the C header.")
def command(run_path: Path, output: Path, target: str | None, header: int) -> None:
    """Write a run's clean and adversarial inputs exactly as the device takes them: raw .bin files, a C header, and an index."""
    from edgeq.api.boards import pack

    packed = pack(run_path, output, target, header)
    images = sum(cell["images"] for cell in packed["cells"])
    console.say(f"{output}: {images} inputs in {len(packed['cells'])} files, for {packed['target']}: {packed['input']['codes']}")
    console.say(f"next: run them on the device (see {output / 'README.md'}), then: edgeq score {run_path} answers.csv")
