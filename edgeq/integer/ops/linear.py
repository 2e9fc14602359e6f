"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED: an integer-exact accumulator in floating point, then the runtime's requantisation.

A product of codes and weights is added up by BLAS in float32 where every partial sum stays below 2^24 in magnitude, which the weights
decide, and else in float64 (2^53): both are exact in any order of addition.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import EXACT32, Call, Step, clamp_range, limits, padding, quantisation, to_codes
from edgeq.integer.rounding import Requantiser, requantiser

MAX_COLUMNS = 2**22  # numbers in one block of unrolled windows
MAX_TABLE = 2**25  # bytes


def _tensors(call: Call) -> tuple[Tensor, Tensor, np.ndarray | None]:
    x, w, b = (*call.inputs, None)[:3]
    assert x is not None
    assert w is not None
    return x, w, None if b is None else b.data


def _weights(call: Call, per_channel: int) -> tuple[np.ndarray, np.ndarray, type]:
    """Weights less their zero point and bias, in the floating type that adds them up exactly. ``per_channel``: the axis of outputs."""
    x, w, bias = _tensors(call)
    assert w.data is not None
    shape = [1] * w.data.ndim
    shape[per_channel] = -1
    centred = w.data.astype(np.int64) - w.zero.reshape(shape if len(w.zero) > 1 else 1)
    out = centred.shape[per_channel]
    bias = np.zeros(out, np.int64) if bias is None else bias.astype(np.int64).reshape(out)
    lo, hi = limits(x.dtype)
    zero = quantisation(x)[1]
    others = tuple(i for i in range(centred.ndim) if i != per_channel)
    bound = np.abs(centred).sum(others) * max(zero - lo, hi - zero) + np.abs(bias)
    kind = np.float32 if bound.max(initial=0) < EXACT32 else np.float64
    return centred.astype(kind), bias.astype(kind), kind


def fits(call: Call) -> bool:
    """Whether no input takes an accumulator beyond what the runtime's 32 bits hold, shifted to the left where its formula does so."""
    weights, bias, _ = _weights(call, 3 if call.op.kind == "depthwise" else 0)
    others = tuple(i for i in range(weights.ndim) if i != (3 if call.op.kind == "depthwise" else 0))
    (lo, hi), zero = limits(call.given.dtype), quantisation(call.given)[1]
    reach = np.abs(weights.astype(np.float64)).sum(others) * max(zero - lo, hi - zero) + np.abs(bias.astype(np.float64))
    return bool(np.all(reach <= requantisation(call).room()))


def requantisation(call: Call) -> Requantiser:
    """How the runtime's kernel rescales this layer's accumulators."""
    x, w, _ = _tensors(call)
    return requantiser(call.kernels, call.op.kind, x.scale, w.scale, call.output.scale, call.output.shape[-1], x.dtype)


def _finish(call: Call) -> Step:
    if "thresholds" in call.op.options:
        return _levels(call.op.options["thresholds"], int(call.output.zero[0]) + call.op.options["low"])
    requantise = requantisation(call)
    zero, (lo, hi) = quantisation(call.output)[1], clamp_range(call)

    def finish(acc: np.ndarray) -> np.ndarray:
        if acc.dtype == np.float64:  # an int32 accumulator wraps around
            acc = acc.astype(np.int64).astype(np.int32)
        return to_codes(requantise(acc), zero, lo, hi, call.output.dtype)

    return finish


def _levels(thresholds: np.ndarray, least: int) -> Step:
    """``least`` plus the number of thresholds that the accumulator reaches, as int8."""
    out = len(thresholds)
    inside = np.clip(thresholds, -(2**40), 2**40)
    first = np.where(np.abs(inside) < 2**40, inside, 2**40).min(axis=1) - 1
    first = np.where(first > 2**39, 0, first)
    span = int(np.where(np.abs(inside) < 2**40, inside - first[:, None], 0).max(initial=0)) + 1
    if out * span <= MAX_TABLE:  # one look into a table an element
        steps = np.arange(span)
        table = np.concatenate([np.searchsorted(t, f + steps, "right") for t, f in zip(inside, first, strict=True)]) + least
        table, rows = table.astype(np.int8), np.arange(out) * span

        def look(acc: np.ndarray) -> np.ndarray:
            return table[np.clip(acc.astype(np.int64) - first, 0, span - 1) + rows]

        return look

    def search(acc: np.ndarray) -> np.ndarray:
        levels = [np.searchsorted(t, acc[..., i], "right") for i, t in enumerate(inside)]
        return (np.stack(levels, axis=-1) + least).astype(np.int8)

    return search


def accumulator(call: Call) -> Step:
    """The layer with its requantisation left out: int32 accumulators, bias included, alike on every runtime."""
    layer = {"conv": conv, "depthwise": depthwise, "dense": dense}[call.op.kind]
    return layer(replace(call, output=replace(call.output, dtype="int32")), lambda acc: acc.astype(np.int64).astype(np.int32))


def dense(call: Call, finish: Step | None = None) -> Step:
    weights, bias, kind = _weights(call, 0)
    zero, finish = quantisation(call.given)[1], finish or _finish(call)

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), weights.shape[1]).astype(kind) - kind(zero)
        return finish(flat @ weights.T + bias)

    return run


def conv(call: Call, finish: Step | None = None) -> Step:
    weights, bias, kind = _weights(call, 0)
    out, kh, kw, depth = weights.shape
    matrix, finish, windows = weights.reshape(out, -1).T, finish or _finish(call), _windows(call, kind, (kh, kw))
    groups = call.given.shape[-1] // depth
    h, w, _ = call.output.shape

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        result = np.empty((len(x), h, w, out), call.output.dtype)
        block = max(1, MAX_COLUMNS // max(1, h * w * kh * kw * x.shape[-1]))
        for start in range(0, len(x), block):
            view = windows(x[start : start + block])  # (m, h, w, kh, kw, c)
            if groups == 1:
                acc = view.reshape(-1, kh * kw * depth) @ matrix
            else:
                parts = np.split(view, groups, axis=-1)
                columns = np.split(matrix, groups, axis=1)
                acc = np.concatenate([p.reshape(-1, kh * kw * depth) @ c for p, c in zip(parts, columns, strict=True)], axis=-1)
            acc += bias
            result[start : start + block] = finish(acc).reshape(-1, h, w, out)
        return result

    return run


def depthwise(call: Call, finish: Step | None = None) -> Step:
    weights, bias, kind = _weights(call, 3)
    _, kh, kw, out = weights.shape
    finish, windows = finish or _finish(call), _windows(call, kind, (kh, kw))
    repeat = out // call.given.shape[-1]
    h, w, _ = call.output.shape

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        result = np.empty((len(x), h, w, out), call.output.dtype)
        block = max(1, MAX_COLUMNS // max(1, h * w * out * 4))
        for start in range(0, len(x), block):
            view = windows(x[start : start + block])
            acc: np.ndarray = np.zeros((len(view), h, w, out), kind)
            for i in range(kh):
                for j in range(kw):
                    tap = view[:, :, :, i, j, :]
                    acc += (tap if repeat == 1 else np.repeat(tap, repeat, axis=-1)) * weights[0, i, j]
            acc += bias
            result[start : start + block] = finish(acc)
        return result

    return run


def _windows(call: Call, kind: type, kernel: tuple[int, int]) -> Step:
    """``(m, h, w, c)`` codes -> the windows ``(m, out_h, out_w, kh, kw, c)`` of codes less the zero point, 0 where padded; a view."""
    o, zero, size = call.op.options, quantisation(call.given)[1], call.given.shape[:2]
    pads = padding(size, kernel, o["stride"], o["dilation"], o["padding"] == "same")
    (sh, sw), (dh, dw), (oh, ow) = o["stride"], o["dilation"], call.output.shape[:2]

    def windows(x: np.ndarray) -> np.ndarray:
        padded = np.pad(x.astype(kind) - kind(zero), ((0, 0), *pads, (0, 0))) if any(map(math.fsum, pads)) else x.astype(kind) - kind(zero)
        n, _, _, c = padded.shape
        s = padded.strides
        return np.lib.stride_tricks.as_strided(
            padded,
            (n, oh, ow, *kernel, c),
            (s[0], s[1] * sh, s[2] * sw, s[1] * dh, s[2] * dw, s[3]),
            writeable=False,
        )

    return windows
