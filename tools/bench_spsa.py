"""SPSA on LiteRT's XNNPACK kernels against a bare set/invoke/get loop on the same file, in turns within one process.

    python tools/bench_spsa.py MODEL.tflite [--rounds 25] [--images 64] [--steps 20]

The bare loop is tried at several batch sizes with all threads; its best is the denominator, timed before and after each attack. Prints
queries per second of both and the ratio, round by round, and the median with its 95 % confidence interval. The epsilon is one pixel and
the labels are the model's own, so that few rows stop early.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ratios import summary

from edgeq import runtimes
from edgeq.attacks.spsa import SPSA
from edgeq.core import scheduler
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import default


def bare_loop(path: str, batch: int, threads: int) -> Callable[[float], float]:
    """A function that runs the loop for some seconds and returns inferences per second."""
    interpreter = Interpreter(model_path=path, num_threads=threads)
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], [batch, *entry["shape"][1:]])
    interpreter.allocate_tensors()
    out = interpreter.get_output_details()[0]["index"]
    images = np.random.default_rng(0).integers(0, 256, (batch, *entry["shape"][1:]), dtype=np.uint8).view(entry["dtype"])

    def run(seconds: float) -> float:
        done, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            interpreter.set_tensor(entry["index"], images)
            interpreter.invoke()
            interpreter.get_tensor(out)
            done += batch
        return done / spent

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))

    loops = {batch: bare_loop(options.model, batch, threads) for batch in (32, 64, 128, 256, 512)}
    speeds = {batch: loop(1.0) for batch, loop in loops.items()}
    best = max(speeds, key=lambda b: speeds[b])
    print("bare loop, queries/s by batch:", {b: round(s) for b, s in speeds.items()}, f"-> batch {best}, {threads} threads")

    signature = runtimes.probe("litert-xnnpack", options.model)
    h, w, c = signature.input.shape
    attack = SPSA(steps=options.steps)
    codes = codes_for(signature.input, default((h, w), c, (h, w, c))[0], options.model)
    target = runtimes.open("litert-xnnpack", options.model, signature, codes)
    clean = np.random.default_rng(1).integers(0, 256, (options.images, h, w, c), dtype=np.uint8)
    rows = Rows(np.arange(options.images), target.answer(clean).label())
    ratios = []
    before = loops[best](2.0)
    for turn in range(options.rounds):
        start = time.perf_counter()
        queries = sum(int(f.queries.sum()) for f in scheduler.run(attack, target, rows, lambda i: clean[i], Threat("linf", 1 / 255), turn))
        ours = queries / (time.perf_counter() - start)
        after = loops[best](2.0)
        bare, before = (before + after) / 2, after
        ratios.append(ours / bare)
        print(f"round {turn + 1}: bare {bare:,.0f}/s, SPSA {ours:,.0f}/s over {queries:,} queries, ratio {ratios[-1]:.3f}")
    print(summary(ratios))


if __name__ == "__main__":
    main()
