"""Compares every inner activation of exported low-bit files with the networks as they were trained, on all LiteRT kernels and TFLM.

    python tools/compare_levels.py IN OUT --data npz:cifar10.npz --n 10000 --only resnet8-lsq-w2a2

IN: what tools/train_lowbit.py trained; OUT: what tools/export_lowbit.py wrote, with its ``--n`` given here as ``--calibration``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from edgeq import data as sets
from edgeq import runtimes
from edgeq.core.signature import Signature
from edgeq.integer import tflite_file
from edgeq.keras import ship
from edgeq.keras.freeze import freeze
from edgeq.measure import levels
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", type=Path, metavar="IN")
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=10_000, help="test images")
    parser.add_argument("--calibration", type=int, default=10_000, help="images that set the step of the logits at export")
    parser.add_argument("--only", nargs="+", required=True, help="networks, by their names without ending")
    a = parser.parse_args()
    test, calibration = (images(a.data, split, n) for split, n in (("test", a.n), ("train", a.calibration)))
    for stem in a.only:
        began, file = time.monotonic(), a.out / f"{stem}.tflite"
        trained = freeze(ship.low_bit(a.networks / f"{stem}.savedmodel"), calibration)
        wanted = next(t for t in tflite_file.read(str(file)).tensors if t.name == trained.tensors[trained.output].name)
        if not np.array_equal(wanted.scales, trained.tensors[trained.output].scale):
            raise SystemExit(f"{file}: its logits have another step than this freeze gives; pass its --calibration")
        probed = runtimes.probe_all(list(tensors.RUNTIMES), file, output="logits")
        signatures = {name: s for name, s in probed.items() if isinstance(s, Signature)}
        given = next(iter(signatures.values())).input
        h, w, c = given.shape
        codes = codes_for(given, Preprocess((h, w), c), file.name)
        for compared in levels.compare(trained, file, signatures, codes, test):
            totals = {key: value for key, value in compared.to_json().items() if key != "ops"}
            print(f"{stem}: {json.dumps(totals)}", flush=True)
        print(f"{stem}: {time.monotonic() - began:.0f} s", flush=True)


def images(spec: str, split: str, n: int) -> np.ndarray:
    dataset = sets.open(spec, split=split)
    return sets.decode(dataset, sets.sample(dataset, n, 0), lambda image: image)


if __name__ == "__main__":
    main()
