"""Exports every low-bit network of a folder that tools/train_lowbit.py filled, measures it on all runtimes, and skips what is there.

    python tools/export_lowbit.py IN OUT --data npz:cifar10.npz --n 10000
    python tools/export_lowbit.py IN OUT --table > table.md

``--table`` prints what the sidecars in OUT say, as docs/results/lowbit.md has it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from edgeq.cli.export import export
from edgeq.core.errors import EdgeqError

RUNTIMES = ("keras", "keras-float", "litert-xnnpack", "litert-builtin", "litert-reference", "tflm", "ort")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, metavar="IN")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=50)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--only", nargs="*", help="these folders' names alone")
    a = parser.parse_args()
    if a.table:
        table(a.out)
        return
    for model in sorted(a.networks.glob("*.savedmodel")):
        if (a.only and model.stem not in a.only) or (a.out / f"{model.stem}.edgeq.json").exists():
            continue
        began = time.monotonic()
        try:
            export(model, a.out, data=a.data, n=a.n, layers=a.layers, formats="tflite,onnx")
        except EdgeqError as error:  # what cannot be exported is a result too
            a.out.mkdir(exist_ok=True)
            (a.out / f"{model.stem}.refused.txt").write_text(f"{error}\n")
            print(error, flush=True)
        print(f"{model.stem}: {time.monotonic() - began:.0f} s", flush=True)


def table(folder: Path) -> None:
    print("| network | w/a | Keras | " + " | ".join(name.replace("litert-", "") for name in RUNTIMES[2:]) + " | certified | levels |")
    print("| --- |" + " --- |" * (len(RUNTIMES) + 2))
    for path in sorted(folder.glob("*.edgeq.json")):
        said = json.loads(path.read_text("utf-8"))
        for way, part, file in (("scaled", said, path.name.removesuffix(".edgeq.json")), ("packed", said["packed"], "packed")):
            if part is not None:
                row(file, said, part, way)


def row(name: str, said: dict[str, Any], part: dict[str, Any], way: str) -> None:
    lines = {line["runtime"]: line for line in part["fidelity"]["runtimes"]}
    cells = [name, said["training"].get("quant", "float"), f"{lines['keras']['accuracy'][0]:.4f}"]
    for runtime in RUNTIMES[2:]:
        line = lines.get(runtime)
        if line is None or "reason" in line:
            cells.append("-")
        else:
            cells.append(f"{line['accuracy'][0]:.4f} ({line['flips']['keras']})")
    if said["certificate"]:
        held = [(layer["stored"][way]["certified"], layer["channels"]) for layer in said["certificate"]]
        cells.append(f"{sum(h for h, _ in held)}/{sum(c for _, c in held)}")
    else:
        cells.append("-")
    levels = part.get("levels") or []
    cells.append(" ".join(f"{held['differ']:,}" for held in levels) + (f" of {levels[0]['elements']:,}" if levels else "-"))
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
