"""The output shape of each kind of op, from the shapes of its inputs. ``ValueError`` where they do not fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]


def infer(kind: str, options: Mapping[str, Any], inputs: Sequence[Shape], constant: Sequence[bool]) -> Shape:
    """Shape of the output without the batch. ``inputs``: shapes of the inputs, activations without the batch, constants as stored."""
    x = inputs[0]
    if kind in ("conv", "depthwise"):
        return _convolution(kind, options, x, inputs[1])
    if kind == "dense":
        return _dense(x, inputs[1])
    if kind in ("average_pool", "max_pool"):
        h, w, c = _image(x)
        return (*_window((h, w), options["window"], options["stride"], (1, 1), options["padding"] == "same"), c)
    if kind in ("add", "sub", "mul", "minimum", "maximum"):
        return _broadcast(inputs, constant)
    if kind == "mean":
        axes = {a - 1 for a in options["axes"]}
        kept = [1 if i in axes else d for i, d in enumerate(x)] if options["keep"] else [d for i, d in enumerate(x) if i not in axes]
        return tuple(kept)
    if kind == "pad":
        return tuple(d + a + b for d, a, b in zip(x, options["before"], options["after"], strict=True))
    if kind == "reshape":
        if math.prod(options["shape"]) != math.prod(x):
            raise ValueError("the numbers of elements differ")
        return tuple(options["shape"])
    if kind == "concatenation":
        if any(fixed and s[:1] != (1,) for s, fixed in zip(inputs, constant, strict=True)):
            raise ValueError("a constant has more than one image")
        return _concatenation([s[1:] if fixed else s for s, fixed in zip(inputs, constant, strict=True)], options["axis"])
    if kind == "transpose":
        return tuple(x[i] for i in options["order"])
    if kind == "strided_slice":
        bounds = zip(options["begin"], options["end"], options["stride"], x, strict=True)
        return tuple(len(range(d)[b:e:s]) for b, e, s, d in bounds)
    if kind.startswith("resize"):
        return (*options["size"], _image(x)[2])
    return x


def _image(x: Shape) -> Shape:
    if len(x) != 3:
        raise ValueError(f"an image of shape (h, w, c) is needed, not {x}")
    return x


def _window(size: Shape, kernel: Shape, stride: Shape, dilation: Shape, same: bool) -> Shape:
    if min(*kernel, *stride, *dilation) < 1:
        raise ValueError("a window, stride or dilation is below 1")
    if same:
        return tuple(-(-s // t) for s, t in zip(size, stride, strict=True))
    out = tuple((s - (k - 1) * d - 1) // t + 1 for s, k, t, d in zip(size, kernel, stride, dilation, strict=True))
    if min(out) < 1:
        raise ValueError("the window is larger than the image")
    return out


def _convolution(kind: str, options: Mapping[str, Any], x: Shape, weights: Shape) -> Shape:
    h, w, c = _image(x)
    if len(weights) != 4:
        raise ValueError("weights of four axes are needed")
    first, kh, kw, last = weights
    if kind == "conv":
        fits, out = last > 0 and c % last == 0 and first % max(1, c // max(1, last)) == 0, first
    else:
        fits, out = first == 1 and last == c * options["multiplier"], last
    if not fits:
        raise ValueError(f"weights {weights} do not fit {c} channels")
    return (*_window((h, w), (kh, kw), options["stride"], options["dilation"], options["padding"] == "same"), out)


def _dense(x: Shape, weights: Shape) -> Shape:
    if len(weights) != 2 or math.prod(x) != weights[1]:
        raise ValueError(f"weights {weights} do not fit {math.prod(x)} inputs of an image")
    return (weights[0],)


def _broadcast(shapes: Sequence[Shape], constant: Sequence[bool]) -> Shape:
    rank = max(len(s) for s, c in zip(shapes, constant, strict=True) if not c) + 1
    full = []
    for shape, fixed in zip(shapes, constant, strict=True):
        batched = shape if fixed else (1, *shape)
        if len(batched) > rank or (not fixed and len(batched) != rank):
            raise ValueError("the ranks differ")
        full.append((1,) * (rank - len(batched)) + batched)
    out = []
    for sizes in zip(*full, strict=True):
        if len({d for d in sizes if d != 1}) > 1:
            raise ValueError(f"{' and '.join(map(str, shapes))} do not broadcast")
        out.append(next((d for d in sizes if d != 1), 1))
    if out[0] != 1:
        raise ValueError("a constant has more than one image")
    return tuple(out[1:])


def _concatenation(shapes: Sequence[Shape], axis: int) -> Shape:
    rest = {(*s[:axis], *s[axis + 1 :]) for s in shapes}
    if len(rest) != 1 or not all(axis < len(s) for s in shapes):
        raise ValueError("the other axes differ")
    return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
