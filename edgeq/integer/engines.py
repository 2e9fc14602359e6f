"""What is known of the engines: which versions, on which processors, and how far each formula was checked.

The formulas of :mod:`edgeq.integer.rounding` and :mod:`edgeq.integer.ops` restate the engines' sources. Each has a range in which it does:
beyond it kernels wrap around at 16 or 32 bits, shift by more than a word, abort, or leave the op to another kernel. :func:`doubt` says
whether an op lies outside. Nothing is proven there. ``tools/attack_proofs.py`` holds both against the interpreters, op by op.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.integer.delegate import LAYERS, ratio, slopes
from edgeq.integer.graph import Tensor
from edgeq.integer.ops import Call, clamp_range

VERSIONS = {"litert": "LiteRT 2.3", "tflm": "TFLite Micro 0.dev20261023", "ort": "ONNX Runtime 1.31"}
"""The engines whose sources and binaries the formulas were checked against."""
PROCESSORS = "x86-64 with AVX2"
"""Where. Without AVX2, LiteRT's builtin kernels multiply matrices in plain C++, which rounds otherwise; its ARM kernels are others too, the
builtin ones nearly everywhere, XNNPACK's for MUL and for uint8 files."""


def named(runtimes: Sequence[str]) -> str:
    """The engines of ``runtimes`` with their versions, and the processors: "LiteRT 2.3 and TFLite Micro ... on x86-64"."""
    engines = dict.fromkeys(VERSIONS["litert" if r.startswith("litert") else r] for r in runtimes)
    return " and ".join(engines) + f" on {PROCESSORS}"


def refused(call: Call) -> str | None:
    """Why ``call.runtime`` refuses the op for its scales, as a predicate; None where it takes them."""
    out, kind = call.output, call.op.kind
    if not _followed(call) or call.runtime == "ort":
        return None
    activation = kind if kind in _BOUNDS else call.op.options.get("activation", "none")
    if _BOUNDS.get(activation, 0.0) / float(out.scale[0]) >= 2.0**30:
        return "clamps at a code beyond 32 bits, which kernels refuse"
    if kind in LAYERS and (reason := _refused_bias(call)) is not None:
        return reason
    if kind in LAYERS and call.runtime == "litert-xnnpack":
        x, w = call.inputs[:2]
        assert x is not None
        assert w is not None
        if np.any(x.scale * w.scale / out.scale >= np.float32(256)):
            return "has a multiplier of 256 or more, which XNNPACK refuses"
    if kind in ("add", "sub"):
        widest = max(float(t.scale[0]) for t in call.inputs if t is not None)
        if widest / float(out.scale[0]) >= 2.0**18:
            return "has an output scale 2^18 times below its inputs', at which kernels end the process"
    return None


def doubt(call: Call) -> str | None:
    """Why the op may not be computed on ``call.runtime`` as its formula says, as a predicate; None where it is.

    Beyond 32 bits an accumulator wraps around: that depends on what reaches a layer, and is looked at where its accumulators are.
    """
    if not _followed(call):
        return None
    if call.runtime == "ort":
        w = call.inputs[1] if call.op.kind in LAYERS else None
        return "has INT4 weights, which ONNX Runtime computes in floats" if w is not None and w.dtype == "int4" else None
    return refused(call) or (_DOUBTS[call.op.kind](call) if call.op.kind in _DOUBTS else None)


def _followed(call: Call) -> bool:
    return call.output.dtype in ("int8", "uint8") and call.output.quantised and bool(call.inputs)


_BOUNDS = {"relu6": 6.0, "relu_n1_to_1": 1.0}
_WIDE = "gives codes beyond 16 bits before the clamp, where kernels wrap around"
_METADATA = "has a bias whose stated quantisation is not that of its products, which runtimes take differently"
_CLOSE = 2.0**-20  # float32 rounds a product at 2^-24, and converters come to it in several steps (2^-23 in the files that were seen)


def _refused_bias(call: Call) -> str | None:
    """A bias is added as it is, whatever scale it states. But LiteRT refuses files that state an axis it does not have, or a zero point;
    and where all weights have one scale, kernels other than XNNPACK's refuse a bias whose scale is not input times weights: all of them
    of a fully connected layer, LiteRT's also of uint8 convolutions (``GetQuantizedConvolutionMultipler``)."""
    x, w, b = (*call.inputs, None)[:3]
    assert x is not None
    assert w is not None
    if b is None:
        return None
    lite = call.runtime != "tflm"
    if lite and b.quantised and not (0 <= b.axis < len(b.shape) and len(b.scale) in (1, b.shape[b.axis])):
        return f"has a bias of shape {b.shape} with {len(b.scale)} scales along axis {b.axis}, which LiteRT refuses"
    many, dense = len(b.zero) > 1, call.op.kind == "dense"
    if lite and b.zero.any() and (call.runtime == "litert-xnnpack" if many else not dense):
        return "has a bias with a zero point, which LiteRT refuses"
    if call.xnnpack or len(w.scale) > 1 or not (dense or (lite and x.dtype == "uint8")):
        return None
    stated = float(b.scale[0]) if b.quantised and not (lite and many) else 0.0
    product = float(x.scale[0]) * float(w.scale[0])
    if not abs(product - stated) / float(call.output.scale[0]) <= 0.02:
        return f"has a bias of scale {stated:.3g}, where input times weights is {product:.3g}, which its kernel refuses"
    return None


def _layer(call: Call) -> str | None:
    x, w, b = (*call.inputs, None)[:3]
    assert x is not None
    assert w is not None
    if w.dtype != "uint8" and w.zero.any():
        return "has int8 weights with a zero point, which runtimes ignore, use or refuse"
    product = x.scale.astype(np.float64) * w.scale.astype(np.float64)
    if b is not None:
        fits = b.quantised and len(b.scale) in (1, len(w.scale)) and not b.zero.any()  # the axis: see _refused_bias
        if not fits or not np.all(np.abs(product - b.scale.astype(np.float64)) <= _CLOSE * product):
            return _METADATA
    if call.runtime != "litert-xnnpack":
        return None
    if b is None:
        return "has no bias, for which XNNPACK may leave it to another kernel"
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
    steps = (_reach(a) * float(a.scale[0]) + _reach(b) * float(b.scale[0])) / float(call.output.scale[0])
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
    return "multiplies codes by 2^20 or more, beyond 32 bits" if ratio(call.given, call.output) >= 2.0**20 else None


def _mean(call: Call) -> str | None:
    return "multiplies codes by 2^12 or more, beyond 32 bits" if ratio(call.given, call.output) >= 2.0**12 else None


def _leaky_relu(call: Call) -> str | None:
    alpha = float(call.op.options["alpha"])
    if not (np.isfinite(alpha) and abs(alpha) >= np.finfo(np.float32).tiny):
        return "has a slope of 0, or none that float32 holds"
    if alpha < 0 and not call.xnnpack:
        return "has a negative slope, whose halves kernels round either way"
    steepest = max(map(abs, slopes(call.op, call.given, call.output)))
    return "multiplies codes by 2^20 or more, beyond 32 bits" if steepest >= 2.0**20 else None


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
    near = np.abs(steps - np.floor(steps) - 0.5) < 2.0**-13
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
