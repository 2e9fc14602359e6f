"""Whether all runtimes agree on one op's output, for every input that can reach it, given that they agree on its inputs.

What can reach an op is a set of codes for each tensor. Layers are compared with each other at the thresholds of their accumulators
(:mod:`edgeq.integer.thresholds`); functions of one or two codes by trying all codes in the simulator's kernels; layers between float32
tensors agree where all their numbers are multiples of one power of two, so that they are added up exactly in any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeq.integer.engines import doubt
from edgeq.integer.graph import Tensor
from edgeq.integer.ops import EXACT32, Call, clamp_range, limits, linear, padding, quantisation
from edgeq.integer.simulate import EXACT, KERNELS, ways
from edgeq.integer.thresholds import compare, lattice, rule, segments

BLOCK = 2**7  # channels at once, so that all their thresholds fit the caches
LAYERS = ("conv", "depthwise", "dense")


class Floats(NamedTuple):
    """float32 values: multiples of ``step``, a power of two, and at most ``bound`` in magnitude. ``step`` 0: nothing is known of them.

    ``stored``: the constant that they are, or of which they are the dequantised values.
    """

    step: float = 0.0
    bound: float = math.inf
    stored: Tensor | None = None


State = np.ndarray | Floats | None
"""What is known of a tensor that is the same on all runtimes: the codes that occur, sorted int64; None for types that are not followed."""


@dataclass(frozen=True)
class Difference:
    """An example: ``codes`` (runtime -> output code) where the ``accumulator`` of ``channel``, or the ``inputs``, have this value."""

    codes: Mapping[str, float]
    channel: int | None = None
    accumulator: int | None = None
    inputs: tuple[float, ...] = ()

    def __str__(self) -> str:
        one, *others = self.codes
        other = next(r for r in others if self.codes[r] != self.codes[one])
        where = f"its accumulator is {self.accumulator} in channel {self.channel}"
        if self.accumulator is None:
            where = f"its input is {' and '.join(f'{v:.9g}' for v in self.inputs)}"
        return f"gives {self.codes[one]:.9g} on {one} and {self.codes[other]:.9g} on {other} where {where}"


class Finding(NamedTuple):
    """``state`` of the output. ``reason``: why agreement is not proven, as a predicate; None where it is. ``share``: of channels proven."""

    state: State
    reason: str | None = None
    difference: Difference | None = None
    share: float = 1.0


Calls = Sequence[Call]  # one op, on each runtime
States = Sequence[State]  # of its inputs


def anything(t: Tensor) -> State:
    """All that a tensor can hold."""
    if t.dtype == "float32":
        return Floats(stored=t if t.data is not None else None)
    if t.dtype not in ("int8", "uint8") or not t.quantised:
        return None
    lo, hi = limits(t.dtype)
    return np.arange(lo, hi + 1) if t.data is None else np.unique(t.data).astype(np.int64)


def unproven(out: Tensor, reason: str, difference: Difference | None = None) -> Finding:
    return Finding(anything(out), reason, difference, 0.0)


def agree(calls: Calls, given: States) -> Finding:
    """The one way in. ``calls``: the op on each runtime; ``given``: what is known of its inputs, None for one that is absent."""
    op, x, out = calls[0].op, given[0], calls[0].output
    if op.kind == "dequantize" and calls[0].given.data is not None:
        return _stored(calls)
    if (reason := next((why for c in calls if (why := doubt(c))), None)) is not None:
        return unproven(out, reason)
    provers = _FLOATS if isinstance(x, Floats) else _INTEGERS
    follows = x is not None and (op.kind in LAYERS or all(type(s) is type(x) for s in given))
    changes = {"quantize": np.ndarray, "dequantize": Floats}.get(op.kind, type(x))
    if not follows or type(anything(out)) is not changes:
        return unproven(out, f"computes with {' and '.join(sorted({calls[0].given.dtype, out.dtype}))}, which is not followed")
    inexact = [c.runtime for c in calls if (op.kind, c.runtime) in EXACT and provers is _INTEGERS]
    if op.kind not in provers or inexact:
        return unproven(out, _WHY.get(op.kind, "is computed in a way of each runtime's own"))
    return provers[op.kind](calls, given)


# Between 8-bit codes


def _layer(calls: Calls, given: States) -> Finding:
    """CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED: the accumulators of each channel, compared at every threshold."""
    op, out, (x, w, b) = calls[0].op, calls[0].output, (*calls[0].inputs, None)[:3]
    assert isinstance(given[0], np.ndarray)
    assert x is not None
    assert w is not None
    if w.data is None or (b is not None and b.data is None):
        return unproven(out, "has weights or a bias that are computed")
    zero, channels = quantisation(out)[1], out.shape[-1]
    values = given[0] - quantisation(x)[1]
    if op.kind != "dense":
        o = op.options
        if np.any(padding(x.shape[:2], (w.shape[1], w.shape[2]), o["stride"], o["dilation"], o["padding"] == "same")):
            values = np.append(values, 0)
    rows = w.data.reshape(-1, channels).T if op.kind == "depthwise" else w.data.reshape(channels, -1)
    bias = np.zeros(channels, np.int64) if b is None or b.data is None else b.data.astype(np.int64).reshape(-1)
    requantisers, clamps = [linear.requantisation(c) for c in calls], [clamp_range(c) for c in calls]
    codes, proven, reason, difference = [np.empty(0, np.int64)], 0, "", None
    for where in segments(requantisers, channels, max(1, min(BLOCK, 2**22 // rows.shape[1]))):
        zeros = w.zero[where, None] if len(w.zero) > 1 else w.zero
        points = lattice(rows[where].astype(np.int16) - zeros.astype(np.int16), bias[where], values)
        rules = [rule(r, where, (lo - zero, hi - zero)) for r, (lo, hi) in zip(requantisers, clamps, strict=True)]
        extent = np.maximum(-points.lowest, points.highest)
        fits = np.all([extent <= r.room() for r in rules], axis=0)
        if not fits.all():
            wide = int(np.argmin(fits))
            reason = reason or f"can reach an accumulator of {extent[wide]} in channel {where.start + wide}, too large for 32 bits"
        if not fits.any():
            continue
        rules, at = [r.of(fits) for r in rules], where.start + np.flatnonzero(fits)
        outcome = compare(rules, points.of(fits))
        codes.append(outcome.codes + zero)
        proven += int(outcome.same.sum())
        if outcome.example is not None and difference is None:
            channel, acc = outcome.example
            answers = {c.runtime: int(r(np.full(len(at), acc))[channel]) + zero for c, r in zip(calls, rules, strict=True)}
            difference = Difference(answers, int(at[channel]), acc)
    if proven == channels:
        return Finding(np.unique(np.concatenate(codes)))
    lo, hi = min(c[0] for c in clamps), max(c[1] for c in clamps)
    return Finding(np.arange(lo, hi + 1), str(difference or reason), difference, proven / channels)


def _table(calls: Calls, given: States) -> Finding:
    """A function of one code: every code, alone and in a long row, as some kernels compute whole blocks in another way than the rest."""
    assert isinstance(given[0], np.ndarray)
    x = given[0].astype(calls[0].given.dtype)
    steps = {c.runtime: KERNELS[c.op.kind](c) for c in calls}
    alone = {r: step(x[:, None]).reshape(-1) for r, step in steps.items()}
    in_row = {r: step(np.repeat(x, 64)[None]).reshape(-1)[::64] for r, step in steps.items()}
    outcome = _compared(calls[0].output, (alone, in_row), (x,))
    scale, zero = quantisation(calls[0].given)
    if isinstance(outcome.state, Floats) and np.frexp(scale)[0] == 0.5:
        return outcome._replace(state=Floats(float(scale), float(scale) * int(np.abs(given[0] - zero).max())))
    return outcome


def _pairs(calls: Calls, given: States) -> Finding:
    """A function of two codes: every pair, of one tensor with itself every code."""
    if calls[0].op.kind in ("minimum", "maximum") and not _one_scale(calls[0]):
        return unproven(calls[0].output, "compares codes of different scales")
    a, b = (s.astype(t.dtype) for s, t in zip(given, calls[0].inputs, strict=True) if isinstance(s, np.ndarray) and t is not None)
    left, right = (a, a) if calls[0].twice else (np.repeat(a, len(b)), np.tile(b, len(a)))
    kernels = {c.runtime: ways(c) for c in calls}
    answers = [
        {runtime: some[min(i, len(some) - 1)](left, right) for runtime, some in kernels.items()}
        for i in range(max(map(len, kernels.values())))
    ]
    return _compared(calls[0].output, answers, (left, right))


def _compared(out: Tensor, ways: Sequence[Mapping[str, np.ndarray]], inputs: Sequence[np.ndarray]) -> Finding:
    """``ways``: of running the kernels, each with every runtime's answers to ``inputs``; ``(n,)`` all."""
    for answers in ways:
        stacked = np.stack(list(answers.values()))
        wrong = np.flatnonzero((stacked != stacked[0]).any(axis=0))
        if len(wrong):
            i = wrong[len(wrong) // 2]
            difference = Difference({r: a[i].item() for r, a in answers.items()}, inputs=tuple(x[i].item() for x in inputs))
            return unproven(out, str(difference), difference)
    return Finding(Floats() if out.dtype == "float32" else np.unique(stacked).astype(np.int64))


def _move(calls: Calls, given: States) -> Finding:
    """What moves codes, chooses among them or takes their mean: one computation for all runtimes but for where they clamp."""
    op, out = calls[0].op, calls[0].output
    if not _one_scale(calls[0]):
        return unproven(out, "joins codes of different scales")
    clamps = {clamp_range(c) for c in calls}
    if len(clamps) > 1:
        return unproven(out, "clamps at other codes on one runtime than on another")
    codes = np.concatenate([s for s in given if isinstance(s, np.ndarray)])
    if op.kind == "pad":
        codes = np.append(codes, quantisation(out)[1])
    if op.kind == "average_pool":
        codes = np.arange(codes.min(), codes.max() + 1)
    return Finding(np.unique(np.clip(codes, *clamps.pop())))


def _one_scale(call: Call) -> bool:
    return all(quantisation(t) == quantisation(call.output) for t in call.inputs if t is not None)


# From and between float32 tensors


def _quantize(calls: Calls, given: States) -> Finding:
    """Never proven: XNNPACK rounds halves to even. The example is a value between two codes, in an image's first element."""
    out = calls[0].output
    (scale, zero), (lo, hi) = quantisation(out), limits(out.dtype)
    halves = (np.arange(lo, hi) + 0.5 - zero).astype(np.float32) * scale
    images = np.repeat(halves[:, None], min(64, math.prod(out.shape)), axis=1)
    outcome = _compared(out, ({c.runtime: KERNELS["quantize"](c)(images)[:, 0] for c in calls},), (halves,))
    return unproven(out, outcome.reason or "rounds floats; give the network an integer input", outcome.difference)


def _stored(calls: Calls) -> Finding:
    """DEQUANTIZE of a constant."""
    if len(calls[0].given.scale) > 1 and any(c.runtime == "tflm" for c in calls):
        return unproven(calls[0].output, "dequantises each channel with a scale of its own, where tflm takes the first one for all")
    return Finding(Floats(stored=calls[0].given))


def _same(calls: Calls, given: States) -> Finding:
    """One correctly rounded operation an element (IEEE 754): equal inputs give equal outputs."""
    return Finding(Floats())


def _float_move(calls: Calls, given: States) -> Finding:
    kept = len(given) == 1 and calls[0].op.options.get("activation", "none") in ("none", "relu")
    return Finding(given[0] if kept else Floats())


def _float_layer(calls: Calls, given: States) -> Finding:
    """Exact where every product and every sum of products is a multiple of one power of two, below 2^24 times it."""
    op, (x, w, b) = calls[0].op, (*given, None)[:3]
    assert isinstance(x, Floats)
    weights, bias = _values(w), np.zeros(1) if b is None else _values(b)
    if weights is None or bias is None or not x.step:
        return unproven(calls[0].output, _INEXACT)
    outer = weights.ndim - 1 if op.kind == "depthwise" else 0
    sums = np.abs(weights).sum(axis=tuple(i for i in range(weights.ndim) if i != outer), dtype=np.float64)
    return _exact_sum(calls[0], min(x.step * _step(weights), _step(bias)), float((sums * x.bound + np.abs(bias).reshape(-1)).max()))


def _float_mean(calls: Calls, given: States) -> Finding:
    """MEAN and AVERAGE_POOL over windows that are powers of two."""
    o, x, shape = calls[0].op.options, given[0], calls[0].given.shape
    assert isinstance(x, Floats)
    if "window" in o and np.any(padding(shape[:2], o["window"], o["stride"], (1, 1), o["padding"] == "same")):
        return unproven(calls[0].output, "takes the mean of windows of floats that reach beyond the image")
    count = math.prod(o["window"]) if "window" in o else math.prod(shape[a - 1] for a in o["axes"])
    if count & (count - 1):
        return unproven(calls[0].output, f"divides a sum of floats by {count}, which is no power of two")
    outcome = _exact_sum(calls[0], x.step, x.bound * count)
    known = isinstance(outcome.state, Floats) and outcome.state.step
    return outcome._replace(state=Floats(x.step / count, x.bound)) if known else outcome


_INEXACT = "adds up floats, in an order of each runtime's own"


def _exact_sum(call: Call, step: float, bound: float) -> Finding:
    if not np.finfo(np.float32).tiny <= step or not bound < EXACT32 * step:
        return unproven(call.output, _INEXACT)
    return Finding(Floats(step, bound) if call.op.options.get("activation", "none") in ("none", "relu") else Floats())


def _values(state: State) -> np.ndarray | None:
    """Of a constant."""
    if not isinstance(state, Floats) or state.stored is None or state.stored.data is None:
        return None
    t = state.stored
    if t.dtype == "float32" or t.data is None:
        return t.data
    shape = [-1 if len(t.scale) > 1 and i == t.axis else 1 for i in range(t.data.ndim)]
    return (t.data.astype(np.int32) - t.zero.astype(np.int32).reshape(shape)).astype(np.float32) * t.scale.reshape(shape)


def _step(values: np.ndarray) -> float:
    """The largest power of two that divides all of the float32 ``values``; infinite where all are 0, and 0 where one is not finite."""
    fraction, exponent = np.frexp(values[values != 0].astype(np.float64))
    if not np.isfinite(fraction).all():
        return 0.0
    whole = np.abs(fraction * 2.0**24).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 24).min(initial=np.inf))


_MOVES = ("reshape", "transpose", "strided_slice", "pad", "resize_nearest", "max_pool", "concatenation")
_CLAMPS = ("relu", "relu6", "relu_n1_to_1", "leaky_relu")
_PAIRS = ("add", "sub", "mul", "minimum", "maximum")
_Prover = Callable[[Calls, States], Finding]
_INTEGERS: dict[str, _Prover] = {
    **dict.fromkeys(LAYERS, _layer),
    **dict.fromkeys((*_CLAMPS, "logistic", "tanh", "hard_swish", "quantize", "dequantize"), _table),
    **dict.fromkeys(_PAIRS, _pairs),
    **dict.fromkeys((*_MOVES, "average_pool"), _move),
}
_FLOATS: dict[str, _Prover] = {
    **dict.fromkeys(LAYERS, _float_layer),
    **dict.fromkeys((*_CLAMPS, *_PAIRS), _same),
    **dict.fromkeys(_MOVES, _float_move),
    **dict.fromkeys(("mean", "average_pool"), _float_mean),
    "quantize": _quantize,
}
_WHY = {
    "softmax": "is computed in fixed point on some runtimes and in floats on others",
    "mean": "divides a sum of codes in a way of each runtime's own; an average pool would not",
    "resize_bilinear": "interpolates in a way of each runtime's own",
}
