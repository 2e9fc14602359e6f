"""What an op of a ``.tflite`` says of itself: its kind in the integer graph, its inputs there, and its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.integer.model import Model, Op

ACTIVATIONS = {0: "none", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}
Parsed = tuple[str, tuple[int, ...], dict[str, Any]]


class UnfitError(ValueError):
    """Why an op cannot be read."""


def _numbers(model: Model, op: Op, position: int) -> np.ndarray:
    """A small integer constant among the inputs: a shape, axes, paddings."""
    if position >= len(op.inputs) or op.inputs[position] < 0:
        raise UnfitError(f"input {position} is missing")
    t = model.tensors[op.inputs[position]]
    codes = t.codes()
    if codes is None or t.dtype not in ("int32", "int64") or codes.size > 64:
        raise UnfitError(f"{t.name} is no constant")
    return codes.astype(np.int64)


def _shape(model: Model, index: int) -> tuple[int, ...]:
    """Of an activation in the file, batch included."""
    return model.tensors[index].shape


def _activation(op: Op) -> str:
    code = op.options.get("fused_activation_function", 0)
    if code not in ACTIVATIONS:
        raise UnfitError(f"fused activation {code} is not known")
    return ACTIVATIONS[code]


def _window(op: Op) -> dict[str, Any]:
    o = op.options
    if (padding := o.get("padding", 0)) not in (0, 1):
        raise UnfitError(f"padding {padding} is not known")
    return {
        "stride": (o.get("stride_h", 0), o.get("stride_w", 0)),
        "padding": ("same", "valid")[padding],
        "activation": _activation(op),
    }


def _inputs(op: Op, count: int) -> tuple[int, ...]:
    if len(op.inputs) < count or min(op.inputs[:count]) < 0:
        raise UnfitError(f"it needs {count} inputs")
    return op.inputs[:count]


def _conv(model: Model, op: Op) -> Parsed:
    _inputs(op, 2)
    o = op.options
    options = _window(op) | {"dilation": (o.get("dilation_h_factor", 1), o.get("dilation_w_factor", 1))}
    kind = "conv"
    if op.name == "DEPTHWISE_CONV_2D":
        kind = "depthwise"
        depth = _shape(model, op.inputs[0])[-1]
        options["multiplier"] = _shape(model, op.inputs[1])[-1] // max(1, depth)
    return kind, (*op.inputs, -1)[:3], options


def _dense(model: Model, op: Op) -> Parsed:
    _inputs(op, 2)
    if op.options.get("weights_format", 0) != 0:
        raise UnfitError("its weights are shuffled")
    return "dense", (*op.inputs, -1)[:3], {"activation": _activation(op)}


def _pool(model: Model, op: Op) -> Parsed:
    window = (op.options.get("filter_height", 0), op.options.get("filter_width", 0))
    return op.name.removesuffix("_2D").lower(), _inputs(op, 1), _window(op) | {"window": window}


def _binary(model: Model, op: Op) -> Parsed:
    return op.name.lower(), _inputs(op, 2), {"activation": _activation(op)}


def _simple(kind: str, *options: str) -> Callable[[Model, Op], Parsed]:
    def parse(model: Model, op: Op) -> Parsed:
        return kind, _inputs(op, 1), {name: float(op.options.get(name, 0)) for name in options}

    return parse


def _extreme(model: Model, op: Op) -> Parsed:
    return op.name.lower(), _inputs(op, 2), {}


def _mean(model: Model, op: Op) -> Parsed:
    rank = len(_shape(model, op.inputs[0]))
    axes = sorted({int(a) % rank for a in _numbers(model, op, 1).reshape(-1) if -rank <= a < rank})
    if not axes or axes[0] == 0:
        raise UnfitError("it takes the mean over the batch, or over nothing")
    return "mean", op.inputs[:1], {"axes": tuple(axes), "keep": bool(op.options.get("keep_dims", False))}


def _pad(model: Model, op: Op) -> Parsed:
    widths = _numbers(model, op, 1)
    if widths.shape != (len(_shape(model, op.inputs[0])), 2) or widths.min() < 0 or widths.max() > 4096 or widths[0].any():
        raise UnfitError("its paddings are negative, too large, or of the batch")
    if op.name == "PADV2":
        value = model.tensors[_inputs(op, 3)[2]]
        zero, code = model.tensors[op.inputs[0]].zeros, value.codes()
        if code is None or code.size != 1 or int(code.reshape(-1)[0]) != (int(zero[0]) if len(zero) else 0):
            raise UnfitError("it pads with another value than zero")
    return "pad", op.inputs[:1], {"before": tuple(widths[1:, 0].tolist()), "after": tuple(widths[1:, 1].tolist())}


def _reshape(model: Model, op: Op) -> Parsed:
    if not op.outputs:
        raise UnfitError("it has no output")
    return "reshape", op.inputs[:1], {"shape": _shape(model, op.outputs[0])[1:]}


def _concatenation(model: Model, op: Op) -> Parsed:
    rank, axis = len(_shape(model, op.inputs[0])), int(op.options.get("axis", 0))
    if not 0 < (axis := axis + rank if axis < 0 else axis) < rank:
        raise UnfitError("it joins along the batch")
    return "concatenation", _inputs(op, len(op.inputs)), {"axis": axis - 1, "activation": _activation(op)}


def _transpose(model: Model, op: Op) -> Parsed:
    rank, order = len(_shape(model, op.inputs[0])), _numbers(model, op, 1).reshape(-1).tolist()
    if sorted(order) != list(range(rank)) or order[0] != 0:
        raise UnfitError("its order is no order of the axes, or moves the batch")
    return "transpose", op.inputs[:1], {"order": tuple(i - 1 for i in order[1:])}


def _strided_slice(model: Model, op: Op) -> Parsed:
    shape, o = _shape(model, op.inputs[0]), op.options
    begin, end, stride = (_numbers(model, op, i).reshape(-1).tolist() for i in (1, 2, 3))
    if {len(begin), len(end), len(stride)} != {len(shape)} or min(stride) < 1:
        raise UnfitError("only forward slices over every axis can be read")
    if any(o.get(mask, 0) for mask in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask", "offset")):
        raise UnfitError("its ellipsis, new or dropped axes cannot be read")
    whole = []
    for i, size in enumerate(shape):
        first = 0 if o.get("begin_mask", 0) >> i & 1 else begin[i]
        last = size if o.get("end_mask", 0) >> i & 1 else end[i]
        whole.append((*slice(first, last).indices(size)[:2], stride[i]))
    if whole[0][:2] != (0, 1):
        raise UnfitError("it slices the batch")
    b, e, s = zip(*whole[1:], strict=True)
    return "strided_slice", op.inputs[:1], {"begin": b, "end": e, "stride": s}


def _resize(model: Model, op: Op) -> Parsed:
    size = tuple(int(v) for v in _numbers(model, op, 1).reshape(-1))
    if len(size) != 2 or not all(0 < s <= 4096 for s in size):
        raise UnfitError("its size is not two numbers from 1 to 4096")
    kind = "resize_bilinear" if op.name == "RESIZE_BILINEAR" else "resize_nearest"
    flags = {name: bool(op.options.get(name, False)) for name in ("align_corners", "half_pixel_centers")}
    return kind, op.inputs[:1], {"size": size} | flags


READERS: dict[str, Callable[[Model, Op], Parsed]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "FULLY_CONNECTED": _dense,
    **dict.fromkeys(("ADD", "SUB", "MUL"), _binary),
    **dict.fromkeys(("MINIMUM", "MAXIMUM"), _extreme),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D"), _pool),
    **dict.fromkeys(("PAD", "PADV2"), _pad),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), _reshape),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resize),
    "MEAN": _mean,
    "CONCATENATION": _concatenation,
    "TRANSPOSE": _transpose,
    "STRIDED_SLICE": _strided_slice,
    "SOFTMAX": _simple("softmax", "beta"),
    "LEAKY_RELU": _simple("leaky_relu", "alpha"),
    "LOGISTIC": _simple("logistic"),
    "TANH": _simple("tanh"),
    "RELU": _simple("relu"),
    "RELU6": _simple("relu6"),
    "RELU_N1_TO_1": _simple("relu_n1_to_1"),
    "HARD_SWISH": _simple("hard_swish"),
    "QUANTIZE": _simple("quantize"),
    "DEQUANTIZE": _simple("dequantize"),
}
