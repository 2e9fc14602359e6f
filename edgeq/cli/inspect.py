"""``edgeq inspect``: what is in a ``.tflite`` or ``.onnx`` file, what runs it, and where it fits."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeq.cli import console, options


@click.command(epilog="\b\nExamples:\n  edgeq inspect model.tflite\n  edgeq inspect model.onnx --json")
@click.argument("file", type=click.Path(path_type=Path))
@options.preprocess("Mean and std, where the file does not state what a pixel means.")
@options.output_kind
@options.as_json
def command(file: Path, preprocess: str | None, output: str | None, as_json: bool) -> None:
    """Say what is in FILE: layers, scales, the weight bits really used, parameters, MACs, flash and arena, whether it is provably the
    same function on every runtime, and which runtimes and devices take it."""
    from edgeq.measure.inspection import inspect
    from edgeq.report.inspection import render

    inspection = inspect(file, preprocess, output)
    if as_json:
        print(json.dumps(inspection.to_json(), indent=2))
    else:
        render(inspection, console.out)
