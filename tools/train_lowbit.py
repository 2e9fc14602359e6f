"""Trains every network of docs/results/lowbit.md, one after another, skipping those that are there: so it goes on where it was stopped.

python tools/train_lowbit.py digits OUT --data digits
python tools/train_lowbit.py resnet8 OUT --data npz:cifar10.npz --from float.keras --n 25000 --epochs 3
python tools/train_lowbit.py b19_cifar10 OUT --data npz:cifar10.npz --width 0.25 --n 25000 --epochs 8
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edgeq.build.train import train
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Lines
from edgeq.keras.quantizers import parse

SCHEMES = {
    "digits_cnn": [
        *("tfmot:int8", "tfmot:portable", "binaryconnect", "binarynet"),
        *(f"lsq:w{w}a{a}" for w, a in ((2, 2), (3, 3), (3, 4), (4, 3), (4, 4), (6, 6), (8, 8), (2, 32), (4, 32))),
        *(f"dorefa:w{w}a{a}" for w, a in ((1, 1), (2, 2), (3, 3), (4, 4), (8, 8), (2, 32), (4, 32))),
        *(f"pact:w{w}a{w}" for w in (2, 3, 4, 8)),
        "pact+lsq:w4a4",
    ],
    "resnet8": [
        *("tfmot:portable", "tfmot:int8", "lsq:w4a4", "lsq:w2a2", "binarynet", "binaryconnect", "lsq:w3a3", "lsq:w8a8", "lsq:w6a6"),
        *("dorefa:w2a2", "dorefa:w4a4", "pact:w2a2", "pact:w4a4", "lsq:w4a32", "lsq:w2a32", "dorefa:w2a32", "dorefa:w4a32"),
        *("lsq:w3a32", "lsq:w6a32", "lsq:w8a32", "dorefa:w8a32", "dorefa:w8a8", "pact:w8a8"),
    ],
    "b19_cifar10": [
        *("binarynet", "binaryconnect", "dorefa:w2a2", "dorefa:w3a3", "dorefa:w4a4"),
        *("dorefa:w2a32", "dorefa:w3a32", "dorefa:w4a32"),
    ],
}
"""B19's nine models are the float network and the eight of b19_cifar10."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=SCHEMES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--from", dest="start", help="a float network; without it the float network is trained first")
    parser.add_argument("--n", type=int, help="training images; default: all")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="these schemes alone")
    a = parser.parse_args()
    common = {"data": a.data, "epochs": a.epochs, "batch": a.batch, "width": a.width, "n": a.n, "seed": a.seed, "output": a.out}
    common["reporter"] = Lines()
    stem = a.net + (f"-w{a.width:g}" if a.width != 1 else "")
    start = a.start or str(a.out / f"{stem}.keras")
    if not Path(start).exists():
        train(a.net, **common)
    for quant in a.only or SCHEMES[a.net]:
        slug = "int8" if quant == "tfmot:int8" else parse(quant).slug
        if (a.out / f"{stem}-{slug}.savedmodel.edgeq.json").exists():
            continue
        began = time.monotonic()
        try:
            train(a.net, quant=quant, start=start, **common)
        except EdgeqError as error:  # a network that does not converge is a result too
            (a.out / f"{stem}-{slug}.failed.txt").write_text(f"{error}\n")
            print(f"{quant}: {error}", flush=True)
        print(f"{quant}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
