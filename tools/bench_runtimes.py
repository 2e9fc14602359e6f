"""Runtimes against a bare loop, side by side in one run: ``python tools/bench_runtimes.py FILE.tflite``.

* ``litert-*``: images/s of ``Target.answer`` over those of a bare set/invoke/get loop, at the loop's best batch and threads.
* ``tflm``: two worker processes over one.

Every figure is the best of several interleaved rounds, so that a neighbour on the machine slows both sides alike.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq import runtimes
from edgeq.core import cpu, plugins
from edgeq.pipeline import codes as pixel_codes
from edgeq.pipeline import metadata, preprocess
from edgeq.runtimes._litert import LiteRT, quiet

BATCHES = (1, 4, 8, 16, 32, 64, 128, 256)


def rate(work: Callable[[], int]) -> float:
    """Images/s of one call."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def interleaved(contestants: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """The best rate of each contestant over some rounds in which each runs once."""
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(rounds):
        for name, work in contestants.items():
            best[name] = max(best[name], rate(work))
    return best


class Bare:
    """The loop that everybody writes: one interpreter and its threads, or one single-threaded interpreter in each of several threads."""

    def __init__(self, content: bytes, name: str, batch: int, threads: int, workers: int, seconds: float) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        runtime = plugins.load(plugins.RUNTIMES, name)
        assert isinstance(runtime, LiteRT)
        self.batch, self.interpreters = batch, []
        for _ in range(workers):
            interpreter = Interpreter(
                model_content=content, num_threads=threads, experimental_op_resolver_type=OpResolverType[runtime.resolver]
            )
            given = interpreter.get_input_details()[0]
            shape = [batch, *given["shape"][1:]]
            if batch > 1:
                interpreter.resize_tensor_input(given["index"], shape)
            interpreter.allocate_tensors()
            x = np.random.default_rng(0).integers(0, 127, shape).astype(given["dtype"])
            self.interpreters.append((interpreter, given["index"], interpreter.get_output_details()[0]["index"], x))
        self.times = 1
        self._loop(self.interpreters[0])  # also shows whether this batch runs at all
        start = time.perf_counter()
        self._loop(self.interpreters[0])
        self.times = max(1, int(seconds / (time.perf_counter() - start)))

    def _loop(self, lane: tuple[Any, int, int, np.ndarray]) -> None:
        interpreter, given, answer, x = lane
        for _ in range(self.times):
            interpreter.set_tensor(given, x)
            interpreter.invoke()
            interpreter.get_tensor(answer)

    def __call__(self) -> int:
        others = [threading.Thread(target=self._loop, args=(lane,)) for lane in self.interpreters[1:]]
        for thread in others:
            thread.start()
        self._loop(self.interpreters[0])
        for thread in others:
            thread.join()
        return self.times * self.batch * len(self.interpreters)


def target_of(name: str, path: str, text: str | None, threads: int | None = None) -> Any:
    """The file in a runtime, as ``edgeq attack`` opens it."""
    signature = runtimes.probe(name, path)
    h, w, c = signature.input.shape
    spec, _, where = metadata.stated(path)
    chosen, _ = preprocess.resolve((h, w), c, (h, w, c), text, spec, where)
    codes = pixel_codes.codes_for(signature.input, chosen, path)
    return runtimes.open(name, path, signature, codes, threads=threads)


def asker(target: Any, seconds: float, count: int | None = None) -> Callable[[], int]:
    """Asks the target whole batches (or ``count``) of random images for about so long."""
    images = np.random.default_rng(0).integers(0, 256, (count or target.batch, *target.signature.input.shape), np.uint8)
    target.answer(images)
    start = time.perf_counter()
    target.answer(images)
    times = max(1, int(seconds / (time.perf_counter() - start)))

    def ask() -> int:
        for _ in range(times):
            target.answer(images)
        return times * len(images)

    return ask


def bench_litert(name: str, path: str, text: str | None, seconds: float, rounds: int) -> None:
    with open(path, "rb") as file:
        content = file.read()
    cores = cpu.count()
    loops: dict[str, Callable[[], int]] = {}
    for batch in BATCHES if name != "litert-reference" else (1, 4):
        for threads, workers in {(1, 1), (cores, 1), (1, cores)}:
            with quiet():
                try:
                    loops[f"batch {batch}, {workers} x {threads} threads"] = Bare(content, name, batch, threads, workers, seconds)
                except (RuntimeError, ValueError):  # this file keeps its batch
                    continue
    rates = interleaved(loops, 2)
    best = max(rates, key=lambda k: rates[k])
    single = max((k for k in rates if ", 1 x" in k), key=lambda k: rates[k])
    target = target_of(name, path, text)
    final = interleaved({"bare": loops[best], "single": loops[single], "edgeq": asker(target, seconds)}, rounds)
    target.close()
    print(f"{name:17} {final['edgeq']:9,.0f}/s  bare loop {final['bare']:9,.0f}/s ({best})  ratio {final['edgeq'] / final['bare']:.3f}")
    print(f"{'':17} one interpreter {final['single']:9,.0f}/s ({single})  ratio {final['edgeq'] / final['single']:.3f}")


def bench_tflm(path: str, text: str | None, seconds: float, rounds: int) -> None:
    targets = {f"{n}": target_of("tflm", path, text, threads=n) for n in (1, 2)}
    final = interleaved({n: asker(t, seconds, 64) for n, t in targets.items()}, rounds)
    for target in targets.values():
        target.close()
    print(f"{'tflm':17} {final['2']:9,.0f}/s on 2 processes, {final['1']:,.0f}/s on 1  ratio {final['2'] / final['1']:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--runtime", default="litert-xnnpack,litert-builtin,litert-reference,tflm")
    parser.add_argument("--preprocess", default=None)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(f"{options.file}: {cpu.count()} cores, {cpu.describe()}, load {os.getloadavg()[0]:.1f}")
    for name in options.runtime.split(","):
        if name == "tflm":
            bench_tflm(options.file, options.preprocess, options.seconds, options.rounds)
        else:
            bench_litert(name, options.file, options.preprocess, options.seconds, options.rounds)


if __name__ == "__main__":
    main()
