"""Graphs of one op, or of a layer and what follows it, drawn from a seed: ordinary, extreme, and next to every limit of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.shapes import infer

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
