"""``edgeq train``: a small network, float or quantisation-aware, from images to a file that reloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli import console, options, trusting

EXAMPLE = """
\b
Examples:
  edgeq train digits_cnn --data digits -o models
  edgeq train digits_cnn --data digits --quant tfmot:int8 --from models/digits_cnn.keras -o models
  edgeq train digits_cnn --data digits --quant lsq:w4a4 --from models/digits_cnn.keras -o models
  edgeq train b19_cifar10 --data cifar10:download --quant dorefa:w2a32 --preset b19 --width 0.25 -o models
  edgeq train resnet8 --data zip:cifar10.zip --epochs 20 -o models
"""


@click.command(epilog=EXAMPLE)
@click.argument("net", metavar="NET")
@click.option(
    "--data",
    metavar="DATA",
    help="digits, cifar10[:PATH or :download], svhn:PATH, folder:PATH, zip:PATH or npz:PATH. Default: digits for digits_cnn.",
)
@click.option(
    "--quant",
    default="float",
    show_default=True,
    metavar="HOW",
    help="float, tfmot:int8, tfmot:portable (int8, one function on every runtime), lsq:w4a4, dorefa:w2a32, pact:w4a4 (DoReFa weights), "
    "pact+lsq:w4a4, binarynet or binaryconnect; "
    "w and a: bits of weights and activations, a32 for float ones; ':channel' behind them for one step a channel.",
)
@click.option(
    "--ends",
    type=click.Choice(["int8", "float"]),
    help="First and last layer: int8 (6-bit levels where activations are quantised, so that they can be proven), or as in B19 not "
    "quantised.  [default: int8]",
)
@click.option("--preset", type=click.Choice(["b19"]), help="B19's recipe: Adam, staircase decay, 50 epochs from scratch, float ends.")
@click.option(
    "--from",
    "start",
    metavar="FILE",
    help="Start from a float .keras or .h5, or 'scratch'. Default of a quantised network: train float first.",
)
@click.option("--epochs", type=click.IntRange(1), help="At most, a training. Default: 20, of tfmot:int8 and tfmot:portable 10.")
@click.option(
    "--rate", type=click.FloatRange(0, 1, min_open=True), help="Adam's first rate. Default: 2e-3 float, 1e-3 low-bit, 2e-4 tfmot:*."
)
@click.option("--batch", type=click.IntRange(1), default=64, show_default=True)
@click.option(
    "--width", type=click.FloatRange(0.01, 16), default=1.0, show_default=True, help="Multiplies the number of filters and units."
)
@click.option("--n", type=click.IntRange(10), help="Training images, sampled evenly over the classes. Default: all.")
@options.photographs
@options.preprocess("How an image comes to the network's size, as in imagenet or stretch.")
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("models"), show_default=True, metavar="DIR")
@trusting.option
def command(**given: Any) -> None:
    """Train the network NET (digits_cnn, resnet8, b19_cifar10, b19_svhn) and save it in DIR.

    A float network becomes NAME.keras. A quantisation-aware one becomes a directory such as NAME-int8.savedmodel or
    NAME-lsq-w4a4.savedmodel, as TF-MOT's networks reload from nothing else. Both reload to the same outputs; beside them,
    NAME.edgeq.json says how they were made. A training that diverged is not saved; one that is no better than chance is, and that is said.
    """
    from edgeq.build.train import train

    console.out.print(str(train(**given, reporter=console).path), markup=False)
