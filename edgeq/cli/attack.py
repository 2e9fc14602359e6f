"""``edgeq attack``: from a file and images to a run, its table and its exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console, options, running, trusting

EXAMPLE = """
\b
Examples:
  edgeq attack --target model.tflite --data folder:photos --eps 4/255
  edgeq attack --target model.tflite --data folder:photos --access scores --runtime tflm-exact
  edgeq attack --target model.tflite --source float.h5 --data zip:cifar10.zip --attack fgsm,pgd,spsa --eps 1/255,8/255
  edgeq attack --target a.tflite --target b.tflite --source float.h5 --transfer --data zip:cifar10.zip --attack pgd --eps 1/255
  edgeq attack --target model.tflite --attack pgd:steps=100:restarts=5 --source float.h5 --data folder:photos --fail-under 0.3
"""


@click.command(epilog=EXAMPLE)
@click.option(
    "--target",
    "targets",
    required=True,
    multiple=True,
    metavar="FILE",
    help="The file that ships: .tflite, .onnx, or a Keras network. May be repeated: networks of one task in one run.",
)
@click.option("--source", multiple=True, metavar="FILE", help="A float network that gradients come from: Keras or .onnx. May be repeated.")
@click.option("--transfer", is_flag=True, help="Craft on every target's own gradients too, and show who is fooled by what: a matrix.")
@click.option("--agree", type=click.IntRange(1), metavar="M", help="Measure the targets as an ensemble too, which abstains unless M agree.")
@click.option(
    "--access",
    type=click.Choice(["label", "scores", "logits", "gradients"]),
    help="The most that the attacker gets of the target. Default: what each attack needs; without --attack the strongest there is.",
)
@click.option(
    "--clamp",
    type=click.Choice(["clipped", "through", "both"]),
    default="both",
    show_default=True,
    help="What a clamp of the file lets pass backwards; both: the worse of the two for the defender.",
)
@click.option(
    "--runtime",
    "runtimes",
    callback=options.names,
    metavar="A,B",
    help="Runtimes to measure; the first is attacked. Default: all that run the file. tflm-exact: TFLM's answers, faster.",
)
@click.option("--device", metavar="NAME", help="A device profile: picks the runtime and says whether the file fits.")
@click.option(
    "--data",
    metavar="DATA",
    help="digits, cifar10[:PATH or :download], svhn:PATH, folder:PATH, zip:PATH or npz:PATH. Default: what the file's sidecar names.",
)
@options.photographs
@click.option("--label-column", metavar="NAME", help="The column of labels.csv with the classes.")
@click.option("--class-map", metavar="FILE", help="JSON or CSV: class of the data -> class of the model.")
@click.option(
    "--class-names", metavar="FILE", help="The model's class names, a line each; data classes of these names are matched to them."
)
@click.option("--n", type=click.IntRange(1), default=500, show_default=True, help="Images, sampled evenly over the classes.")
@click.option(
    "--attack",
    "attacks",
    callback=options.names,
    metavar="A,B",
    help="Attacks, with options as in pgd:steps=20. Default: what suits the access: pgd on gradients, spsa on scores, rays on labels.",
)
@click.option("--eps", callback=options.names, default="8/255", show_default=True, metavar="E,F", help="Radii: 8/255, 0.03 or 8px.")
@click.option("--norm", type=click.Choice(["linf", "l2"]), default="linf", show_default=True)
@click.option("--goal", default="untargeted", show_default=True, metavar="GOAL", help="untargeted, or a wanted class: class:3, next.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--max-queries", type=click.IntRange(1), help="The most queries an image may cost, its clean check included.")
@click.option(
    "--preprocess", metavar="SPEC", help="How the device prepares an image, as in imagenet or resize=146,crop,mean=127.5,std=127.5."
)
@click.option("--source-preprocess", metavar="SPEC", help="The mean and std of the source, where they are not the target's.")
@options.output_kind
@click.option("--threads", type=click.IntRange(1), help="Threads (processes for TFLM). Default: all cores.")
@click.option("--run", "run_path", type=click.Path(path_type=Path), metavar="RUN.sqlite", help="The run file. Default: a new one in runs/.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
@options.fail_under
@options.workers
@trusting.option
def command(
    targets: tuple[str, ...],
    data: str | None,
    runtimes: tuple[str, ...],
    run_path: Path | None,
    as_json: bool,
    fail_under: float | None,
    **given: Any,
) -> None:
    """Attack a deployed file on the runtimes that run it.

    Examples are crafted on gradients, of the source or of the file itself, and replayed on every runtime; a query attack (spsa, rays) runs
    on the first runtime and its candidates are replayed on the others. With nothing but --target the attacker gets the most that the
    file gives: gradients, else logits, scores or labels. Nothing is lost when it is stopped: see edgeq resume.
    """
    from edgeq.api.attacking import attack

    path = run_path or running.new_path(targets)
    run: dict[str, Any] = {"run": path, "reporter": console, "command": ["edgeq", *sys.argv[1:]]}
    chosen: dict[str, Any] = {"runtime": runtimes[0], "replay": runtimes[1:]} if runtimes else {}
    running.show(lambda: attack(targets, data, **chosen, **run, **given), path, as_json, fail_under)
