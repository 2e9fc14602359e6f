"""What edgeq makes of the files of tools/torch_nets.py: a line of figures a file, or the sentence it was refused with.

    python tools/try_torch.py FOLDER CIFAR10.npz [--n 100] [--only cnn]

Per file: `inspect`; `attack` by PGD on its own gradients and on those of NAME-float.onnx (`--source`, weights in a second file), 20 steps
at 4/255; `compare` with NAME-float.onnx; `align` with it, 32 images; `pack`, a loop over the bytes with onnxruntime alone, and `score`
of what it answered. NAME-float.onnx is exported as well. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import edgeq
from edgeq.core.reporter import Silent
from edgeq.runs.store import Run

FORMS = ("float", "script", "qdq", "qoperator", "dynamic")
PGD, EPS = "pgd:steps=20", "4/255"
PIXELS: dict[str, Any] = {"preprocess": "mean=0,std=255"}
HEADS = ("file", "inspect", "clean", "own gradients", "--source float", "labels unlike float's", "cosine to float", "scores of the board")


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, sentence: str, style: str = "") -> None:
        self.lines.append(sentence)


def attacked(file: Path, floats: Path, images: Any, run: Path) -> list[str]:
    """Clean accuracy, and robust accuracies under the file's own gradients and the float network's."""
    with edgeq.attack(file, images, PGD, eps=EPS, source=floats, access="gradients", run=run, **PIXELS) as result:
        cells = [c for c in result.summary.cells if c.attack == "pgd"]
        target = next(t.id for t in result.summary.targets if t.role == "target")
        lines = {c.crafted_on: next(line for line in c.targets if line.target == target) for c in cells}
        own, lent = (next((v for k, v in lines.items() if (k == target) == own), None) for own in (True, False))
        clean = next(iter(lines.values())).clean_accuracy.share
        return [f"{clean:.3f}", *("-" if v is None else f"{v.robust_accuracy.share:.3f}" for v in (own, lent))]


def boarded(file: Path, run: Path, folder: Path) -> str:
    """`pack`, a loop of one's own, `score`: of how many images and cells the answers are those of the run."""
    packed = edgeq.pack(run, folder / "board")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    shape, name = packed["input"]["shape"], session.get_inputs()[0].name
    with open(folder / "board/index.csv", newline="") as stream:
        lines = list(csv.DictReader(stream))
    answers = folder / "answers.csv"
    with open(answers, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "cell", *(f"score_{k}" for k in range(10))])
        for line in lines:
            values = np.fromfile(folder / "board" / line["file"], np.float32, math.prod(shape), offset=int(line["offset"]))
            writer.writerow([line["id"], line["cell"], *session.run(None, {name: values.reshape(1, *shape)})[0][0].tolist()])
    heard = Heard()
    edgeq.score(run, answers, "my loop", reporter=heard)
    with Run.open(run) as opened:
        target = next(t.id for t in opened.targets() if t.spec.role == "target" and t.spec.artifact)
        pairs = [(opened.labels_of(c.cell, "my loop"), opened.labels_of(c.cell, target)) for c in opened.cells()]
    alike = sum(int((a == b).sum()) for a, b in pairs)
    return f"{alike} of {sum(len(a) for a, _ in pairs)} labels alike" + "".join(f"; {line}" for line in heard.lines)


def inspected(file: Path) -> str:
    found = edgeq.inspect(file, **PIXELS)
    if found.kernels is None:
        return found.description.problem or str(found.runtimes["ort"])
    integer, floating = (sum(kernels.values()) for kernels in (found.kernels.integer, found.kernels.float))
    return f"runs; {integer} integer, {floating} float kernels"


def aligned(file: Path, floats: Path, images: Path) -> str:
    found = edgeq.align(file, source=floats, data=str(images), n=32, estimates=(), eps=("4/255",), attack="fgsm", **PIXELS)
    shown = [f"{c.mean:.3f} {c.b}" for c in found.cosines if c.a == "float" and c.mean is not None]
    unequal = f"; simulated otherwise: {found.shift[0].unequal}" if found.shift else "; no value shift"
    return ", ".join(shown) + unequal


def said(step: Callable[[], Any]) -> Any:
    try:
        return step()
    except edgeq.EdgeqError as error:
        return f"refused: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--only", action="append", help="of the networks")
    options = parser.parse_args()
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}")
    for floats in sorted(options.folder.glob("*-float.onnx")):
        name = floats.name.removesuffix("-float.onnx")
        if options.only and name not in options.only:
            continue
        for form in FORMS:
            with tempfile.TemporaryDirectory() as scratch:
                file, folder = options.folder / f"{name}-{form}.onnx", Path(scratch)
                run, images = folder / "r.sqlite", edgeq.load(str(options.data), n=options.n)
                row = [file.name, said(lambda: inspected(file))]  # noqa: B023
                figures = said(lambda: attacked(file, floats, images, run))  # noqa: B023
                row += figures if isinstance(figures, list) else [figures, "", ""]
                if form == "float":
                    row += ["-", "-"]
                else:
                    compared = said(lambda: edgeq.compare(floats, file, data=str(options.data), n=options.n, inside=0, **PIXELS))  # noqa: B023
                    row += [compared if isinstance(compared, str) else f"{compared.clean.flips.k} of {options.n}"]
                    row += [said(lambda: aligned(file, floats, options.data))]  # noqa: B023
                row += [said(lambda: boarded(file, run, folder))]  # noqa: B023
                print(f"| {' | '.join(row)} |", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            made = said(lambda: edgeq.export(floats, scratch, calibrate=str(options.data), n=options.n, **PIXELS))  # noqa: B023
            if isinstance(made, str):
                print(f"\nexport {floats.name}: {made}\n")
            else:
                lines = ", ".join(f"{line.name} {line.accuracy[0]:.3f}" for line in made.measured.fidelity.runtimes if line.accuracy)
                flips = made.measured.fidelity.runtimes[1].flips or {}
                print(f"\nexport {floats.name}: {', '.join(made.files)}, {lines}, {flips.get('ort-float')} labels differ\n", flush=True)


if __name__ == "__main__":
    main()
