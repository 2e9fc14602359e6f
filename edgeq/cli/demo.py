"""``edgeq demo``: the main job on digits, from nothing to a report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console, options, running

FOLDER = Path("runs/demo")
EPS = ("32/255", "64/255")  # digits have 8 x 8 pixels of high contrast: radii that make a curve there would be glaring on photographs


@click.command(epilog="\b\nExample:\n  edgeq demo")
@options.seed
def command(seed: int) -> None:
    """Train a small network on digits, float and int8, export it, attack it on every runtime, and write the report.

    Everything goes to runs/demo. Takes about two minutes on two cores; needs the extras keras, onnx and tflm.
    """
    from edgeq.api.attacking import attack
    from edgeq.api.results import result
    from edgeq.build.export import export
    from edgeq.build.train import train
    from edgeq.report.fidelity import render

    start = time.monotonic()
    _step(1, "train a float network on 1,438 images of digits")
    floating = train("digits_cnn", seed=seed, output=FOLDER, reporter=console).path
    _step(2, "train it on, aware of its int8 quantisation")
    aware = train("digits_cnn", quant="tfmot:int8", start=str(floating), seed=seed, output=FOLDER, reporter=console).path
    _step(3, "export it, and see whether the runtimes agree")
    render(export(aware, FOLDER, seed=seed, reporter=console), console.out)
    _step(4, "attack the .tflite: from the float network's gradients, and by queries to the interpreter")
    target, run = FOLDER / f"{aware.stem}.tflite", FOLDER / "demo.sqlite"
    run.unlink(missing_ok=True)
    asked: dict[str, Any] = {"source": floating, "n": 200, "seed": seed, "eps": EPS, "max_queries": 2000, "command": ["edgeq", "demo"]}
    attacks = ("fgsm", "pgd", "spsa:steps=30")
    running.show(lambda: attack(target, "digits", attacks, **asked, run=run, reporter=console), run)
    _step(5, "write the report")
    page = result(run).report(FOLDER / "report.html")
    console.say(f"\nDone in {time.monotonic() - start:.0f} s. Open {page} in a browser. Then try:", "bold")
    console.say(f"  edgeq inspect {target}", command=True)
    console.say(f"  edgeq attack --target {target} --device stm32f469 --attack spsa --eps 8/255,32/255 --n 50", command=True)
    console.say(f"  edgeq pack {run} -o runs/demo/board", command=True)


def _step(number: int, what: str) -> None:
    console.say(f"\n{number}/5  {what}", "bold cyan")
