"""Attacks the proofs: random and adversarial graphs of every op, on the real interpreters.

    python tools/attack_proofs.py --n 20000                      # every kind of op, all TFLite runtimes
    python tools/attack_proofs.py --n 5000 --kinds add,mul --seed 1000000

A graph of one op (or of two: a layer and what follows it) is drawn from its seed: ordinary and extreme scales, scales on both sides of
every limit that an engine has, zero points at both ends, bounds that fall between two codes, every activation. Three things are checked:

1. what is *proven* is one function in the interpreters, on all codes of a function of one or two codes and on random inputs of a layer;
2. an interpreter for which something is proven takes the file at all;
3. where a formula is within its range of validity (:func:`edgeq.integer.engines.doubt`), the simulator is that interpreter, bit by bit.

Everything runs in child processes, as some of these graphs end the interpreter's. Prints one row a kind and the seeds of every fault.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
from draw_graphs import KINDS, LAYERS, draw

from edgeq.core.errors import EdgeqError
from edgeq.integer.engines import doubt
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.ops import Call
from edgeq.integer.ops.linear import fits
from edgeq.integer.portable import prove
from edgeq.integer.read_tflite import from_model
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import EXACT, simulate
from edgeq.integer.tflite_file import parse
from edgeq.integer.write_tflite import write_tflite

RESOLVERS = {"litert-xnnpack": "AUTO", "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "litert-reference": "BUILTIN_REF"}


def inputs(graph: Graph, n: int, seed: int) -> np.ndarray:
    """``(n, *shape)``: all codes in order, then noise and flat images; of floats, values between two codes among others."""
    given = graph.tensors[graph.input]
    rng = np.random.default_rng(seed)
    if given.dtype == "float32":
        scale, zero = float(graph.tensors[graph.output].scale[0]), int(graph.tensors[graph.output].zero[0])
        halves = (rng.integers(-300, 300, (n, *given.shape)) * 0.5 - zero) * scale
        return np.where(rng.random((n, *given.shape)) < 0.5, halves, rng.normal(0, 100 * scale, (n, *given.shape))).astype(np.float32)
    info = np.iinfo(given.dtype)
    codes = rng.integers(info.min, info.max + 1, (n, *given.shape)).astype(given.dtype)
    codes[0] = np.resize(np.arange(info.min, info.max + 1), given.shape)
    if n > 2:
        codes[1], codes[2] = info.min, info.max
    return codes


def interpret(runtime: str, content: bytes, codes: np.ndarray) -> np.ndarray:
    """``(n, *output shape)``, one image at a time. Raises what the interpreter raises where it refuses the file."""
    if runtime == "tflm":
        from tflite_micro.python.tflite_micro import runtime as micro_runtime

        micro = micro_runtime.Interpreter.from_bytes(content, arena_size=2**22)
        rows = []
        for image in codes:
            micro.set_input(image[None], 0)
            micro.invoke()
            rows.append(micro.get_output(0)[0].copy())
        return np.stack(rows)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    lite = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=OpResolverType[RESOLVERS[runtime]])
    lite.allocate_tensors()
    given, answer = lite.get_input_details()[0]["index"], lite.get_output_details()[0]["index"]
    rows = []
    for image in codes:
        lite.set_tensor(given, image[None])
        lite.invoke()
        rows.append(lite.get_tensor(answer)[0].copy())
    return np.stack(rows)


class Result(NamedTuple):
    """``fault``: what is wrong, or None. ``claims``: pairs of runtimes that are proven to agree. ``checked``: interpreters that were
    simulated within the range of validity."""

    fault: str | None
    claims: int
    checked: int
    proven: bool


def check(kind: str, seed: int, answers: Callable[[str, bytes, np.ndarray], np.ndarray | str], n: int = 6) -> Result:
    """One graph. ``answers``: :func:`interpret`, or the words of an interpreter that refused."""
    content = write_tflite(draw(kind, seed))
    try:
        graph = from_model(parse(content, "drawn.tflite"))
    except EdgeqError:  # scales that are not read
        return Result(None, 0, 0, False)
    codes = inputs(graph, n, seed)
    theirs = {r: answers(r, content, codes) for r in RUNTIMES}
    valid = {r: all(_valid(Call(op, _tensors(graph, op), graph.tensors[op.output], r)) for op in graph.ops) for r in RUNTIMES}
    checked = 0
    for r in RUNTIMES:
        theirs_r = theirs[r]
        if not valid[r] or isinstance(theirs_r, str):
            continue
        checked += 1
        off = _differ(np.asarray(simulate(graph, codes, r)), theirs_r, max(EXACT.get((op.kind, r), 0) for op in graph.ops))
        if off:
            return Result(f"simulated {r} is off in {off}", 0, checked, False)
    claims = 0
    for some in (
        (*RUNTIMES,),
        RUNTIMES[:3],
        (RUNTIMES[0], RUNTIMES[1]),
        (RUNTIMES[1], RUNTIMES[2]),
        (RUNTIMES[2], RUNTIMES[3]),
        (RUNTIMES[0], RUNTIMES[3]),
    ):
        proof = prove(graph, some)
        if not proof.holds:
            continue
        claims += 1
        first = theirs[some[0]]
        for r in some:
            other = theirs[r]
            if isinstance(other, str):
                if _lacks(other):
                    continue
                return Result(f"proven for {r}, which refuses it: {other[:120]}", claims, checked, True)
            if not isinstance(first, str) and (off := _differ(first, other, 0)):
                return Result(f"proven, and {some[0]} and {r} differ in {off}", claims, checked, True)
    return Result(None, claims, checked, claims > 0)


def _tensors(graph: Graph, op: Op) -> tuple[Tensor | None, ...]:
    return tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs)


def _valid(call: Call) -> bool:
    return doubt(call) is None and (call.op.kind not in LAYERS or not call.output.quantised or fits(call))


def _lacks(words: str) -> bool:
    """Whether an interpreter refuses for want of a kernel, whatever the numbers: then no proof can be wrong about it."""
    return any(w in words for w in ("not supported", "Didn't find op", "Failed to get registration", "TFLM refused"))


def _differ(a: np.ndarray, b: np.ndarray, most: int) -> str:
    if a.shape != b.shape:
        return f"shape: {a.shape}, {b.shape}"
    if a.dtype.kind == "f":
        wrong = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    else:
        wrong = np.abs(a.astype(int) - b.astype(int)) > most
    return f"{int(wrong.sum())} of {wrong.size}, {a[wrong][0]} for {b[wrong][0]}" if wrong.any() else ""


def attend(kind: str, seeds: Sequence[int], fatal: frozenset[tuple[int, str]], pipe: Connection) -> None:
    """In the child: says what it begins, then what it found."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)
    os.dup2(quiet, 1)
    for seed in seeds:

        def answers(runtime: str, content: bytes, codes: np.ndarray, seed: int = seed) -> np.ndarray | str:
            if (seed, runtime) in fatal:
                return "the process ended"
            pipe.send((seed, runtime))
            try:
                return interpret(runtime, content, codes)
            except (RuntimeError, ValueError) as error:
                return str(error) if runtime != "tflm" else "TFLM refused"

        pipe.send((seed, None))
        try:
            result = check(kind, seed, answers)
        except Exception as error:
            result = Result(f"{type(error).__name__}: {error}", 0, 0, False)
        pipe.send((seed, result))


def tried(kind: str, seeds: Sequence[int]) -> Iterator[tuple[int, Result]]:
    """Every seed's result; a child that dies is replaced, and the interpreter it died in counts as one that refuses."""
    left, fatal = list(seeds), frozenset[tuple[int, str]]()
    context = multiprocessing.get_context("fork")
    while left:
        mine, theirs = context.Pipe(duplex=False)
        child = context.Process(target=attend, args=(kind, left, fatal, theirs), daemon=True)
        child.start()
        theirs.close()
        at: tuple[int, Any] = (left[0], None)
        try:
            with contextlib.suppress(EOFError):
                while left and mine.poll(30):
                    at = mine.recv()
                    if isinstance(at[1], Result):
                        left = left[left.index(at[0]) + 1 :]
                        yield at
        finally:
            child.kill()
            child.join()
        if left:
            if at[1] is None or isinstance(at[1], Result):
                yield left.pop(0), Result("the simulator or the proof ended the process, or took half a minute", 0, 0, False)
            else:
                fatal |= {at}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000, help="graphs of each kind")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--seed", type=int, default=0, help="of the first graph")
    a = parser.parse_args()
    print("| kind | graphs | interpreters checked against the simulator | claims proven | graphs with a claim | faults |\n|" + " --- |" * 6)
    for kind in a.kinds.split(","):
        checked, claims, proven, faults = 0, 0, 0, collections.Counter[str]()
        examples: dict[str, int] = {}
        for seed, result in tried(kind, range(a.seed, a.seed + a.n)):
            checked, claims, proven = checked + result.checked, claims + result.claims, proven + result.proven
            if result.fault:
                words = result.fault.split(" in ")[0]
                faults[words] += 1
                examples.setdefault(words, seed)
        said = "; ".join(f"{n} x {words} (seed {examples[words]})" for words, n in faults.most_common())
        print(f"| {kind} | {a.n} | {checked} | {claims} | {proven} | {said or 0} |", flush=True)


if __name__ == "__main__":
    main()
