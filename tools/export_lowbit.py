"""Exports every low-bit network of a folder that tools/train_lowbit.py filled, measures it on all runtimes, and skips what is there.

    python tools/export_lowbit.py IN OUT --data npz:cifar10.npz --n 10000
    python tools/export_lowbit.py IN OUT --table > table.md

``--table`` prints what the sidecars in OUT say, as docs/results/lowbit.md has it, and which networks were not trained or not exported.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from edgeq.build.export import export
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Lines

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
        table(a.networks, a.out)
        return
    for model in sorted(a.networks.glob("*.savedmodel")):
        if (a.only and model.stem not in a.only) or (a.out / f"{model.stem}.edgeq.json").exists():
            continue
        began = time.monotonic()
        try:
            export(model, a.out, data=a.data, n=a.n, layers=a.layers, formats=("tflite", "onnx"), reporter=Lines())
        except EdgeqError as error:  # what cannot be exported is a result too
            a.out.mkdir(exist_ok=True)
            (a.out / f"{model.stem}.refused.txt").write_text(f"{error}\n")
            print(error, flush=True)
        print(f"{model.stem}: {time.monotonic() - began:.0f} s", flush=True)


def table(networks: Path, out: Path) -> None:
    names = [name.removeprefix("litert-") for name in RUNTIMES[2:]]
    print("| network | float32 | frozen | ties right | " + " | ".join(names) + " | certified | wrong activations | bytes |")
    print("| --- |" + " --- |" * (len(RUNTIMES) + 4))
    notes = []
    for path in sorted([*out.glob("*.edgeq.json"), *out.glob("*.refused.txt"), *networks.glob("*.failed.txt")]):
        if path.suffix == ".txt":
            stem, _, how = path.stem.rpartition(".")
            trained = networks / f"{stem}.savedmodel.edgeq.json"
            said = json.loads(trained.read_text("utf-8")) if trained.exists() else None
            name, accuracy = (said["quant"], share(said["test"]["accuracy"])) if said else (stem, "")
            print(f"| {name} | {accuracy} | {how} |" + " |" * (len(RUNTIMES) + 2))
            notes.append(f"- {name}: {path.read_text('utf-8').strip()}")
            continue
        said = json.loads(path.read_text("utf-8"))
        row(said["training"].get("quant", "float"), said, said, "scaled", next(name for name in said["files"] if name.endswith(".tflite")))
        if packed := said["packed"]:
            row("packed", said, packed, "packed", packed["file"])
    print("\n".join(["", *notes]))


def row(name: str, said: dict[str, Any], part: dict[str, Any], way: str, file: str) -> None:
    """Accuracy, and behind it the flips: a runtime's against the frozen network (the float32 one where nothing was frozen), the frozen
    network's against the float32 one.

    "ties right": of XNNPACK, if every tie with the true class counted as right; empty in sidecars from before that was said.
    """
    lines = {line["runtime"]: line for line in part["fidelity"]["runtimes"]}
    frozen = "keras-float" in lines
    cells = [name, right(lines["keras-float" if frozen else "keras"])]
    cells.append(f"{right(lines['keras'])} ({lines['keras']['flips']['keras-float']})" if frozen else "")
    counted = lines.get("litert-xnnpack", {}).get("with_ties")
    cells.append("" if counted is None else share(counted))
    for runtime in RUNTIMES[2:]:
        line = lines.get(runtime)
        cells.append("" if line is None or "reason" in line else f"{right(line)} ({line['flips']['keras']})")
    certified = [(layer["stored"][way]["certified"], layer["channels"]) for layer in said["certificate"] or ()]
    cells.append(f"{sum(k for k, _ in certified)} of {sum(c for _, c in certified)}" if certified else "")
    cells.append(wrong([v for v in part.get("levels") or () if not v["reason"]]))
    print("| " + " | ".join([*cells, f"{said['files'][file]['bytes']:,}"]) + " |")


def right(line: dict[str, Any]) -> str:
    return share(line["accuracy"][0]) if line["accuracy"] else "?"


def share(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def wrong(levels: list[dict[str, Any]]) -> str:
    """Least and greatest share over the runtimes, and the largest error of an op on its own inputs."""
    if not levels:
        return ""
    shares = [line["differ"] / line["elements"] for line in levels]
    if not max(shares):
        return f"0 of {levels[0]['elements']:,}"
    return f"{min(shares):.2g} to {max(shares):.2g}; an op by {max(line['alone_largest'] for line in levels)} at most"


if __name__ == "__main__":
    main()
