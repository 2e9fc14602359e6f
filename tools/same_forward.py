"""The file's differentiable twin against the interpreters: every activation, on real images, for each runtime's rounding.

    python tools/same_forward.py model.tflite --data npz:cifar10.npz --n 500

The twin ends at the logits; what comes after (a softmax) is held in the simulator's form. Prints, for each runtime, how many elements
of how many tensors differ, and every op of which one does. Of the ``.onnx`` of the same stem beside it, if there is one, the answers of
ONNX Runtime against the simulator's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgeq import data as sets
from edgeq import runtimes
from edgeq.core.runtime import Codes
from edgeq.core.signature import Signature
from edgeq.integer import read_onnx, read_tflite, simulate, tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.model import Model
from edgeq.keras import engine
from edgeq.keras.ste.source import executor
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import tensors
from edgeq.runtimes._layout import layout_of

CHUNK = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--preprocess", default="none", help="as for edgeq attack")
    a = parser.parse_args()
    model = tflite_file.read(str(a.file))
    graph = read_tflite.from_model(model)
    found = runtimes.probe_all(list(tensors.RUNTIMES), a.file)
    classes = next(s.classes for s in found.values() if isinstance(s, Signature))
    test = sets.open(a.data, split="test", classes=classes)
    index = sets.sample(test, a.n, 0)
    for name, signature in found.items():
        if not isinstance(signature, Signature):
            print(f"{name}: {signature}")
            continue
        began = time.monotonic()
        h, w, c = signature.input.shape
        prepare = Preprocess.parse(a.preprocess, (h, w), c)
        codes = codes_for(signature.input, prepare, a.file.name)
        batches = (sets.decode(test, index[at : at + CHUNK], prepare.apply) for at in range(0, len(index), CHUNK))
        counts = differences(name, a.file, model, graph, signature, codes, batches)
        total, apart = sum(c[0] for c in counts.values()), sum(c[1] for c in counts.values())
        print(f"{name}: {apart:,} of {total:,} elements of {len(counts)} tensors differ, {a.n} images, {time.monotonic() - began:.0f} s")
        for op in graph.ops:
            size, differ, largest, _ = counts.get(op.output, (0, 0, 0, 0))
            if differ:
                print(f"  {op.kind} ({graph.tensors[op.output].name}): {differ:,} of {size:,}, by at most {largest:g}")
    if (onnx := a.file.with_suffix(".onnx")).exists():
        answers(onnx, test, index, a.preprocess)


def differences(
    name: str, file: Path, model: Model, graph: Graph, signature: Signature, codes: Codes, batches: Iterable[np.ndarray]
) -> dict[int, tuple[int, int, float, float]]:
    """Of every activation in ``graph``: how many elements there are, how many are not those of the runtime ``name``, by how much the
    furthest one differs, and the largest magnitude. ``batches``: ``(n, h, w, c) uint8``."""
    inner, twin, steps = tensors.open(name, file, signature, codes), executor(graph, name, keep=True), simulate.plan(graph, name)
    twin, place = engine.tensorflow().function(twin, autograph=False), tensors.places(model, graph)
    constants = {i: t.data for i, t in graph.constants()}
    layout = layout_of(model)
    counts: dict[int, tuple[int, int, float, float]] = {}
    for images in batches:
        given = codes.encode(images).astype(np.float32)
        given = given if layout == "nhwc" else given.transpose(0, 3, 1, 2)
        given = given.reshape(len(images), *graph.tensors[graph.input].shape)
        kept, mine = inner(images), {i: v.numpy() for i, v in twin(given).items()}
        for op, step in zip(graph.ops, steps, strict=True):
            if op.output not in mine:  # behind the logits
                mine[op.output] = step(*(mine[i].astype(graph.tensors[i].dtype) if i in mine else constants.get(i) for i in op.inputs))
            if place[op.output] not in kept or graph.tensors[op.output].dtype == "bool":
                continue
            theirs = kept[place[op.output]].reshape(mine[op.output].shape).astype(np.float64)
            off = np.abs(theirs - mine[op.output])
            size, apart, most, largest = counts.get(op.output, (0, 0, 0, 0))
            counts[op.output] = (size + off.size, apart + int((off > 0).sum()), max(most, off.max()), max(largest, np.abs(theirs).max()))
    return counts


def answers(onnx: Path, test: sets.Images, index: np.ndarray, preprocess: str) -> None:
    graph, signature = read_onnx.read(onnx), runtimes.probe("ort", onnx)
    h, w, c = signature.input.shape
    prepare = Preprocess.parse(preprocess, (h, w), c)
    codes = codes_for(signature.input, prepare, onnx.name)
    target, total, apart = runtimes.open("ort", onnx, signature, codes), 0, 0
    for at in range(0, len(index), CHUNK):
        images = sets.decode(test, index[at : at + CHUNK], prepare.apply)
        given = target.answer(images).raw
        off = given != np.asarray(simulate.simulate(graph, codes.encode(images), "ort")).reshape(given.shape)
        total, apart = total + off.size, apart + int(off.sum())
    print(f"ort: {apart:,} of {total:,} answers differ, {len(index)} images")


if __name__ == "__main__":
    main()
