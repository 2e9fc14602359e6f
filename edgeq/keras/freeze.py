"""A trained low-bit network as an integer graph: what it computes, level by level, with nothing real left in between.

Between two quantisers stands one linear layer, and batch normalisation, bias, ReLU and rounding behind it are monotone in each channel's
integer accumulator ``A``. So they become thresholds: the output is ``low + k`` where ``A`` reaches exactly ``k`` of them. Pools and
residual adds follow: the step between two grids is a depthwise layer of ones. :mod:`edgeq.integer.realise` finds the scales and biases
that make kernels compute just this. A network with float activations keeps float layers over its integer weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph
from edgeq.keras import engine
from edgeq.keras.fold import affine
from edgeq.keras.freeze_parts import KINDS, Builder, along, laid_out, moved, passes
from edgeq.keras.freeze_weights import freeze_weights
from edgeq.keras.lowbit.trained import Grid, before, grid, inner, kernel, unit

NEVER = 2**40  # a threshold beyond every accumulator
POINT: Mapping[str, Any] = {"stride": (1, 1), "dilation": (1, 1), "padding": "valid", "multiplier": 1}


@dataclass(frozen=True, eq=False)
class _Sum:
    """A linear layer whose output was not rounded yet: ``gain * A + offset``, ``(out,) float64``; ``weights`` in the graph's layout."""

    kind: str
    x: int
    weights: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    options: Mapping[str, Any]
    shape: tuple[int, ...]


def freeze(model: Any, images: np.ndarray, zero: int = 0) -> Graph:
    """The integer graph of a network that :func:`edgeq.keras.train.lower` made or :func:`~edgeq.keras.train.restore` read.

    ``images``: ``(n, h, w, c) uint8``, to see how far logits reach. Input codes are the pixels less 128; the network takes pixels less
    ``zero``. With quantised activations its linear ops state ``thresholds`` and no bias; with float ones it answers float32 logits.
    Raises :class:`EdgeqError` for a layer that has no integer form, naming it.
    """
    head = model.layers[-1]
    if type(inner(head)).__name__ != "Dense":
        raise EdgeqError(f"{model.name}: its last layer {inner(head).name} is no dense layer; edgeq freezes classifiers that end in one")
    b = Builder()
    h, w, c = (int(d) for d in model.input_shape[1:])
    b.values[model.layers[0].name] = b.tensor("image", (h, w, c), "int8", 1.0, zero - 128)
    if unit(before(head)[0]) is None:
        return freeze_weights(model, b)
    for layer in model.layers[1:-1]:
        b.values[layer.name] = _layer(b, layer)
    total = _linear(b, head)
    codes = grid_of_logits(model, images.astype(np.float32) - zero, total)
    return b.graph(_rounded(b, total, codes, inner(head).name), model.name)


def grid_of_logits(model: Any, images: np.ndarray, total: _Sum) -> Grid:
    """int8 on the finest step, a power of two times the accumulator's unit, that holds each image's highest logit. ``images``: what the
    network takes.

    Logits far below it saturate. Half of the steps between the leading classes would be the price of keeping them, and ties with it.
    """
    tf = engine.tensorflow()
    head = model.layers[-1]
    x = tf.keras.Model(model.input, head.input)(tf.cast(images, tf.float32), training=False).numpy()
    scale = float(unit(before(head)[0]))
    logits = np.rint(x.reshape(len(x), -1) / scale) @ total.weights.T.astype(np.float64) * total.gain + total.offset
    step = float(total.gain.max())
    shift = max(0, int(np.ceil(np.log2(max(np.abs(logits.max(axis=1)).max() / step, 1) / 127))))
    return Grid(step * 2.0**shift, -128, 127, 8, "up")


def _layer(b: Builder, layer: Any) -> Any:
    """What a layer of the network puts out."""
    part, given = inner(layer), [b.values[x.name] for x in before(layer)]
    kind, config, onto = type(part).__name__, part.get_config(), grid(layer)
    if kind in KINDS:
        return _linear(b, layer)
    if kind == "BatchNormalization" and isinstance(given[0], _Sum):
        gain, offset = affine(part)
        s = given[0]
        return _Sum(s.kind, s.x, s.weights, s.gain * gain, s.offset * gain + offset, s.options, s.shape)
    if kind == "QuantizedAdd" and onto:
        x, y = (
            _rounded(b, g if isinstance(g, _Sum) else _ones(b, g, before(layer)[i]), onto, f"{part.name}/{i}") for i, g in enumerate(given)
        )
        t = b.tensors[x]
        return b.op("add", (x, y), b.tensor(part.name, t.shape, "int8", t.scale, 0), activation="none")
    if kind == "QuantizedPool" and onto:
        return _pool(b, part, _whole(b, given[0], layer), onto)
    if onto:  # a ReLU or sign with a quantiser
        total = given[0] if isinstance(given[0], _Sum) else _ones(b, given[0], before(layer)[0])
        return _rounded(b, total, onto, part.name, config.get("max_value"))
    if passes(layer):
        return given[0]
    if (moves := moved(b, layer, _whole(b, given[0], layer))) is not None:
        return moves
    raise EdgeqError(
        f"{part.name}: {kind} has no integer form here; use convolutions, dense layers, batch normalisation, ReLU, Add and pooling"
    )


def _whole(b: Builder, value: Any, layer: Any) -> int:
    """A tensor of codes; :class:`EdgeqError` where the layer stands between a sum and its quantiser."""
    if isinstance(value, _Sum):
        name = inner(layer).name
        raise EdgeqError(f"{name}: stands between a layer with weights and its ReLU; put it behind the ReLU, where it is the same function")
    return int(value)


def _linear(b: Builder, layer: Any) -> _Sum:
    part, trained = inner(layer), kernel(layer)
    x = _whole(b, b.values[before(layer)[0].name], layer)
    step = unit(before(layer)[0])
    if trained is None or step is None:
        what = "kernel" if trained is None else "input"
        raise EdgeqError(f"{part.name}: its {what} is float, and integer kernels take none; train with --ends int8")
    weights, axis, options = laid_out(part, trained.codes)
    out = weights.shape[axis]
    gain = np.broadcast_to(np.float64(step) * trained.scale, out)
    offset = part.bias.numpy().astype(np.float64) if part.use_bias else np.zeros(out)
    return _Sum(KINDS[type(part).__name__], x, weights, gain, offset, options, tuple(int(d) for d in layer.output_shape[1:]))


def _ones(b: Builder, x: int, layer: Any) -> _Sum:
    """Codes as they are, on the way to another grid: a depthwise 1x1 layer of ones."""
    shape = b.tensors[x].shape
    ones = np.ones((1, 1, 1, shape[-1]), np.int32)
    return _Sum("depthwise", x, ones, np.full(shape[-1], np.float64(unit(layer))), np.zeros(shape[-1]), POINT, shape)


def _pool(b: Builder, layer: Any, x: int, onto: Grid) -> int:
    """An average: the sum of a window, divided when it is rounded."""
    h, w, c = b.tensors[x].shape
    size = layer.size
    gain = np.full(c, np.float64(layer.source[0]()) / (size[0] * size[1]))
    total = _Sum(
        "depthwise", x, np.ones((1, *size, c), np.int32), gain, np.zeros(c), {**POINT, "stride": size}, (h // size[0], w // size[1], c)
    )
    y = _rounded(b, total, onto, layer.name)
    return b.op("reshape", (y,), b.like(y, layer.name + "/flat", (c,)), shape=(c,)) if layer.flat else y


def _rounded(b: Builder, s: _Sum, g: Grid, name: str, most: float | None = None) -> int:
    """The op whose outputs are the levels of ``g``. RELU's clamp makes levels without sign, RELU_N1_TO_1's those with one:

    int8 codes of ``b`` bits begin at the zero point ``127 - (2^b - 1)``, or end at 127 with a step of ``2^(1-b)``; int8's own range
    clamps the other side.
    """
    sign = np.where(s.gain < 0, -1, 1)
    weights = along(3 if s.kind == "depthwise" else 0, s.weights, sign).astype(np.int32)
    if most is not None:  # a clip below the highest level leaves fewer of them: int8's own range has to be the clamp
        g = replace(g, high=min(g.high, int(np.rint(most / g.step))))
    at = thresholds(sign * s.gain, s.offset, g)
    scale, zero, activation = float(g.step), 127 - g.high, "relu"
    if g.low < 0:
        whole = (g.low, g.high) == (-128, 127)
        scale, activation = (scale, "none") if whole else (1 / -g.low, "relu_n1_to_1")
        zero = 0 if whole or g.low == -g.high else 127 - g.high
    w = b.tensor(name + "/weights", weights.shape, "int32", np.ones(1, np.float32), data=weights)
    y = b.tensor(name, s.shape, "int8", scale, zero)
    return b.op(s.kind, (s.x, w, -1), y, **s.options, activation=activation, thresholds=at, low=g.low)


def thresholds(gain: np.ndarray, offset: np.ndarray, g: Grid) -> np.ndarray:
    """``(out, high - low) int64``, ascending: the least ``A`` for which ``gain * A + offset`` is rounded to ``low + 1``, ``low + 2`` ...

    ``gain``: (out,), not negative. An offset that float32 holds only nearly counts as the half of an integer, in units of the
    accumulator, that it was settled on (:mod:`edgeq.keras.lowbit.settle`).
    """
    levels = np.arange(g.low + 1, g.high + 1)
    edges = np.zeros(len(levels)) if g.ties == "sign" else levels - 0.5
    still = gain == 0
    per = np.where(still, 1, gain)[:, None]
    b = offset / per[:, 0]
    half = np.rint(2 * b) / 2
    b = np.where(~still & np.isclose(b, half, rtol=1e-6, atol=1e-3), half, b)
    with np.errstate(over="ignore"):
        exact = edges * np.float64(g.step) / per - b[:, None]
    near = np.rint(exact)  # a tie that float64 holds only nearly, such as the ninths of a 3x3 pool
    exact = np.where(np.isclose(exact, near, rtol=1e-12, atol=1e-9), near, exact)
    at = np.ceil(np.clip(exact, -NEVER, NEVER)).astype(np.int64)
    if g.ties == "even":  # an exact half goes to the even level: not up, where the level above is odd
        at += (at == exact) & (levels % 2 == 1)
    return np.where(still[:, None], np.where(at <= 0, -NEVER, NEVER), at)
