"""Ops of an ``.onnx`` file that change numbers into codes and back, or only move, choose or bound them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.integer import model as models
from edgeq.integer.onnx.layers import layout, pool
from edgeq.integer.onnx.reader import Reader
from edgeq.integer.onnx.scales import recode, stated
from edgeq.integer.onnx.values import IMAGE, Constant, Steps, UnfitError, Value, checked
from edgeq.integer.ops import Call, clamp_range, limits, padding

Any_ = Value | Constant


def with_scales(data: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int) -> Constant:
    """A constant's codes with what they mean."""
    scale, zero = scale.reshape(-1), zero.reshape(-1).astype(np.int64)
    if scale.dtype != np.float32 or data.dtype not in (np.int8, np.uint8, np.int32) or len(zero) not in (1, len(scale)):
        raise UnfitError(f"a constant of {data.dtype} with scales of {scale.dtype} is nothing that kernels take")
    if len(scale) > 1 and not (-data.ndim <= axis < data.ndim and data.shape[axis] == len(scale)):
        raise UnfitError(f"a constant of shape {data.shape} has {len(scale)} scales")
    return Constant(data, scale, np.broadcast_to(zero, len(scale)).copy(), axis % max(1, data.ndim))


def _activation(value: Any_) -> Value:
    if not isinstance(value, Value):
        raise UnfitError("a constant stands where an activation is needed")
    return value


def _dequantize(r: Reader, op: models.Op, value: Any_) -> Any_:
    if isinstance(value, Constant):
        if op.options.get("block_size", 0):
            raise UnfitError("its weights are quantised in blocks")
        zero = r.constant(op.inputs[2]).data if len(op.inputs) > 2 and op.inputs[2] >= 0 else np.zeros(1)
        return with_scales(value.data, r.constant(op.inputs[1]).data, zero, int(op.options.get("axis", 1)))
    reader = r.only_reader(op.outputs[0])
    if reader is None or reader.name != "QuantizeLinear" or recode(r, op, reader) is None:
        value = r.codes(value, stated(r, op, 1, 2))
    return replace(value, real=True)


def _quantize(r: Reader, op: models.Op, value: Any_) -> Any_:
    value = _activation(value)
    steps, merged = quantisation_behind(r, op)
    if not merged:
        steps = r.label(op.outputs[0], steps.dtype)
    if not value.real:
        raise UnfitError("it quantises codes")
    if r.steps(value.tensor) != steps:
        value = Value(r.emit("quantize", (value.tensor,), steps), value.axes, True)
    r.values |= {other.outputs[0]: value for other in merged}
    return replace(value, real=False)


def quantisation_behind(r: Reader, op: models.Op) -> tuple[Steps, list[models.Op]]:
    """What a QuantizeLinear quantises to, and the ops behind it that it takes in: where it is dequantised, quantised and dequantised
    again, ONNX Runtime makes one pair of two, over the range that both can hold (``double_qdq_pairs_remover.cc``)."""
    steps, merged = stated(r, op, 1, 2), list[models.Op]()
    while True:
        chain: list[models.Op] = []
        for name in ("DequantizeLinear", "QuantizeLinear", "DequantizeLinear"):
            reader = r.only_reader((chain[-1] if chain else op).outputs[0])
            if reader is None or reader.name != name:
                return steps, merged
            chain.append(reader)
        again = stated(r, chain[1], 1, 2)
        if stated(r, chain[0], 1, 2) != stated(r, op, 1, 2) or stated(r, chain[2], 1, 2) != again or again.dtype != steps.dtype:
            return steps, merged
        steps, op, merged = _overlap(steps, again), chain[1], [*merged, *chain]


def _overlap(a: Steps, b: Steps) -> Steps:
    if a == b:
        return a
    least, most = limits(a.dtype)
    low = max(np.float32(least - s.zero) * s.scale for s in (a, b))
    high = min(np.float32(most - s.zero) * s.scale for s in (a, b))
    scale = (high - low) / np.float32(most - least)
    zero = np.float32(least) - low / scale
    return checked(Steps(scale, int(np.copysign(np.floor(np.abs(zero) + np.float32(0.5)), zero)), a.dtype))


def bounds(r: Reader, op: models.Op) -> tuple[float, float]:
    """What a Relu or Clip lets pass."""
    bounds = [0.0 if op.name == "Relu" else -math.inf, math.inf]
    for i, name in enumerate(("min", "max")):
        if name in op.options:
            bounds[i] = float(op.options[name])
        elif len(op.inputs) > i + 1 and op.inputs[i + 1] >= 0:
            bounds[i] = float(r.constant(op.inputs[i + 1]).reals().reshape(-1)[0])
    return bounds[0], bounds[1]


def idle(steps: Steps, low: float, high: float) -> bool:
    """Whether no code lies beyond the bounds of a clamp (``ClipQuantFusion``)."""
    least, most = (float(np.float32(code - steps.zero) * steps.scale) for code in limits(steps.dtype))
    epsilon = float(np.finfo(np.float32).eps)
    return low - least <= epsilon and most - high <= epsilon


def _clamp(r: Reader, op: models.Op, value: Any_) -> Any_:
    value, clamp = _activation(value), bounds(r, op)
    steps = r.steps(value.tensor)
    if steps is not None and value.real and idle(steps, *clamp):
        return value
    kind = {(0.0, math.inf): "relu", (0.0, 6.0): "relu6", (-1.0, 1.0): "relu_n1_to_1"}.get(clamp)
    value = r.float(value)
    if kind is not None:
        return Value(r.emit(kind, (value.tensor,), None), value.axes, True)
    if not clamp[0] <= clamp[1]:
        raise UnfitError(f"its bounds {clamp} leave nothing")
    for kind, bound in (("maximum", clamp[0]), ("minimum", clamp[1])):
        if math.isfinite(bound):
            limit = r.store(np.full((1,) * (len(value.axes) + 1), bound, np.float32))
            value = Value(r.emit(kind, (value.tensor, limit), None), value.axes, True)
    return value


def _limit(r: Reader, op: models.Op, value: Any_) -> Any_:
    """Min or Max of codes and one code: a fused activation where it is one, else an op."""
    value = _activation(value)
    steps, bound = r.steps(value.tensor), r.constant(op.inputs[1]).data
    if len(op.inputs) != 2 or steps is None or value.real or bound.size != 1 or str(bound.dtype) != steps.dtype:
        raise UnfitError("only codes can be compared with one code")
    code, low = int(bound.reshape(-1)[0]), op.name == "Max"
    if code == limits(steps.dtype)[not low]:
        return value
    last = r.ops[-1]
    if last.output == value.tensor and "activation" in last.options:
        call = Call(last, (), r.tensors[last.output], "ort")
        before = clamp_range(call)
        after = (max(code, before[0]), before[1]) if low else (before[0], min(code, before[1]))
        for name in ("relu", "relu6", "relu_n1_to_1"):
            if clamp_range(call, name) == after:
                r.ops[-1] = replace(last, options={**last.options, "activation": name})
                return value
    constant = Constant(bound.reshape(1), r.tensors[value.tensor].scale, r.tensors[value.tensor].zero)
    return replace(value, tensor=r.emit("maximum" if low else "minimum", (value.tensor, r.store(constant.data, constant)), steps))


def _max_pool(r: Reader, op: models.Op, value: Any_) -> Any_:
    value = _activation(value)
    x = r.arranged(value, layout(op))
    return Value(pool(r, op, x, "max_pool", r.steps(x)), layout(op), value.real)


def _pad(r: Reader, op: models.Op, value: Any_) -> Any_:
    value = _activation(value)
    steps, count = r.steps(value.tensor), len(value.axes) + 1
    pads = list(op.options["pads"]) if "pads" in op.options else r.numbers(op.inputs[1])
    fill = r.constant(op.inputs[2]).data if len(op.inputs) > 2 and op.inputs[2] >= 0 else np.array(op.options.get("value", 0))
    zero = 0 if value.real or steps is None else steps.zero
    if op.options.get("mode", "constant") != "constant" or fill.size != 1 or float(fill.reshape(-1)[0]) != zero or len(op.inputs) > 3:
        raise UnfitError("it pads with another value than zero")
    if len(pads) != 2 * count or min(pads) < 0 or max(pads) > 4096 or pads[0] or pads[count]:
        raise UnfitError("its paddings are negative, too large, or of the batch")
    before, after = ([pads[start + 1 + value.axes.index(a)] for a in range(count - 1)] for start in (0, count))
    return replace(value, tensor=r.emit("pad", (value.tensor,), steps, before=tuple(before), after=tuple(after)))


def _transpose(r: Reader, op: models.Op, value: Any_) -> Any_:
    rank = value.data.ndim if isinstance(value, Constant) else len(value.axes) + 1
    order = tuple(op.options.get("perm", range(rank)[::-1]))
    if sorted(order) != list(range(rank)):
        raise UnfitError("its order is no order of the axes")
    if isinstance(value, Constant):
        return replace(value, data=value.data.transpose(order), axis=order.index(value.axis) if rank else 0)
    if order[0] != 0:
        raise UnfitError("it moves the batch")
    return replace(value, axes=tuple(value.axes[i - 1] for i in order[1:]))


def _listed(r: Reader, op: models.Op, name: str, position: int) -> list[int] | None:
    """Integers that are an attribute in older versions of an op and an input in newer ones."""
    if name in op.options:
        return [int(v) for v in op.options[name]]
    return r.numbers(op.inputs[position]) if len(op.inputs) > position and op.inputs[position] >= 0 else None


def _reshape(r: Reader, op: models.Op, value: Any_) -> Any_:
    before = value.data.shape if isinstance(value, Constant) else (1, *r.shape(value))
    after = _shape(r, op, before)
    if isinstance(value, Constant):
        return _reshaped(value, after)
    if not after or after[0] != 1:
        raise UnfitError("it changes the batch")
    new, seen = after[1:], before[1:]
    if len(new) == len(seen) and [d for d in new if d > 1] == [d for d in seen if d > 1]:  # only axes of one element come and go
        long, short = ([a for a, d in zip(value.axes, seen, strict=True) if (d > 1) == more] for more in (True, False))
        return replace(value, axes=tuple(long.pop(0) if d > 1 else short.pop(0) for d in new))
    long = [a for a, d in zip(value.axes, seen, strict=True) if d > 1]
    x = value.tensor if long == sorted(long) else r.plain(value)
    return Value(r.emit("reshape", (x,), r.steps(x), shape=new), tuple(range(len(new))), value.real)


def _shape(r: Reader, op: models.Op, before: tuple[int, ...]) -> tuple[int, ...]:
    """The op's output shape, with a batch of one."""
    if op.name == "Flatten":
        if op.options.get("axis", 1) != 1:
            raise UnfitError("it flattens the batch")
        return (1, math.prod(before[1:]))
    if op.name == "Reshape":
        wanted = [before[i] if d == 0 and i < len(before) else d for i, d in enumerate(r.numbers(op.inputs[1]))]
        if wanted[:1] == [-1] and math.prod(wanted[1:]) == math.prod(before):
            wanted[0] = 1
        known = math.prod(d for d in wanted if d != -1)
        if wanted.count(-1) > 1 or known < 1 or math.prod(before) % known:
            raise UnfitError(f"{before} does not become {tuple(wanted)}")
        return tuple(math.prod(before) // known if d == -1 else d for d in wanted)
    axes = _listed(r, op, "axes", 1)
    if op.name == "Squeeze":
        axes = [i for i, d in enumerate(before) if i and d == 1] if axes is None else [a % len(before) for a in axes]
        if any(before[a] != 1 for a in axes):
            raise UnfitError("it drops axes of more than one element")
        return tuple(d for i, d in enumerate(before) if i not in axes)
    rank = len(before) + len(axes or ())
    axes = sorted({a % rank for a in axes or ()})
    rest = iter(before)
    return tuple(1 if i in axes else next(rest) for i in range(rank))


def _reshaped(constant: Constant, shape: tuple[int, ...]) -> Constant:
    if len(constant.scale) < 2:
        return replace(constant, data=constant.data.reshape(shape))
    ahead = math.prod(constant.data.shape[: constant.axis])
    axis = next((i for i, d in enumerate(shape) if d == len(constant.scale) and math.prod(shape[:i]) == ahead), None)
    if axis is None:
        raise UnfitError("it tears the slices apart that have scales")
    return replace(constant, data=constant.data.reshape(shape), axis=axis)


def _slice(r: Reader, op: models.Op, value: Any_) -> Any_:
    value = _activation(value)
    seen, rank = r.shape(value), len(value.axes)
    starts, ends = _listed(r, op, "starts", 1) or [], _listed(r, op, "ends", 2) or []
    axes, strides = _listed(r, op, "axes", 3) or list(range(len(starts))), _listed(r, op, "steps", 4) or [1] * len(starts)
    begin, end, stride = [0] * rank, [r.tensors[value.tensor].shape[a] for a in range(rank)], [1] * rank
    for first, last, axis, step in zip(starts, ends, axes, strides, strict=True):
        i = axis % (rank + 1) - 1
        if i < 0 or step < 1:
            raise UnfitError("it slices the batch, or backwards")
        b, e, s = slice(first, last, step).indices(seen[i])
        at = value.axes[i]
        begin[at], end[at], stride[at] = b, e, s
    out = r.emit("strided_slice", (value.tensor,), r.steps(value.tensor), begin=tuple(begin), end=tuple(end), stride=tuple(stride))
    return replace(value, tensor=out)


def _same(r: Reader, op: models.Op, value: Any_) -> Any_:
    return value


def _mean_of_codes(r: Reader, op: models.Op, value: Any_) -> Any_:
    """The mean of codes in integers, halves away from one code, as :mod:`edgeq.integer.write_onnx` writes it:
    ``ConvInteger - (+-half) -> Div -> Sub -> Cast``; it ends where the Cast does."""
    value = _activation(value)
    ones, centre = (r.constant(i).data for i in op.inputs[1:3])
    x = r.arranged(value, IMAGE)
    channels, strange = r.tensors[x].shape[2], UnfitError("a ConvInteger is read only as a mean of codes")
    if value.real or ones.ndim != 4 or ones.shape[:2] != (channels, 1) or not (ones == 1).all() or op.options.get("group", 1) != channels:
        raise strange
    window = replace(op, options={**op.options, "kernel_shape": ones.shape[2:]})
    middle = int(centre.reshape(-1)[0])
    out = pool(r, window, x, "average_pool", r.steps(x), centre=middle)
    count = _counts(r, r.ops[-1], x, out)
    total = op.outputs[0]
    named = {r.model.ops[at].name: r.model.ops[at] for at in r.readers[total]}
    chain = [named.get("Sub")]
    for _ in range(3):
        chain.append(None if chain[-1] is None else r.only_reader(r.output(chain[-1])))
    if any(o is None or o.name != name for o, name in zip(chain, ("Sub", "Div", "Sub", "Cast"), strict=True)):
        raise strange
    away, divide, back, cast = (o for o in chain if o is not None)
    fits = np.array_equal(r.constant(divide.inputs[1]).data, count) and int(r.constant(back.inputs[1]).data) == -middle
    if middle:
        less, where = named.get("Less"), r.model.ops[r.writers[away.inputs[1]]]
        if less is None or where.name != "Where" or where.inputs[0] != less.outputs[0] or r.constant(less.inputs[1]).data.any():
            raise strange
        plus, minus = (r.constant(i).data for i in where.inputs[1:3])
        r.done |= {r.writers[less.outputs[0]], r.writers[where.outputs[0]]}
    else:
        minus = r.constant(away.inputs[1]).data
        plus = -minus
    if not fits or not np.array_equal(plus, count // 2) or not np.array_equal(minus, -(count // 2)):
        raise strange
    r.done |= {r.writers[o.outputs[0]] for o in (away, divide, back)}
    r.values[cast.outputs[0]] = Value(out, IMAGE, False)
    return r.values[cast.outputs[0]]


def _counts(r: Reader, op: Any, x: int, out: int) -> np.ndarray:
    """``(h, w)``: how many pixels of each window lie inside the image."""
    o, sides = op.options, []
    pads = padding(r.tensors[x].shape[:2], o["window"], o["stride"], (1, 1), o["padding"] == "same")
    for size, places, k, step, (before, _) in zip(r.tensors[x].shape, r.tensors[out].shape, o["window"], o["stride"], pads, strict=False):
        first = np.arange(places) * step - before
        sides.append(np.minimum(first + k, size) - np.maximum(first, 0))
    return np.outer(*sides)


MOVES: dict[str, Callable[[Reader, models.Op, Any_], Any_]] = {
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
    **dict.fromkeys(("Relu", "Clip"), _clamp),
    **dict.fromkeys(("Min", "Max"), _limit),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Identity", "Dropout"), _same),
    **dict.fromkeys(("MaxPool", "NhwcMaxPool"), _max_pool),
    "Pad": _pad,
    "Transpose": _transpose,
    "Slice": _slice,
    "ConvInteger": _mean_of_codes,
}
