"""The kernels of ``tflm-exact``: the answers of TensorFlow Lite Micro, bit by bit, several times as fast as its interpreter.

The simulator (:mod:`edgeq.integer.simulate`) with three short cuts: a convolution's windows stay in the cache, its two roundings are one
``floor`` (:mod:`edgeq.integer.line`), and an elementwise op is a table of all its 256 or 65,536 inputs, filled by the simulator itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

import edgeq
from edgeq.core import cpu
from edgeq.core.errors import EdgeqError
from edgeq.core.runtime import Codes
from edgeq.core.signature import Signature
from edgeq.integer import read_tflite, tflite_file
from edgeq.integer.delegate import LAYERS
from edgeq.integer.engines import doubt
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.line import line
from edgeq.integer.ops import EXACT32, Call, Step, clamp_range, limits, linear, padding, quantisation
from edgeq.integer.rounding import requantiser
from edgeq.integer.simulate import EXACT, KERNELS, plan
from edgeq.runtimes._lanes import Lanes
from edgeq.runtimes._layout import as_images, layout_of

RUNTIME = "tflm"
MOST, BYTES = 16, 2**23  # images a lane takes at once, and what their widest windows may take
_TABLES = ("add", "sub", "mul", "minimum", "maximum", "relu", "relu6", "relu_n1_to_1", "leaky_relu", "hard_swish", "logistic", "tanh")


def check(graph: Graph) -> None:
    """Raises :class:`EdgeqError` for a graph that is not known to be computed exactly."""
    for op in graph.ops:
        call = _call(graph, op)
        out = call.output
        if out.dtype not in ("int8", "uint8") or (op.kind, RUNTIME) in EXACT:
            raise EdgeqError(f"{graph.name}: {op.kind} ({out.name}) of {out.dtype} is not exact in tflm-exact; take --runtime tflm")
        reason = doubt(call) or ("can overflow 32 bits" if op.kind in LAYERS and not linear.fits(call) else None)
        if reason is not None:
            raise EdgeqError(f"{graph.name}: {op.kind} ({out.name}) {reason}, so it is not exact in tflm-exact; take --runtime tflm")
    plan(graph, RUNTIME)


def _call(graph: Graph, op: Op) -> Call:
    return Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), graph.tensors[op.output], RUNTIME)


def steps(graph: Graph) -> list[Step]:
    """One function an op, from input arrays to the output array, as :func:`edgeq.integer.simulate.plan` gives them, but faster."""
    kernels = []
    for op, slow in zip(graph.ops, plan(graph, RUNTIME), strict=True):
        call = _call(graph, op)
        kernels.append(_linear(call) or _table(call) or slow)
    return kernels


def open(path: str | Path, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Lanes:
    """The ``.tflite`` file as a target; :class:`EdgeqError` where an op of it is not exact."""
    model = tflite_file.read(str(path))
    try:
        graph = read_tflite.from_model(model)
    except EdgeqError as error:
        raise EdgeqError(f"{str(error).removesuffix(f'; {read_tflite.REMEDY}')}; take --runtime tflm") from None
    check(graph)
    chunk = max(1, min(MOST, batch // threads, BYTES // _widest(graph)))
    kernels = steps(graph)
    identity = {
        "engine": "edgeq",
        "version": edgeq.__version__,
        "kernels": "TFLite Micro's reference kernels in numpy",
        "cpu": cpu.describe(),
        "argmax": "lowest index",
    }
    return Lanes("tflm-exact", signature, [_Lane(graph, kernels, codes, layout_of(model)) for _ in range(threads)], chunk, batch, identity)


class _Lane:
    def __init__(self, graph: Graph, kernels: list[Step], codes: Codes, layout: str) -> None:
        self.graph, self.kernels, self.codes, self.layout = graph, kernels, codes, layout

    def run(self, images: np.ndarray, out: np.ndarray) -> None:
        given = self.graph.tensors[self.graph.input]
        values: dict[int, np.ndarray] = {i: t.data for i, t in self.graph.constants() if t.data is not None}
        values[self.graph.input] = space = np.empty((len(images), *given.shape), given.dtype)
        self.codes.encode(images, as_images(space, images.shape[1:], self.layout))
        for op, step in zip(self.graph.ops, self.kernels, strict=True):
            values[op.output] = step(*(values[i] if i >= 0 else None for i in op.inputs))
        out[...] = values[self.graph.output].reshape(out.shape)

    def close(self) -> None: ...


def _widest(graph: Graph) -> int:
    """Bytes of the largest array that is made for one image: the windows of a convolution, as float32."""

    def size(op: Op) -> int:
        out = graph.tensors[op.output].shape
        return 4 * math.prod(out[:2]) * math.prod(graph.tensors[op.inputs[1]].shape[1:]) if op.kind == "conv" else 4 * math.prod(out)

    return max(map(size, graph.ops), default=1)


# -- the short cuts -------------------------------------------------------------------------------------------------------------------


def _requantise(call: Call, out: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """From a float32 accumulator ``(..., out)`` to output codes; None where float64 might not be exact."""
    w = call.inputs[1]
    assert w is not None
    formula = requantiser(RUNTIME, call.op.kind, call.given.scale, w.scale, call.output.scale, out, call.given.dtype)
    zero, (lo, hi) = quantisation(call.output)[1], clamp_range(call)
    codes = line(formula, np.zeros(out, np.int64), (lo - zero, hi - zero), zero)
    if codes is None:
        return None

    def run(acc: np.ndarray) -> np.ndarray:
        value = codes(acc)
        return np.clip(value, lo, hi, out=value).astype(call.output.dtype)

    return run


def _linear(call: Call) -> Step | None:
    """``conv``, ``depthwise`` and ``dense`` whose accumulators float32 adds up exactly; None for what is left to the simulator."""
    if call.op.kind not in ("conv", "depthwise", "dense"):
        return None
    w, b = call.inputs[1], call.inputs[2] if len(call.inputs) > 2 else None
    assert w is not None
    assert w.data is not None
    axis = 3 if call.op.kind == "depthwise" else 0
    out = w.shape[axis]
    zeros = w.zero.reshape([-1 if i == axis and len(w.zero) > 1 else 1 for i in range(w.data.ndim)])
    weights = w.data.astype(np.int64) - zeros
    bias = np.zeros(out, np.int64) if b is None or b.data is None else b.data.astype(np.int64).reshape(out)
    (lowest, highest), zero = limits(call.given.dtype), quantisation(call.given)[1]
    others = tuple(i for i in range(weights.ndim) if i != axis)
    reach = np.abs(weights).sum(others) * max(zero - lowest, highest - zero) + np.abs(bias)
    finish, depth = _requantise(call, out), call.given.shape[-1]
    if finish is None or reach.max(initial=0) >= EXACT32 or (call.op.kind == "conv" and w.shape[3] != depth):
        return None
    kernel, offset = weights.astype(np.float32), bias.astype(np.float32)
    if call.op.kind == "dense":
        return lambda x, *_: finish((x.reshape(len(x), -1).astype(np.float32) - np.float32(zero)) @ kernel.T + offset)
    windows, (h, wide) = _windows(call, w.shape[1:3]), call.output.shape[:2]

    def conv(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        acc = windows(x).reshape(len(x) * h, wide, -1) @ matrix  # small products: BLAS threads would only get in each other's way
        acc += offset
        return finish(acc).reshape(len(x), h, wide, out)

    def depthwise(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        view = windows(x)
        acc = np.zeros((len(x), h, wide, depth, out // depth), np.float32) + offset.reshape(depth, -1)
        for i, j in np.ndindex(w.shape[1:3]):
            acc += view[:, :, :, i, j, :, None] * kernel[0, i, j].reshape(depth, -1)
        return finish(acc.reshape(len(x), h, wide, out))

    matrix = np.ascontiguousarray(kernel.reshape(out, -1).T)
    return conv if call.op.kind == "conv" else depthwise


def _windows(call: Call, kernel: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Codes ``(m, h, w, c)`` to the windows ``(m, out_h, out_w, kh, kw, c)`` of codes less the zero point, 0 where padded; a view."""
    o, zero, (h, w, c) = call.op.options, quantisation(call.given)[1], call.given.shape
    (top, bottom), (left, right) = padding((h, w), (kernel[0], kernel[1]), o["stride"], o["dilation"], o["padding"] == "same")
    (sh, sw), (dh, dw), size = o["stride"], o["dilation"], call.output.shape[:2]

    def run(x: np.ndarray) -> np.ndarray:
        padded = np.zeros((len(x), h + top + bottom, w + left + right, c), np.float32)
        np.subtract(x, np.float32(zero), out=padded[:, top : top + h, left : left + w])
        s = padded.strides
        strides = (s[0], s[1] * sh, s[2] * sw, s[1] * dh, s[2] * dw, s[3])
        return np.lib.stride_tricks.as_strided(padded, (len(x), *size, *kernel, c), strides, writeable=False)

    return run


def _table(call: Call) -> Step | None:
    """An elementwise op on one or two activations of one byte: its answers to all codes, by the simulator's own kernel."""
    given = call.inputs
    if call.op.kind not in _TABLES or any(not _is_plain(t, call.output) for t in given):
        return None
    every = np.arange(256, dtype=np.uint8)
    codes = [np.repeat(every, 256), np.tile(every, 256)] if len(given) == 2 else [every]
    point = [replace(t, shape=(1,)) for t in (*given, call.output) if t is not None]
    kernel = KERNELS[call.op.kind](Call(call.op, tuple(point[:-1]), point[-1], RUNTIME))
    table = kernel(*(c[:, None].view(t.dtype) for c, t in zip(codes, point, strict=False))).reshape(-1)

    def one(x: np.ndarray) -> np.ndarray:
        return table[x.view(np.uint8)]

    def two(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        index = x.view(np.uint8).astype(np.uint16)
        index <<= 8
        index |= y.view(np.uint8)
        return table[index]

    return one if len(given) == 1 else two


def _is_plain(tensor: Tensor | None, like: Tensor) -> bool:
    return tensor is not None and tensor.data is None and tensor.shape == like.shape and tensor.dtype in ("int8", "uint8")
