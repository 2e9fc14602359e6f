"""``edgeq align``: are the gradients that attacks follow the network's, and what does quantisation do to an adversarial change?"""

from __future__ import annotations

import sys
from typing import Any

import click

from edgeq.cli import console, options, trusting

EXAMPLE = """
\b
Examples:
  edgeq align --target model.tflite --source float.h5 --data zip:cifar10.zip
  edgeq align --target model.tflite --data folder:photos --estimates coordinate:pixels=256 --access logits
"""


@click.command(epilog=EXAMPLE)
@click.option("--target", required=True, metavar="FILE", help="The .tflite or .onnx that ships.")
@click.option("--source", metavar="FILE", help="The float network it was made from: Keras or .onnx. Without one its rows are left out.")
@click.option("--runtime", metavar="NAME", help="What answers. Default: litert-xnnpack, of an .onnx ort. tflm-exact: as tflm, faster.")
@options.data
@options.n(100)
@click.option(
    "--estimates",
    callback=options.names,
    default="spsa,coordinate",
    show_default=True,
    metavar="A,B",
    help="Gradients from queries, with options as in spsa:pairs=256 or coordinate:pixels=128:step=2.",
)
@click.option(
    "--access",
    type=click.Choice(["scores", "logits", "both"]),
    default="both",
    show_default=True,
    help="What they see: what the file returns, or the file without its last softmax.",
)
@click.option(
    "--objective", type=click.Choice(["ce", "margin"]), default="ce", show_default=True, help="The loss whose gradients are compared."
)
@click.option("--attack", default="pgd", show_default=True, metavar="NAME", help="What crafts the images of the value shift, by gradients.")
@click.option(
    "--eps", callback=options.names, default="1/255,8/255", show_default=True, metavar="E,F", help="l_inf radii of the value shift."
)
@options.seed
@options.preprocess("How the device prepares an image.")
@click.option("--source-preprocess", metavar="SPEC", help="mean and std of the float network, where they are other than the file's.")
@options.output_kind
@options.threads
@options.run_file
@options.as_json
@trusting.option
def command(as_json: bool, **asked: Any) -> None:
    """Compare the gradients of a .tflite or .onnx in pairs: the float network's, the file's own (straight-through, with both clamps), and
    estimates from queries to the runtime.

    Shows cosines in pairs, what is exactly zero or explodes, how many of an adversarial image's changes each layer's buckets swallow,
    and the variance of the logits.
    """
    from edgeq.api.aligning import align

    with options.stoppable(asked["run"]):
        aligned = align(**asked, command=["edgeq", *sys.argv[1:]], reporter=console)
    if as_json:
        from edgeq.report.to_json import dumps

        print(dumps(aligned.to_json()))
    else:
        from edgeq.report.align import render

        render(aligned, console.out)
