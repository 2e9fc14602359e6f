"""The file's differentiable twin against the float network and against TFLite Micro, in turns within one run.

    python tools/bench_ste.py MODEL.tflite FLOAT.h5 [--rounds 7] [--batch 128] [--memory]

Prints, for the rounding of each runtime, the milliseconds of one forward and backward pass and its ratio to the float network's, and the
images per second of the forward pass; then those of the TFLM interpreter in one process, and the twin's ratio to it. With ``--memory``
instead the largest resident size of a process that makes three passes with the rounding of TFLM, batch by batch.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from edgeq import runtimes
from edgeq.core.gradient import value_and_grad
from edgeq.core.rows import Rows
from edgeq.integer import read_tflite
from edgeq.keras import source as keras
from edgeq.keras.ste.source import SteSource
from edgeq.objectives.ce import CE
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory(model: str, float_model: str) -> None:
    for batch in (1, 64, 128, 256, 512):
        command = [sys.executable, __file__, model, float_model, "--batch", str(batch), "--passes", "3"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"batch {batch:3}: peak {int(done.stdout.split()[-1]) / 1024:,.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("float")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--passes", type=int, default=0, help=argparse.SUPPRESS)  # what a process of --memory is asked
    options = parser.parse_args()
    if options.memory:
        memory(options.model, options.float)
        return
    signature = runtimes.probe("litert-xnnpack", options.model)
    h, w, c = signature.input.shape
    codes = codes_for(signature.input, Preprocess((h, w), c), options.model)
    pixels = np.random.default_rng(0).integers(0, 256, (options.batch, h, w, c), dtype=np.uint8)
    x, rows = pixels / np.float32(255), Rows(np.arange(options.batch), np.zeros(options.batch, np.int64))

    graph = read_tflite.read(options.model)
    if options.passes:
        twin = SteSource(graph, codes, "tflm", batch=options.batch)
        for _ in range(options.passes):
            value_and_grad(twin, CE(), x, rows)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    names = ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm")
    sources = {"float": keras.open(options.float, codes.real, options.batch)}
    sources |= {name: SteSource(graph, codes, name, batch=options.batch) for name in names}  # type: ignore[misc]
    tflm = runtimes.open("tflm", options.model, runtimes.probe("tflm", options.model), codes, threads=1)
    both: dict[str, list[float]] = {name: [] for name in sources}
    forward: dict[str, list[float]] = {name: [] for name in (*sources, "interpreter")}
    for turn in range(options.rounds + 1):  # the first one traces
        for name, source in sources.items():
            spent = seconds(lambda s=source: value_and_grad(s, CE(), x, rows)), seconds(lambda s=source: s.answer_float(x))  # type: ignore[misc]
            if turn:
                both[name].append(spent[0])
                forward[name].append(spent[1])
        spent_there = seconds(lambda: tflm.answer(pixels[:32])) * options.batch / 32
        if turn:
            forward["interpreter"].append(spent_there)
    tflm.close()
    rate = {name: options.batch / statistics.median(times) for name, times in forward.items()}
    for name in sources:
        ms, ratio = 1000 * statistics.median(both[name]), statistics.median(np.divide(both[name], both["float"]))
        print(f"{name:17} forward and backward {ms:5.0f} ms, {ratio:.2f} of float; forward {rate[name]:6.0f} images/s")
    faster = rate["tflm"] / rate["interpreter"]
    print(f"TFLM interpreter, one process: {rate['interpreter']:.0f} images/s; its twin: {faster:.1f} times as many")


if __name__ == "__main__":
    main()
