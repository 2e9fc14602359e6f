"""Ops of an ``.onnx`` file that compute: their inputs either all quantised, with the output's steps, or all real."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.integer import model as models
from edgeq.integer.onnx.reader import Reader
from edgeq.integer.onnx.values import IMAGE, Constant, Inputs, Steps, UnfitError, Value
from edgeq.integer.ops import limits, padding


def _activation(steps: Steps | None) -> str:
    """Codes that begin at zero end in a ReLU, which files leave out where saturation does it."""
    return "relu" if steps is not None and steps.zero == limits(steps.dtype)[0] else "none"


def layout(op: models.Op) -> tuple[int, ...]:
    """How the op sees an image ``(h, w, c)``."""
    return (0, 1, 2) if op.options.get("channels_last", 0) or op.name.startswith("Nhwc") else IMAGE


def _activations(inputs: Inputs, count: int) -> list[Value]:
    values = [v for v in inputs[:count] if isinstance(v, Value)]
    if len(values) != count:
        raise UnfitError("a constant stands where an activation is needed")
    return values


def _weights(r: Reader, constant: Value | Constant, axis: int) -> Constant:
    """Weights with their scales, if there are several, along ``axis``."""
    if not isinstance(constant, Constant) or (len(constant.scale) > 1 and constant.axis != axis):
        raise UnfitError("its weights are no constant, or have a scale along another axis than the outputs")
    if constant.data.dtype == np.int32:
        raise UnfitError("weights of int32 have no kernels")
    return constant


def _bias(r: Reader, inputs: Inputs, x: int, weights: Constant, outputs: int) -> int:
    if len(inputs) < 3:
        return -1
    given = inputs[2]
    if not isinstance(given, Constant) or given.data.size != outputs or given.zero.any():
        raise UnfitError("its bias is no constant of one number an output")
    if not len(weights.scale):
        return r.store(given.data.reshape(-1).astype(np.float32))
    if given.data.dtype != np.int32:
        raise UnfitError(f"its bias is of {given.data.dtype}")
    scale = np.broadcast_to(weights.scale * r.tensors[x].scale[0], outputs).astype(np.float32)
    return r.store(given.data.reshape(-1), Constant(given.data, scale, np.zeros(outputs, np.int64)))


def _conv(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    seen = layout(op)
    x, w, group = r.arranged(_activations(inputs, 1)[0], seen), _weights(r, inputs[1], 0), int(op.options.get("group", 1))
    if w.data.ndim != 4 or group < 1 or w.data.shape[1] * group != r.tensors[x].shape[2] or w.data.shape[0] % group:
        raise UnfitError(f"weights {w.data.shape} in {group} groups do not fit {r.tensors[x].shape}")
    outputs, per_group, *kernel = w.data.shape
    depthwise = per_group == 1 and group > 1
    bias = _bias(r, inputs, x, w, outputs)
    weights = r.store(w.data.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1)), w, 3 if depthwise else 0)
    x, options = window(r, op, x, kernel, "dilations")
    if depthwise:
        options["multiplier"] = outputs // group
    options["activation"] = _activation(steps)
    return Value(r.emit("depthwise" if depthwise else "conv", (x, weights, bias), steps, **options), seen, True)


def _dense(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    o = op.options
    if o.get("transA", 0) or o.get("alpha", 1) != 1 or o.get("beta", 1) != 1:
        raise UnfitError("a product of matrices with transA, alpha or beta is no dense layer")
    x, across = r.arranged(_activations(inputs, 1)[0], (0,)), not o.get("transB", 0)
    w = _weights(r, inputs[1], 1 if across else 0)
    if w.data.ndim != 2:
        raise UnfitError(f"weights {w.data.shape} are no matrix")
    data = w.data.T if across else w.data
    bias = _bias(r, inputs, x, w, len(data))
    return Value(r.emit("dense", (x, r.store(data, w), bias), steps, activation=_activation(steps)), (0,), True)


def window(r: Reader, op: models.Op, x: int, kernel: Sequence[int], spread: str = "") -> tuple[int, dict[str, Any]]:
    """Options of a sliding window over ``x``, padded in front of it where neither SAME nor VALID is what the file says."""
    o, size = op.options, r.tensors[x].shape[:2]
    stride, dilation = tuple(o.get("strides", (1, 1))), tuple(o.get(spread, (1, 1)))
    pads = tuple(o.get("pads", (0, 0, 0, 0)))
    if {len(stride), len(dilation), len(kernel)} != {2} or min(*stride, *dilation, *kernel) < 1 or len(pads) != 4 or min(pads) < 0:
        raise UnfitError("its window, strides, dilations or pads are not those of an image")
    if max(*pads, *kernel, *stride, *dilation) > 4096 or o.get("auto_pad", "NOTSET") not in ("NOTSET", "SAME_UPPER", "VALID"):
        raise UnfitError("its pads or window are too large, or SAME_LOWER")
    (top, bottom), (left, right) = padding(size, (kernel[0], kernel[1]), stride, dilation, True)
    same = pads == (top, left, bottom, right) if o.get("auto_pad", "NOTSET") == "NOTSET" else o["auto_pad"] == "SAME_UPPER"
    if same and any((top, bottom, left, right)):
        return x, {"stride": stride, "dilation": dilation, "padding": "same"}
    if o.get("ceil_mode", 0) and any((s + a + b - k) % t for s, a, b, k, t in zip(size, pads, pads[2:], kernel, stride, strict=False)):
        raise UnfitError("its window leaves the image at the end (ceil_mode)")
    if not same and any(pads):
        x = r.emit("pad", (x,), r.steps(x), before=(*pads[:2], 0), after=(*pads[2:], 0))
    return x, {"stride": stride, "dilation": dilation, "padding": "valid"}


def _average_pool(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    x = r.arranged(_activations(inputs, 1)[0], layout(op))
    return Value(pool(r, op, x, "average_pool", steps), layout(op), True)


def _least_is_zero(r: Reader, x: int) -> bool:
    """Whether no value lies below the zeros of a padding."""
    if (steps := r.steps(x)) is not None:
        return steps.zero == limits(steps.dtype)[0]
    return any(op.output == x and op.kind in ("relu", "relu6") for op in r.ops)


def pool(r: Reader, op: models.Op, x: int, kind: str, steps: Steps | None, **more: Any) -> int:
    kernel = tuple(op.options.get("kernel_shape", ()))
    inner, options = window(r, op, x, kernel)
    padded = inner != x and not op.options.get("count_include_pad", 0)
    lowest = _least_is_zero(r, x)
    if padded and not (kind == "max_pool" and lowest):
        raise UnfitError("its pads are not those of TensorFlow")
    if kind == "average_pool" and options["padding"] == "same" and op.options.get("count_include_pad", 0):
        raise UnfitError("it counts its padding")
    if set(op.options.get("dilations", ())) > {1}:
        raise UnfitError("its window has gaps")
    options |= {"window": kernel, "activation": "none", **more}
    return r.emit(kind, (inner,), steps, **{k: v for k, v in options.items() if k != "dilation"})


def _global_average_pool(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    x = r.arranged(_activations(inputs, 1)[0], layout(op))
    return Value(r.emit("mean", (x,), steps, axes=(1, 2), keep=True), layout(op), True)


def _mean(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    value, rank = _activations(inputs, 1)[0], len(_activations(inputs, 1)[0].axes)
    listed = op.options.get("axes") or (r.numbers(op.inputs[1]) if len(op.inputs) > 1 else [])
    seen = sorted({int(a) + (rank + 1 if a < 0 else 0) - 1 for a in listed})
    if not seen or seen[0] < 0 or seen[-1] >= rank:
        raise UnfitError("it takes the mean over the batch, or over nothing")
    keep, gone = bool(op.options.get("keepdims", 1)), {value.axes[a] for a in seen}
    out = r.emit("mean", (value.tensor,), steps, axes=tuple(sorted(a + 1 for a in gone)), keep=keep)
    left = [a for i, a in enumerate(value.axes) if i not in seen]
    return Value(out, value.axes if keep else tuple(sorted(left).index(a) for a in left), True)


def _binary(kind: str) -> Callable[..., Value]:
    def read(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
        if len(inputs) != 2:
            raise UnfitError("it needs two inputs")
        first = next((v for v in inputs if isinstance(v, Value)), None)
        if first is None:
            raise UnfitError("it computes with constants alone")
        both = [r.arranged(v, first.axes) if isinstance(v, Value) else _operand(r, v, first.axes) for v in inputs]
        return Value(r.emit(kind, both, steps, activation=_activation(steps)), first.axes, True)

    return read


def _operand(r: Reader, constant: Constant, axes: tuple[int, ...]) -> int:
    """A constant that is broadcast over an activation which is seen through ``axes``."""
    rank = len(axes) + 1
    data = constant.data.reshape((1,) * (rank - constant.data.ndim) + constant.data.shape)
    if data.ndim != rank or data.shape[0] != 1 or len(constant.scale) > 1:
        raise UnfitError(f"a constant of shape {constant.data.shape}, or with several scales, is not broadcast over images")
    return r.store(data.transpose((0, *(1 + axes.index(i) for i in range(len(axes))))), constant if len(constant.scale) else None)


def _last(r: Reader, value: Value, axis: int) -> tuple[int, tuple[int, ...]]:
    """The tensor with the file's ``axis`` as its last, and its axes."""
    if value.axes[axis] == len(value.axes) - 1:
        return value.tensor, value.axes
    order = [i for i in range(len(value.axes)) if i != axis]
    axes = tuple(len(order) if i == axis else order.index(i) for i in range(len(value.axes)))
    return r.arranged(value, axes), axes


def axis_of(op: models.Op, rank: int, default: int) -> int:
    """The op's axis without the batch."""
    axis = int(op.options.get("axis", default))
    if not 0 < (axis := axis + rank + 1 if axis < 0 else axis) <= rank:
        raise UnfitError("it works along the batch")
    return axis - 1


def _softmax(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    value = _activations(inputs, 1)[0]
    x, axes = value.tensor, value.axes
    if len(axes) > 1 or op.options.get("axis") not in (None, -1, 1):
        if op.options.get("axis") is None or op.options.get("opset", 13) < 13:
            raise UnfitError("its axis is that of ONNX before version 13")
        x, axes = _last(r, value, axis_of(op, len(axes), -1))
    if r.tensors[x].shape[-1] == 1:  # which ONNX Runtime's table of exponentials overflows on
        raise UnfitError("it is taken over a single number")
    return Value(r.emit("softmax", (x,), steps, beta=1.0), axes, True)


def _unary(kind: str, **options: float) -> Callable[..., Value]:
    def read(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
        value = _activations(inputs, 1)[0]
        values = {name: float(op.options.get(name, default)) for name, default in options.items()}
        return Value(r.emit(kind, (value.tensor,), steps, **values), value.axes, True)

    return read


def _batch_normalization(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    """As it is when the network is not trained: a product and a sum a channel."""
    value, numbers = _activations(inputs, 1)[0], [v.data.astype(np.float64) for v in inputs[1:] if isinstance(v, Constant)]
    count = r.shape(value)[0]
    if len(numbers) != 4 or any(v.shape != (count,) for v in numbers) or op.options.get("training_mode", 0):
        raise UnfitError("it is no normalisation by stored means and variances, one a channel")
    scale, bias, mean, variance = numbers
    with np.errstate(all="ignore"):
        slope = scale / np.sqrt(variance + float(op.options.get("epsilon", 1e-5)))
    if not np.isfinite(slope).all():
        raise UnfitError("its variances are negative, or zero")
    for kind, constant in (("mul", slope), ("add", bias - mean * slope)):
        data = constant.astype(np.float32).reshape(-1, *[1] * (len(value.axes) - 1))
        stored = _operand(r, Constant(data, np.empty(0, np.float32), np.empty(0, np.int64)), value.axes)
        value = Value(r.emit(kind, (value.tensor, stored), None, activation="none"), value.axes, True)
    return value


def _concat(r: Reader, op: models.Op, inputs: Inputs, steps: Steps | None) -> Value:
    values = _activations(inputs, len(inputs))
    axes = values[0].axes
    given = [r.arranged(v, axes) for v in values]
    return Value(r.emit("concatenation", given, steps, axis=axes[axis_of(op, len(axes), 1)], activation="none"), axes, True)


FLOATS: dict[str, Callable[[Reader, models.Op, Inputs, Steps | None], Value]] = {
    "Conv": _conv,
    "MatMul": _dense,
    "Gemm": _dense,
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Min": _binary("minimum"),
    "Max": _binary("maximum"),
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "ReduceMean": _mean,
    "Softmax": _softmax,
    "Sigmoid": _unary("logistic"),
    "Tanh": _unary("tanh"),
    "HardSwish": _unary("hard_swish"),
    "HardSigmoid": _unary("hard_sigmoid", alpha=0.2, beta=0.5),
    "LeakyRelu": _unary("leaky_relu", alpha=0.01),
    "BatchNormalization": _batch_normalization,
    "Concat": _concat,
}
