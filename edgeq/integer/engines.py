"""What is known of the engines: which versions, on which processors, what XNNPACK's delegate takes, and how far each formula was checked.

The formulas of :mod:`edgeq.integer.rounding` and :mod:`edgeq.integer.ops` restate the engines' sources. Each has a range in which it does:
beyond it kernels wrap around at 16 or 32 bits, shift by more than a word, abort, or leave the op to another kernel. :func:`doubt` says
whether an op lies outside. Nothing is proven there. ``tools/attack_proofs.py`` holds both against the interpreters, op by op.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeq.integer.graph import Tensor

if TYPE_CHECKING:
    from edgeq.integer.ops import Call

VERSIONS = {"litert": "LiteRT 2.3", "tflm": "TFLite Micro 0.dev20261023", "ort": "ONNX Runtime 1.31"}
"""The engines whose sources and binaries the formulas were checked against."""
PROCESSORS = "x86-64 with AVX2"
"""Where. Without AVX2, LiteRT's builtin kernels multiply matrices in plain C++, which rounds otherwise; its ARM kernels are others too, the
builtin ones nearly everywhere, XNNPACK's for MUL and for uint8 files."""

LAYERS = ("conv", "depthwise", "dense")


def named(runtimes: Sequence[str]) -> str:
    """The engines of ``runtimes`` with their versions, and the processors: "LiteRT 2.3 and TFLite Micro ... on x86-64"."""
    engines = dict.fromkeys(VERSIONS["litert" if r.startswith("litert") else r] for r in runtimes)
    return " and ".join(engines) + f" on {PROCESSORS}"


def left_to_builtin(call: Call) -> bool:
    """Whether XNNPACK's delegate leaves the op to LiteRT's builtin kernels: the conditions of its ``Visit`` functions."""
    kind, given, out = call.op.kind, next(iter(call.inputs), None), call.output
    if given is None or not (out.quantised or given.quantised):
        return False
    w = call.inputs[1] if kind in LAYERS else None
    if any(t is not None and t.quantised and t.axis for t in (*(call.inputs if w is None else (given,)), out)):
        return True  # a quantised dimension is stated where there is one scale
    if w is not None:
        packed = w.dtype == "int4" and (kind != "dense" or w.shape[1] % 2 == 1)
        return packed or (w.dtype == "uint8" and w.axis != 0)
    if kind in ("add", "sub", "mul"):
        return not _delegated(call)
    if kind == "leaky_relu":
        above, below = _slopes(call)
        return not (2.0**-8 <= above <= 128 and -127.99609375 <= below <= 128 and abs(below) >= 2.0**-8)
    if kind == "quantize":
        return given.quantised and (given.dtype != out.dtype or not 2.0**-8 <= _ratio(given, out) <= 128)
    if kind == "max_pool":
        window, stride = call.op.options["window"], call.op.options["stride"]
        return any(s > k for s, k in zip(stride, window, strict=True))
    return kind in ("average_pool", "minimum", "maximum", "softmax", "hard_swish", "relu", "relu6", "relu_n1_to_1", "resize_nearest")


def _ratio(a: Tensor, b: Tensor) -> float:
    return float(np.float32(a.scale[0]) / np.float32(b.scale[0]))


def _slopes(call: Call) -> tuple[float, float]:
    """Of LEAKY_RELU, in codes: above zero and below."""
    above = np.float32(call.given.scale[0]) / np.float32(call.output.scale[0])
    return float(above), float(above * np.float32(call.op.options["alpha"]))


def _delegated(call: Call) -> bool:
    """Of ADD, SUB and MUL: whether XNNPACK takes their scales."""
    a, b = (t for t in call.inputs if t is not None)
    if call.op.kind == "mul":
        return 2.0**-16 <= float(np.float32(a.scale[0]) * np.float32(b.scale[0]) / np.float32(call.output.scale[0])) < 256
    return all(2.0**-10 <= _ratio(t, call.output) < 256 for t in (a, b))


def doubt(call: Call) -> str | None:
    """Why the op may not be computed on ``call.runtime`` as its formula says, as a predicate; None where it is.

    Beyond 32 bits an accumulator wraps around: that depends on what reaches a layer, and is looked at where its accumulators are.
    """
    out = call.output
    if out.dtype not in ("int8", "uint8") or not out.quantised or not call.inputs:
        return None
    if call.runtime == "ort":
        w = call.inputs[1] if call.op.kind in LAYERS else None
        return "has INT4 weights, which ONNX Runtime computes in floats" if w is not None and w.dtype == "int4" else None
    activation = call.op.kind if call.op.kind in _BOUNDS else call.op.options.get("activation", "none")
    if _BOUNDS.get(activation, 0.0) / float(out.scale[0]) >= 2.0**30:
        return "clamps at a code beyond 32 bits, which kernels refuse"
    return _DOUBTS[call.op.kind](call) if call.op.kind in _DOUBTS else None


_BOUNDS = {"relu6": 6.0, "relu_n1_to_1": 1.0}
_REFUSED = "has a multiplier of 256 or more, which XNNPACK refuses"
_WIDE = "gives codes beyond 16 bits before the clamp, where kernels wrap around"
_METADATA = "has a bias whose stated quantisation is not that of its products, which runtimes take differently"


def _layer(call: Call) -> str | None:
    from edgeq.integer.ops import clamp_range

    x, w, b = (*call.inputs, None)[:3]
    assert x is not None
    assert w is not None
    if w.dtype != "uint8" and w.zero.any():
        return "has int8 weights with a zero point, which runtimes ignore, use or refuse"
    product = x.scale.astype(np.float64) * w.scale.astype(np.float64)
    if b is not None:
        fits = b.quantised and len(b.scale) in (1, len(w.scale)) and b.axis == 0 and not b.zero.any()
        if not fits or np.any(np.abs(product - b.scale.astype(np.float64)) > 2.0**-20 * product):
            return _METADATA
    if call.runtime != "litert-xnnpack":
        return None
    if b is None:
        return "has no bias, for which XNNPACK may leave it to another kernel"
    if np.any(x.scale * w.scale / call.output.scale >= np.float32(256)):
        return _REFUSED
    most = 0 if b is None or b.data is None else int(np.abs(b.data.astype(np.int64)).max())
    if w.dtype == "int4" and call.xnnpack and 2**11 * w.shape[1] + most >= 2**27:
        return "has accumulators beyond 27 bits, which XNNPACK's kernels for INT4 weights do not hold"
    low, high = clamp_range(call)
    return "clamps to a single code, which XNNPACK does not do" if call.xnnpack and low >= high else None


def _reach(t: Tensor) -> float:
    """The largest magnitude of ``code - zero``."""
    info, zero = np.iinfo(t.dtype), int(t.zero[0])
    return float(max(zero - info.min, info.max - zero))


def _sum(call: Call) -> str | None:
    a, b = (t for t in call.inputs if t is not None)
    so = float(call.output.scale[0])
    if 2 * max(float(a.scale[0]), float(b.scale[0])) / (2.0**20 * so) >= 0.5:
        return "has an output scale 2^18 times below its inputs', at which kernels end the process"
    steps = (_reach(a) * float(a.scale[0]) + _reach(b) * float(b.scale[0])) / so
    return _WIDE if call.kernels == "litert-builtin" and steps >= 2**15 - 2**8 else None


def _product(call: Call) -> str | None:
    a, b = (t for t in call.inputs if t is not None)
    steps = _reach(a) * _reach(b) * float(a.scale[0]) * float(b.scale[0]) / float(call.output.scale[0])
    if call.kernels == "litert-builtin" and steps >= 2**15 - 2**8:
        return _WIDE
    return "gives codes beyond 32 bits before the clamp" if not call.xnnpack and steps >= 2.0**29 else None


def _rescaling(call: Call) -> str | None:
    """QUANTIZE between codes and RELU of all kinds."""
    if not call.given.quantised:
        return None
    return "multiplies codes by 2^20 or more, beyond 32 bits" if _ratio(call.given, call.output) >= 2.0**20 else None


def _mean(call: Call) -> str | None:
    return "multiplies codes by 2^12 or more, beyond 32 bits" if _ratio(call.given, call.output) >= 2.0**12 else None


def _leaky_relu(call: Call) -> str | None:
    alpha = float(call.op.options["alpha"])
    if not (np.isfinite(alpha) and abs(alpha) >= np.finfo(np.float32).tiny):
        return "has a slope of 0, or none that float32 holds"
    if alpha < 0 and not call.xnnpack:
        return "has a negative slope, whose halves kernels round either way"
    return "multiplies codes by 2^20 or more, beyond 32 bits" if max(map(abs, _slopes(call))) >= 2.0**20 else None


def _hard_swish(call: Call) -> str | None:
    fine = np.float32(1 / 128) * np.float32(call.given.scale[0])
    out, inner = (
        int(np.frexp(np.float64(r))[1]) for r in (fine / np.float32(call.output.scale[0]), fine / (np.float32(3) / np.float32(32768)))
    )
    return None if -15 <= out <= -2 and -15 <= inner <= 14 else "has scales at which its 16-bit arithmetic overflows, or is refused"


def _curve(call: Call) -> str | None:
    """LOGISTIC and TANH, whose output scale is fixed."""
    low = int(np.iinfo(call.output.dtype).min)
    step, zero = (2.0**-8, low) if call.op.kind == "logistic" else (2.0**-7, low + 128)
    if float(call.output.scale[0]) != step or int(call.output.zero[0]) != zero:
        return f"has another output scale or zero point than {step:g} and {zero}, which runtimes refuse or ignore"
    scale = float(call.given.scale[0])
    if call.runtime == "tflm":
        return None if 2.0**-27 <= scale <= 2.0**30 else "has an input scale at which TFLite Micro shifts by more than a word"
    info = np.iinfo(call.given.dtype)
    x = scale * (np.arange(info.min, info.max + 1) - int(call.given.zero[0])).astype(np.float64)
    with np.errstate(over="ignore"):
        steps = (1 / (1 + np.exp(-x)) if call.op.kind == "logistic" else np.tanh(x)) / step
    near = np.abs(steps - np.floor(steps) - 0.5) < 2.0**-10
    return "has a value so near the middle of two codes that the last bit of an exponential decides" if near.any() else None


_DOUBTS = {
    **dict.fromkeys(LAYERS, _layer),
    **dict.fromkeys(("add", "sub"), _sum),
    **dict.fromkeys(("quantize", "relu", "relu6", "relu_n1_to_1"), _rescaling),
    **dict.fromkeys(("logistic", "tanh"), _curve),
    "mul": _product,
    "mean": _mean,
    "leaky_relu": _leaky_relu,
    "hard_swish": _hard_swish,
}
