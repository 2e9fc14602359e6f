"""``edgeq export``: a Keras network as int8 ``.tflite`` and ``.onnx``, and how faithful they are on every runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console, options, trusting

EXAMPLE = """
\b
Examples:
  edgeq export models/digits_cnn-int8.savedmodel -o build
  edgeq export float.h5 -o build --calibrate zip:cifar10.zip --preprocess mean=0,std=1
  edgeq export float.onnx -o build --calibrate zip:cifar10.zip --preprocess mean=0,std=255
  edgeq export float.h5 -o build --portable --calibrate zip:cifar10.zip --preprocess mean=0,std=1
  edgeq export models/resnet8-lsq-w4a4.savedmodel -o build --store packed
"""


@click.command(epilog=EXAMPLE)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where the files go.")
@click.option("--format", "formats", callback=options.names, metavar="A,B", help="tflite, onnx. Default: both, where tf2onnx is installed.")
@click.option("--calibrate", metavar="DATA", help="Images whose training split sets the ranges of a float network.")
@click.option("--data", metavar="DATA", help="Images whose test split fills the fidelity table. Default: those of --calibrate.")
@click.option("--n", type=click.IntRange(1), help="Images sampled, for each of the two. Default: 200 to calibrate, 500 to test.")
@options.photographs
@options.preprocess("How the device prepares an image, as in imagenet or mean=127.5,std=127.5.")
@click.option(
    "--store",
    "stores",
    callback=options.names,
    metavar="A,B",
    help="Low-bit weights: scaled (int8, certified), packed (INT4, half the flash). Default: both.",
)
@click.option("--portable", is_flag=True, help="Snap a float network onto power-of-two steps: one function on every runtime, proven.")
@click.option("--output-name", metavar="NAME", help="Of a network with several outputs, the one that classifies.")
@click.option("--layers", type=click.IntRange(0), default=50, show_default=True, help="Images on which every op is compared; 0 for none.")
@options.seed
@click.option("--json", "as_json", is_flag=True, help="The sidecar's content on stdout, nothing else.")
@trusting.option
def command(as_json: bool, **given: Any) -> None:
    """Turn the Keras network MODEL (.h5, .keras or a SavedModel) into int8 files in DIR, and measure how faithful they are. Of a float
    .onnx ONNX Runtime's quantiser makes NAME-int8.onnx.

    A quantisation-aware network brings its ranges; a float one needs --calibrate, unless edgeq train recorded its data. The .onnx is
    made from the very .tflite. A low-bit network is written level by level, with a certificate of which channels compute the trained
    levels on every runtime. NAME.edgeq.json beside the files says where they come from.
    """
    from edgeq.build.export import export
    from edgeq.report.fidelity import render

    exported = export(**given, reporter=console)
    if as_json:
        print(json.dumps(exported.to_json(), allow_nan=False))
    else:
        render(exported, console.out)
