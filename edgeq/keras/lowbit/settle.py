"""For the last epochs: offsets and gains onto the accumulators' grids, where kernels can state them, and only kernels train on.

A layer's level is ``round((A + B) / D)`` of its integer accumulator ``A``. With ``D`` an integer, and ``B`` an integer where ``D`` is odd
and half of an odd number where it is even, every threshold ``(k - 1/2) D - B`` lies in the middle between two integers. So nothing is ever
a tie, float32 in training computes what the integers mean, and a kernel has half a step of the accumulator, on either side of every
threshold, for its own way of rounding: if weights have at most 6 bits, and int8 holds them three times over or more, all runtimes fit
in there. The finer an accumulator, the less this moves: ``D`` by at most 1/2, which gamma takes on. A sign's only threshold is ``-B``: half
of an odd number, whatever ``D`` is.
Between two grids (a shortcut, what follows an add) the accumulator is a code, and ``D`` the ratio of two steps: an odd multiple of 1/8
keeps every threshold 1/16 away from a code. Where weights have a step that nothing can move (DoReFa's, in a shortcut's convolution without
normalisation), what lies behind takes on theirs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.keras.fold import affine
from edgeq.keras.lowbit.layers import QuantizedAdd, Wrapper
from edgeq.keras.lowbit.trained import before, grid, kernel, quantizers, unit
from edgeq.keras.quantizers.portable import Portable

LEAST = 8  # a smaller D stays as it is: few thresholds, and weights of few bits, leave certificates room enough


def settle(model: Any) -> None:
    """:func:`snap`, and hold all that was snapped: steps, gains, offsets. Batch normalisation keeps its averages from here on."""
    snap(model)
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.trainable = False
        elif isinstance(layer, Wrapper) and getattr(layer.layer, "use_bias", False) and kernel(layer):
            _hold(layer.layer, layer.layer.bias)
    for layer, quantizer, variables in quantizers(model):
        if quantizer.learned:
            _hold(layer, variables["gain"])


def snap(model: Any) -> None:
    """Thresholds between integers, wherever a step, gain or offset can be moved for it. A second time nothing changes, unless a one-bit
    step followed its weights."""
    for layer in model.layers:
        _between_grids(layer)
    for layer in model.layers:
        if kernel(layer) and before(layer) and unit(before(layer)[0]) is not None:
            _behind_weights(layer)


def _between_grids(layer: Any) -> None:
    given = next((float(u) for b in before(layer) if (u := unit(b)) is not None), None)
    if isinstance(layer, QuantizedAdd):
        quantizer, variables = layer.quantizer, layer.quantizer_variables
    elif isinstance(layer, Wrapper) and layer._output_quantizers:
        quantizer, variables = layer._output_quantizers[0], layer._output_quantizer_vars
    else:
        return
    if not quantizer.sized or isinstance(quantizer, Portable):
        return
    step = float(quantizer.unit(variables))
    if given is not None:
        variables["gain"].assign(variables["gain"] * ((2 * np.floor(4 * step / given) + 1) / 8 * given / step))
    elif scale := next((w for b in before(layer) if (w := _fixed(b))), None):
        whole = round(step / scale)
        variables["gain"].assign(variables["gain"] * (whole * scale / step if whole >= LEAST else 1))


def _fixed(layer: Any) -> float | None:
    """The real value of one step of the accumulator behind a convolution whose weights have one step that is not learned; else None."""
    weights, given = kernel(layer), unit(before(layer)[0]) if before(layer) else None
    if weights is None or given is None or layer._weight_vars[0][1].sized or np.ptp(weights.scale):
        return None
    return float(given) * float(weights.scale.flat[0])


def _behind_weights(layer: Any) -> None:
    weights = kernel(layer)
    assert weights is not None
    bias = layer.layer.bias if layer.layer.use_bias else None
    behind = [node.outbound_layer for node in layer.outbound_nodes]
    norm = next((b for b in behind if type(b).__name__ == "BatchNormalization"), None)
    after = [node.outbound_layer for node in norm.outbound_nodes] if norm is not None else behind
    step = unit(after[0]) if after else None  # None: the logits, whose D is a power of two
    scale = float(unit(before(layer)[0])) * weights.scale
    gain = affine(norm)[0] if norm is not None else np.ones(1)
    alive = gain != 0
    d = np.full(np.broadcast_shapes(scale.shape, gain.shape), 2.0)
    if step is not None:
        d = float(step) / (scale * np.where(alive, gain, 1))
        whole = np.where(np.abs(d) < LEAST, d, np.rint(d))
        quantizer, variables = layer._weight_vars[0][1:]
        if norm is not None and norm.scale:
            norm.gamma.assign(np.where(alive, norm.gamma.numpy() * d / whole, 0).astype(np.float32))
            d = whole
        elif norm is None and quantizer.sized and not isinstance(quantizer, Portable):
            size = tuple(variables["gain"].shape)
            factor = (d / whole)[:: d.size // math.prod(size)]  # the channels that come of one depthwise channel share its step
            variables["gain"].assign(variables["gain"] * factor.reshape(size).astype(np.float32))
            scale, d = scale * d / whole, whole
    sign = bool(after and (following := grid(after[0])) and following.ties == "sign")
    half = np.where((np.rint(d) % 2 == 0) | sign, 0.5, 0)
    gain, offset = affine(norm) if norm is not None else (np.ones(1), 0.0)
    at = offset / np.where(alive, gain, 1) + (0 if bias is None else bias.numpy())
    moved = (np.rint(at / scale - half) + half) * scale - at
    if norm is not None and norm.center:
        norm.beta.assign_add(np.where(alive, gain * moved, 0).astype(np.float32))
    elif bias is not None:
        bias.assign((bias.numpy() + np.where(alive, moved, 0)).astype(np.float32))


def _hold(layer: Any, variable: Any) -> None:
    if not variable._trainable:
        return
    variable._trainable = False  # for what a layer tracks in a dict
    layer._trainable_weights = [w for w in layer._trainable_weights if w is not variable]
    layer._non_trainable_weights.append(variable)
