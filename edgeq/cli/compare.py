"""``edgeq compare``: two runtimes of one file, or two files, side by side; with gates for CI."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console, options, trusting

EXAMPLE = """
\b
Examples:
  edgeq compare model.tflite --runtime litert-xnnpack,tflm --data folder:photos
  edgeq compare yesterday.tflite today.tflite --data zip:cifar10.zip --max-flips 0.01 --max-accuracy-drop 0.005
  edgeq compare float.h5 model.tflite --data zip:cifar10.zip --attack pgd --eps 1/255 --run compare.sqlite
"""


@click.command(epilog=EXAMPLE)
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--runtime",
    "--runtimes",
    "runtimes",
    callback=options.names,
    metavar="R,S",
    help="Of A and of B. Default: litert-xnnpack and tflm for one file; for two, litert-xnnpack (an .onnx: ort) both times.",
)
@options.data
@options.n(500)
@click.option("--attack", metavar="NAME", help="Also craft on each side and show the other: pgd, fgsm, spsa:steps=20 ... Default: none.")
@click.option("--eps", default="8/255", show_default=True, help="Radius of the noise and of the attack: 8/255, 0.03 or 8px.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option("--max-queries", type=click.IntRange(1), help="The most queries an image may cost, its clean check included.")
@click.option(
    "--layers", "inside", type=click.IntRange(0), default=50, show_default=True, help="Images of which every inner tensor is compared."
)
@options.seed
@options.preprocess("How the device prepares an image, for both sides.")
@click.option("--preprocess-b", metavar="SPEC", help="The same for B, where it takes its pixels otherwise: another mean and std.")
@options.output_kind
@options.threads
@options.run_file
@click.option("--max-flips", type=click.FloatRange(0, 1), metavar="SHARE", help="Exit with 1 when more labels of clean images differ.")
@click.option("--max-accuracy-drop", type=click.FloatRange(0, 1), metavar="ACC", help="Exit with 1 when B's accuracy is lower by more.")
@click.option("--max-robust-drop", type=click.FloatRange(0, 1), metavar="ACC", help="The same of robust accuracy under one's own attack.")
@options.as_json
@trusting.option
def command(
    as_json: bool,
    max_flips: float | None,
    max_accuracy_drop: float | None,
    max_robust_drop: float | None,
    **asked: Any,
) -> None:
    """Compare two runtimes of the file A, or the files A and B: .tflite, .onnx or Keras networks of one task.

    Shows accuracy in pairs, labels that flip on clean images and under noise, score differences, and op by op where the two diverge
    (files with the same ops). With --attack, the adversarial examples of each are shown to the other.
    """
    from edgeq.api.comparing import compare

    limits = {"max_flips": max_flips, "max_accuracy_drop": max_accuracy_drop, "max_robust_drop": max_robust_drop}
    with options.stoppable(asked["run"]):
        comparison = compare(**asked, limits=limits, command=["edgeq", *sys.argv[1:]], reporter=console)
    if as_json:
        from edgeq.report.to_json import dumps

        print(dumps(comparison.to_json()))
    else:
        from edgeq.report.compare import render

        render(comparison, console.out)
    if not all(gate.met for gate in comparison.gates):
        sys.exit(1)
