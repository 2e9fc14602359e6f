"""Counts where runtimes differ on one file: answers on many inputs, every inner activation on some of them.

    python tools/same_everywhere.py model.tflite --data npz:cifar10.npz --random 100000 --inner 5000

The ``.onnx`` of the same stem beside it, if there is one, answers as ``ort``. Random inputs: uniform pixels, seeded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeq import data as sets
from edgeq import runtimes
from edgeq.core.signature import Signature
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import tensors

CHUNK = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", help="test images, all of them")
    parser.add_argument("--random", type=int, default=0, help="random inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs")
    parser.add_argument("--inner", type=int, default=0, help="of each kind, inputs on which every activation is compared")
    a = parser.parse_args()
    found = runtimes.probe_all(list(tensors.RUNTIMES), a.file, output="logits")
    signatures = {name: s for name, s in found.items() if isinstance(s, Signature)}
    first = next(iter(signatures.values()))
    h, w, c = first.input.shape
    codes = codes_for(first.input, Preprocess((h, w), c), a.file.name)
    targets = {name: runtimes.open(name, a.file, s, codes) for name, s in signatures.items()}
    onnx = a.file.with_suffix(".onnx")
    if onnx.exists():
        targets["ort"] = runtimes.open("ort", onnx, runtimes.probe("ort", onnx, output="logits"), codes)
    inner = {name: tensors.open(name, a.file, s, codes) for name, s in signatures.items()} if a.inner else {}
    base = next(iter(targets))
    for kind, total, chunks in inputs(a.data, a.random, a.seed, (h, w, c)):
        began, done = time.monotonic(), 0
        flips, answers, elements, looked = dict.fromkeys(targets, 0), dict.fromkeys(targets, 0), dict.fromkeys(inner, 0), 0
        for images in chunks:
            given = {name: target.answer(images) for name, target in targets.items()}
            for name, answer in given.items():
                flips[name] += int((answer.label() != given[base].label()).sum())
                answers[name] += int((answer.raw != given[base].raw).sum())
            if done < a.inner and inner:
                part = images[: a.inner - done]
                kept = {name: look(part) for name, look in inner.items()}
                for name, held in kept.items():
                    elements[name] += sum(int((held[i] != kept[base][i]).sum()) for i in held)
                looked += sum(v.size for v in kept[base].values())
            done += len(images)
        print(f"{kind}: {total:,} inputs in {time.monotonic() - began:.0f} s, against {base}")
        for name in targets:
            inside = f"; {elements[name]:,} of {looked:,} inner elements on {min(a.inner, total):,} inputs" if name in elements else ""
            print(f"  {name}: {flips[name]} flips, {answers[name]} of {total * first.output.shape[0]:,} scores differ{inside}", flush=True)


def inputs(spec: str | None, random: int, seed: int, shape: tuple[int, ...]) -> Iterator[tuple[str, int, Iterator[np.ndarray]]]:
    if spec:
        test = sets.open(spec, split="test")
        index = np.arange(len(test))
        yield (
            f"test images of {spec.rpartition('/')[2]}",
            len(test),
            (sets.decode(test, index[at : at + CHUNK], lambda image: image) for at in range(0, len(test), CHUNK)),
        )
    if random:
        rng = np.random.default_rng(seed)
        yield (
            f"uniform random pixels, seed {seed}",
            random,
            (rng.integers(0, 256, (min(CHUNK, random - at), *shape), np.uint8) for at in range(0, random, CHUNK)),
        )


if __name__ == "__main__":
    main()
