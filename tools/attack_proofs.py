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
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.engines import doubt
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.ops import Call
from edgeq.integer.ops.linear import fits
from edgeq.integer.portable import prove
from edgeq.integer.read_tflite import from_model
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.shapes import infer
from edgeq.integer.simulate import EXACT, simulate
from edgeq.integer.tflite_file import parse
from edgeq.integer.write_tflite import write_tflite

RESOLVERS = {"litert-xnnpack": "AUTO", "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "litert-reference": "BUILTIN_REF"}
LAYERS = ("conv", "depthwise", "dense")
PAIRS = ("add", "sub", "mul", "minimum", "maximum")
CURVES = ("relu", "relu6", "relu_n1_to_1", "leaky_relu", "hard_swish", "logistic", "tanh", "quantize", "dequantize")
MOVES = ("average_pool", "max_pool", "pad", "reshape", "transpose", "strided_slice", "concatenation", "resize_nearest", "resize_bilinear")
KINDS = (*LAYERS, "int4", *PAIRS, *CURVES, *MOVES, "mean", "softmax", "float_input", "layer_then", "twice", "tie")
LIMITS = (2.0**-16, 2.0**-10, 2.0**-8, 1.0, 2.0**7, 2.0**8, 2.0**19, 0.5, 2.0)
"""Ratios of scales at which some engine takes another way, or refuses."""


class Draw:
    """What one seed draws."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = "uint8" if self.rng.random() < 0.2 else "int8"
        self.lo = 0 if self.dtype == "uint8" else -128
        self.extreme = self.rng.random() < 0.5
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def flip(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, *values: Any) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def zero(self) -> int:
        return int(self.pick(self.lo, self.lo + 255, self.lo + 128, *self.rng.integers(self.lo, self.lo + 256, 3)))

    def scale(self) -> float:
        """Ordinary, a power of two, one that puts 6 or 1 between two codes, or anything."""
        kinds = ("ordinary", "power", "half", "extreme") if self.extreme else ("ordinary", "power", "half")
        kind = self.pick(*kinds)
        if kind == "ordinary":
            return float(2.0 ** self.rng.uniform(-8, 0))
        if kind == "power":
            return float(2.0 ** self.rng.integers(-8, 4))
        if kind == "half":
            return float(self.pick(1.0, 6.0) / (self.rng.integers(0, 200) + 0.5))
        return float(2.0 ** self.rng.uniform(-36, 36))

    def ratio(self, of: float) -> float:
        """A scale whose ratio to ``of`` is near a limit, on it, or anything."""
        kind = self.pick("any", "limit", "ordinary", "equal")
        if kind == "equal":
            return of
        if kind == "ordinary":
            return float(np.clip(of * 2.0 ** self.rng.uniform(-3, 3), 2.0**-39, 2.0**39))
        at = self.pick(*LIMITS) if kind == "limit" else 2.0 ** self.rng.uniform(-24, 24)
        out = np.float32(of / at)
        for _ in range(int(self.rng.integers(0, 2))):
            out = np.nextafter(out, np.float32(self.pick(0.0, 1e30)))
        return float(np.clip(out, 2.0**-39, 2.0**39))

    def tensor(
        self, shape: Sequence[int], scale: Any = None, zero: Any = 0, dtype: str | None = None, data: Any = None, axis: int = 0
    ) -> int:
        dtype = dtype or self.dtype
        scales = np.empty(0, np.float32) if scale is None else np.atleast_1d(np.array(scale, np.float32))
        if data is not None:
            data = np.array(data).astype("int8" if dtype == "int4" else dtype).reshape(shape)
        zeros = np.broadcast_to(np.array(zero, np.int64), scales.shape).copy()
        self.tensors.append(Tensor(f"t{len(self.tensors)}", tuple(shape), dtype, scales, zeros, axis, data))
        return len(self.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], scale: Any, zero: int = 0, as_type: str | None = None, **options: Any) -> int:
        shapes = [self.tensors[i].shape for i in inputs if i >= 0]
        constant = [self.tensors[i].data is not None for i in inputs if i >= 0]
        out = self.tensor(infer(kind, options, shapes, constant), scale, zero, as_type)
        self.ops.append(Op(kind, tuple(inputs), out, MappingProxyType(options)))
        return out

    def activation(self) -> str:
        return str(self.pick("none", "relu", "relu6", "relu_n1_to_1"))

    def done(self) -> Graph:
        return Graph(tuple(self.tensors), tuple(self.ops), 0, len(self.tensors) - 1, "drawn")


def draw(kind: str, seed: int) -> Graph:
    """The graph of ``seed``: deterministic. Its input is tensor 0, its output the last one."""
    d = Draw(seed)
    if kind == "float_input":
        x = d.tensor((6, 6, 3), dtype="float32")
        d.op("quantize", (x,), d.scale(), d.zero())
        return d.done()
    if kind in LAYERS or kind in ("int4", "layer_then"):
        layer = kind if kind in LAYERS else str(d.pick(*LAYERS))
        _layer(d, layer, "int4" if kind == "int4" and d.dtype == "int8" else d.dtype)
        if kind == "layer_then":
            last = len(d.tensors) - 1
            t = d.tensors[last]
            following = str(d.pick("relu6", "relu_n1_to_1", "quantize", "add", "mul", "tanh", "leaky_relu"))
            if following in ("add", "mul"):
                d.op(following, (last, last), d.ratio(float(t.scale[0])), d.zero(), activation=d.activation())
            elif following == "leaky_relu":
                d.op(following, (last,), t.scale, int(t.zero[0]), alpha=_alpha(d))
            else:
                d.op(following, (last,), d.ratio(float(t.scale[0])), d.zero())
        return d.done()
    scale, zero = d.scale(), d.zero()
    if kind in PAIRS:
        _pair(d, kind, scale, zero)
    elif kind == "twice":
        _twice(d, scale, zero)
    elif kind == "tie":
        _tie(d)
    elif kind in CURVES:
        shape = (16, 16, int(d.rng.integers(1, 4))) if d.flip() else (256 + int(d.rng.integers(0, 20)),)
        x = d.tensor(shape, scale, zero)
        _curve(d, kind, x, scale, zero)
    elif kind == "softmax":
        x = d.tensor((int(d.rng.integers(2, 12)),), scale, zero)
        d.op("softmax", (x,), 1 / 256, d.lo, beta=float(d.pick(1.0, 0.5, 2.0)))
    elif kind == "mean":
        x = d.tensor((4, 4, int(d.rng.integers(1, 20))), scale, zero)
        d.op("mean", (x,), d.ratio(scale), d.zero(), axes=(1, 2), keep=d.flip())
    else:
        _move(d, kind, scale, zero)
    return d.done()


def _alpha(d: Draw) -> float:
    return float(d.pick(d.rng.uniform(0.01, 0.9), -d.rng.uniform(0.01, 2), 0.0, 1.0, 2.0**-9, 1e-30, 200.0, d.rng.uniform(0.5, 4)))


def _layer(d: Draw, kind: str, dtype: str) -> None:
    rng = d.rng
    c, kernel = int(rng.integers(1, 12)), 1 if kind == "dense" else int(rng.integers(1, 4))
    shape = (c,) if kind == "dense" else (4, 4, c)
    x = d.tensor(shape, d.scale(), d.zero())
    given = d.tensors[x]
    out = c * int(rng.integers(1, 3)) if kind == "depthwise" else int(rng.integers(1, 18))
    sizes = {"conv": (out, kernel, kernel, c), "depthwise": (1, kernel, kernel, out), "dense": (out, c)}[kind]
    per_channel = d.dtype == "int8" and d.flip(0.7)
    axis = 3 if kind == "depthwise" and (per_channel or d.flip(0.2)) else 0  # stated beside one scale, it sends uint8 to another kernel
    scale_out = d.scale()
    fan = max(1, int(np.prod(sizes)) // out)
    usual = 2.0 / (74 * 73 * np.sqrt(fan)) * 50
    count = out if per_channel else 1
    exponent = rng.uniform(-6, 3, count) if not d.extreme or d.flip() else rng.uniform(-30, 20, count)
    multipliers = usual * 2.0**exponent
    if d.flip(0.4):
        multipliers = 2.0 ** np.round(np.log2(multipliers))
    if d.extreme and d.flip(0.1):
        multipliers[0] = d.pick(256.0, 255.9999, 300.0, 2.0**-33, 2.0**-31)
    scales = np.clip((multipliers * scale_out / float(given.scale[0])), 2.0**-39, 2.0**39).astype(np.float32)
    low, high = {"int4": (-8, 8), "int8": (-128 if d.flip(0.2) else -127, 128), "uint8": (0, 256)}[dtype]
    weights = rng.integers(low, high, sizes)
    if d.flip(0.3):
        weights = weights // 4 * 4
    zeros: Any = int(rng.integers(0, 256)) if dtype == "uint8" else 0
    if dtype == "int8" and d.extreme and d.flip(0.1):
        zeros = int(rng.integers(-5, 6))
    w = d.tensor(
        sizes,
        scales,
        zeros,
        dtype,
        weights,
        axis,
    )
    spread = float(np.abs(weights - (128 if dtype == "uint8" else 0)).mean() * 74 * np.sqrt(fan)) + 1
    bias = rng.integers(-1, 2, out) * rng.integers(0, max(2, int(spread)), out)
    if d.extreme and d.flip(0.1):
        bias[0] = d.pick(2**31 - 1, -(2**31), 2**30, 2**24 + 1)
    b = d.tensor((out,), (scales * given.scale[0]).astype(np.float32), 0, "int32", bias)
    options: dict[str, Any] = {"activation": d.activation()}
    if kind != "dense":
        options |= {"stride": (1, 1), "dilation": (1, 1), "padding": str(d.pick("same", "valid"))}
    if kind == "depthwise":
        options["multiplier"] = out // c
    d.op(kind, (x, w, b), scale_out, d.zero(), **options)


def _pair(d: Draw, kind: str, scale: float, zero: int) -> None:
    """All pairs of codes: one input along, the other one across."""
    across = d.flip(0.7)
    a = d.tensor((256, 1, 1) if across else (4, 4, 8), scale, zero)
    other = (scale, zero) if kind in ("minimum", "maximum") else (d.ratio(scale), d.zero())
    codes = np.arange(d.lo, d.lo + 256)
    if across:
        width = 256 + int(d.rng.integers(0, 20))
        b = d.tensor((1, 1, width, 1), *other, data=np.resize(codes, width))
    else:
        b = d.tensor((1, 4, 4, 8), *other, data=d.rng.integers(d.lo, d.lo + 256, (1, 4, 4, 8)))
    options: dict[str, Any] = {} if kind in ("minimum", "maximum") else {"activation": d.activation()}
    if kind in ("minimum", "maximum"):
        out: tuple[float, int] = (scale, zero)
    elif kind == "mul":
        out = (float(np.clip(d.ratio(scale * other[0]), 2.0**-39, 2.0**39)), d.zero())
    else:
        out = (d.ratio(max(scale, other[0])), d.zero())
    inputs = (a, b) if d.flip(0.8) else (b, a)
    d.op(kind, inputs, *out, **options)


def _twice(d: Draw, scale: float, zero: int) -> None:
    """A tensor with itself: all codes, and some more than whole vectors hold."""
    kind = str(d.pick("add", "sub", "mul", "mul", "minimum", "maximum"))
    x = d.tensor((256 + int(d.rng.integers(0, 20)),), scale, zero)
    if kind in ("minimum", "maximum"):
        d.op(kind, (x, x), scale, zero)
    else:
        ratio = d.ratio(scale * scale if kind == "mul" else scale)
        d.op(kind, (x, x), float(np.clip(ratio, 2.0**-39, 2.0**39)), d.zero(), activation=d.activation())


def _tie(d: Draw) -> None:
    """Scales whose ratio is next to an odd number of 2^-k: products on the middle of two codes, where float32 and float64 part."""
    kind = str(d.pick("dense", "mul", "mean", "relu", "leaky_relu", "hard_swish", "quantize"))
    step = float((2 * d.rng.integers(0, 40) + 1) / 2.0 ** d.rng.integers(2, 8))
    scale, zero = float(np.float32(d.rng.uniform(0.1, 2))), d.zero()
    if kind in ("dense", "mul"):
        other = float(np.float32(d.rng.uniform(0.1, 2)))
        x = d.tensor((64,), scale, zero)
        if kind == "mul":
            y = d.tensor((1, 64), other, d.zero(), data=d.rng.integers(d.lo, d.lo + 256, 64))
            d.op("mul", (x, y), scale * other / step, d.zero(), activation="none")
            return
        shift = d.lo + 128  # a uint8 weight of 0
        weights = d.tensor((16, 64), other, shift, data=np.eye(16, 64, k=int(d.rng.integers(0, 40))) + shift)
        bias = d.tensor((16,), np.float32(scale) * np.float32(other), dtype="int32", data=np.zeros(16))
        d.op("dense", (x, weights, bias), scale * other / step, d.zero(), activation="none")
    elif kind == "mean":
        d.op("mean", (d.tensor((4, 4, 16), scale, zero),), scale / step, d.zero(), axes=(1, 2), keep=False)
    else:
        options: dict[str, Any] = {"alpha": float(d.rng.integers(1, 400) / 2.0 ** d.rng.integers(3, 10))} if kind == "leaky_relu" else {}
        d.op(kind, (d.tensor((256,), scale, zero),), scale / step, d.zero(), **options)


def _curve(d: Draw, kind: str, x: int, scale: float, zero: int) -> None:
    if kind == "dequantize":
        d.op(kind, (x,), None, as_type="float32")
        return
    out = (scale, zero) if d.flip(0.3) else (d.ratio(scale), d.zero())
    if kind == "logistic" and d.flip(0.9):
        out = (1 / 256, d.lo)
    if kind == "tanh" and d.flip(0.9):
        out = (1 / 128, d.lo + 128)
    options: dict[str, Any] = {"alpha": _alpha(d)} if kind == "leaky_relu" else {}
    dtype = d.pick("int8", "uint8") if kind == "quantize" else None
    if dtype == "uint8" and d.dtype == "int8":
        out = (out[0], out[1] + 128)
    elif dtype == "int8" and d.dtype == "uint8":
        out = (out[0], out[1] - 128)
    d.op(kind, (x,), *out, as_type=dtype, **options)


def _move(d: Draw, kind: str, scale: float, zero: int) -> None:
    rng = d.rng
    x = d.tensor((6, 6, int(rng.integers(1, 20))), scale, zero)
    c = d.tensors[x].shape[2]
    options: dict[str, Any] = {}
    inputs: tuple[int, ...] = (x,)
    if kind.endswith("_pool"):
        window = tuple(int(v) for v in rng.integers(1, 5, 2))
        options = {"window": window, "stride": tuple(int(v) for v in rng.integers(1, 4, 2)), "padding": str(d.pick("same", "valid"))}
        options["activation"] = d.activation()
    elif kind == "pad":
        options = {"before": (1, 0, 0), "after": (0, 2, 0)}
    elif kind == "reshape":
        options = {"shape": (36 * c,)}
    elif kind == "transpose":
        options = {"order": tuple(int(v) for v in rng.permutation(3))}
    elif kind == "strided_slice":
        options = {"begin": (1, 0, 0), "end": (6, 5, c), "stride": (1, 2, 1)}
    elif kind == "concatenation":
        inputs = (x, d.tensor((1, 6, 6, c), scale, zero, data=rng.integers(d.lo, d.lo + 256, (1, 6, 6, c))))
        options = {"axis": int(rng.integers(0, 3)), "activation": "none"}
    else:
        choice = int(rng.integers(3))
        options = {"size": tuple(int(v) for v in rng.integers(2, 13, 2)), "align_corners": choice == 1, "half_pixel_centers": choice == 2}
    d.op(kind, inputs, scale, zero, **options)


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
