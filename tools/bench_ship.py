"""Time and memory of what `edgeq export` does with a low-bit network before any runtime is asked: freeze, certify, write, prove.

python tools/bench_ship.py NETWORK.savedmodel --data npz:cifar10.npz [--n 200]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from edgeq import data
from edgeq.integer import portable, read_tflite
from edgeq.integer.realise import STORES
from edgeq.keras import ship


def resident() -> float:
    """The largest so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=200, help="training images that show how far logits reach")
    a = parser.parse_args()
    taught = data.open(a.data, split="train")
    images = data.decode(taught, data.sample(taught, a.n, 0), lambda image: image)
    model = ship.low_bit(a.network)
    print(f"the Keras network restored: at most {resident():,.0f} MiB")
    began = time.perf_counter()
    shipped = ship.frozen(model, images, a.network.stem, STORES, onnx=True)
    frozen = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for name, content in shipped.files.items():
            file = Path(folder, name)
            file.write_bytes(content)
            if file.suffix == ".tflite":
                print(f"{name}: {portable.prove(read_tflite.read(file))}")
    print(f"freeze, certify and write {len(shipped.files)} files: {frozen - began:.1f} s; prove: {time.perf_counter() - frozen:.1f} s")
    print(f"at most {resident():,.0f} MiB")


if __name__ == "__main__":
    main()
