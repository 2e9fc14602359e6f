"""Ops between float32 tensors, as weight-only files and float tails have them.

Equal to every runtime where all sums are exact, such as integers below 2^24; else they differ from it by the order of additions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeq.integer.ops import Call, Step, padding

BOUNDS = {"none": (-np.inf, np.inf), "relu": (0, np.inf), "relu6": (0, 6), "relu_n1_to_1": (-1, 1)}


def _clip(call: Call, activation: str | None = None) -> Step:
    lo, hi = (np.float32(b) for b in BOUNDS[activation or call.op.options.get("activation", "none")])
    return lambda x: np.clip(x, lo, hi)


def _binary(function: Callable[..., np.ndarray]) -> Callable[[Call], Step]:
    def kernel(call: Call) -> Step:
        clip = _clip(call)
        return lambda a, b: clip(function(a, b))

    return kernel


def _unary(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Call], Step]:
    return lambda call: lambda x, *_: function(x)


def dense(call: Call) -> Step:
    clip = _clip(call)
    return lambda x, w, b=None: clip(x.reshape(len(x), w.shape[1]) @ w.T + (0 if b is None else b)).astype(np.float32)


def conv(call: Call) -> Step:
    """One product of matrices a tap of the kernel; for depthwise, one product of numbers."""
    o, clip = call.op.options, _clip(call)
    (sh, sw), (dh, dw), (oh, ow) = o["stride"], o["dilation"], call.output.shape[:2]

    def run(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
        kernel = (int(w.shape[1]), int(w.shape[2]))
        padded = np.pad(x, ((0, 0), *padding(call.given.shape[:2], kernel, o["stride"], o["dilation"], o["padding"] == "same"), (0, 0)))
        total = np.zeros((len(x), *call.output.shape), np.float32)
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                tap = padded[:, i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
                total += np.repeat(tap, o["multiplier"], axis=-1) * w[0, i, j] if "multiplier" in o else tap @ w[:, i, j].T
        return clip(total if b is None else total + b)

    return run


def pool(call: Call) -> Step:
    o, clip, average = call.op.options, _clip(call), call.op.kind == "average_pool"
    pads = padding(call.given.shape[:2], o["window"], o["stride"], (1, 1), o["padding"] == "same")
    (sh, sw), (oh, ow) = o["stride"], call.output.shape[:2]

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=0 if average else -np.inf)
        inside = np.pad(np.ones((1, *x.shape[1:3], 1), np.float32), ((0, 0), *pads, (0, 0)))
        total: np.ndarray = np.full((1, 1, 1, 1), 0 if average else -np.inf, np.float32)
        count: np.ndarray = np.zeros((1, 1, 1, 1), np.float32)
        for i in range(o["window"][0]):
            for j in range(o["window"][1]):
                at = (slice(None), slice(i, i + (oh - 1) * sh + 1, sh), slice(j, j + (ow - 1) * sw + 1, sw))
                total = total + padded[at] if average else np.maximum(total, padded[at])
                count = count + inside[at]
        return clip(total / count if average else total)

    return run


def softmax(call: Call) -> Step:
    beta = np.float32(call.op.options.get("beta", 1.0))

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        exps = np.exp((x - x.max(-1, keepdims=True)) * beta)
        return exps / exps.sum(-1, keepdims=True)

    return run


def _hard_sigmoid(call: Call) -> Step:
    alpha, beta = (np.float32(call.op.options[name]) for name in ("alpha", "beta"))
    return lambda x, *_: np.clip(x * alpha + beta, np.float32(0), np.float32(1))


def dynamic_quantize(call: Call) -> Step:
    """ONNX DynamicQuantizeLinear (uint8, halves to even) and back, each image by itself."""

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        axes = tuple(range(1, x.ndim))
        low, high = np.minimum(x.min(axes, keepdims=True), 0), np.maximum(x.max(axes, keepdims=True), 0)
        scale = np.where(high == low, np.float32(1), (high - low) / np.float32(255))
        zero = np.rint(np.clip(-low / scale, 0, 255))
        return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale

    return run


KERNELS: dict[str, Callable[[Call], Step]] = {
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "dense": dense,
    "conv": conv,
    "depthwise": conv,
    "average_pool": pool,
    "max_pool": pool,
    "softmax": softmax,
    "logistic": _unary(lambda x: 1 / (1 + np.exp(-x))),
    "tanh": _unary(np.tanh),
    "hard_swish": _unary(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hard_sigmoid": _hard_sigmoid,
    "dynamic_quantize": dynamic_quantize,
    "leaky_relu": lambda call: lambda x, *_: np.where(x > 0, x, x * np.float32(call.op.options["alpha"])),
    **dict.fromkeys(("relu", "relu6", "relu_n1_to_1"), lambda call: _clip(call, call.op.kind)),
}
