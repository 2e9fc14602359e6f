"""What can be read off a network with quantised layers: integer weights, the grids of activations, and whether its training went well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.keras.lowbit.layers import QuantizedAdd, QuantizedPool, Wrapper
from edgeq.keras.quantizers._base import CEILING, FLOOR, Quantizer, tf


def inner(layer: Any) -> Any:
    """The layer inside a wrapper, or the layer itself."""
    return layer.layer if isinstance(layer, Wrapper) else layer


def quantizers(model: Any) -> list[tuple[Any, Quantizer, dict[str, Any]]]:
    """``(layer, quantiser, its variables)`` of every quantiser in the network, in the order of its layers."""
    several = []
    for layer in model.layers:
        if isinstance(layer, QuantizedAdd):
            several.append((layer, layer.quantizer, layer.quantizer_variables))
        elif isinstance(layer, Wrapper):
            several += [(layer, quantizer, variables) for _, quantizer, variables in layer._weight_vars]
            if layer._output_quantizers:
                several.append((layer, layer._output_quantizers[0], layer._output_quantizer_vars))
    return several


@dataclass(frozen=True, eq=False)
class Kernel:
    """``value = codes * step``, exactly as float32. ``codes``: int32 in Keras's layout; ``step``: ``()`` or ``(channels,)`` float32,
    along the last axis, of a depthwise kernel ``(kh, kw, channels, multiplier)`` along the third."""

    codes: np.ndarray
    step: np.ndarray
    bits: int
    depthwise: bool = False

    @property
    def scale(self) -> np.ndarray:
        """The real value of one code, () or a number for each channel that comes out; float64."""
        step = self.step.astype(np.float64)
        return np.repeat(step, self.codes.shape[-1]) if self.depthwise and step.ndim else step


@dataclass(frozen=True)
class Grid:
    """The values ``step * code`` for ``low <= code <= high`` that an activation takes.

    For :class:`QuantizedAdd`: the grid of each branch; the sum has the same step and twice the range. ``ties``: where a value between two
    codes goes: to the "even" one, "up", or "sign" where there are but two codes, and zero belongs to the upper.
    """

    step: float  # in float32, but for logits
    low: int
    high: int
    bits: int
    ties: str = "even"


def kernel(layer: Any) -> Kernel | None:
    """The trained integer weights of a wrapped layer; None where its kernel is float."""
    if not isinstance(layer, Wrapper) or not layer._weight_vars:
        return None
    variable, quantizer, variables = layer._weight_vars[0]
    codes, step = quantizer.levels(variable, variables)
    return Kernel(codes, step, quantizer.bits, type(inner(layer)).__name__ == "DepthwiseConv2D")


def grid(layer: Any) -> Grid | None:
    """The grid of a layer's output, or of an add's branches; None where it is float."""
    if isinstance(layer, QuantizedPool):
        return Grid(float(layer.unit()), layer.low, layer.high, 8, "up")
    if isinstance(layer, QuantizedAdd):
        quantizer, variables = layer.quantizer, layer.quantizer_variables
    elif isinstance(layer, Wrapper) and layer._output_quantizers:
        quantizer, variables = layer._output_quantizers[0], layer._output_quantizer_vars
    else:
        return None
    return Grid(float(quantizer.step(variables)), quantizer.low, quantizer.high, quantizer.bits, quantizer.ties)


PASSING = ("MaxPooling2D", "Flatten", "Reshape", "Dropout", "ZeroPadding2D", "GlobalMaxPooling2D")
"""Layers whose outputs are some of their inputs."""


def before(layer: Any) -> list[Any]:
    """The layers whose outputs ``layer`` takes."""
    inbound = layer.inbound_nodes[0].inbound_layers if layer.inbound_nodes else []
    return inbound if isinstance(inbound, list) else [inbound]


def unit(layer: Any) -> Any:
    """The real value of one code of the layer's output, () float32 tensor, in training and after it; None where its output is float."""
    if isinstance(layer, QuantizedPool):
        return layer.unit()
    if isinstance(layer, QuantizedAdd):
        return layer.quantizer.unit(layer.quantizer_variables)
    if isinstance(layer, Wrapper) and layer._output_quantizers:
        return layer._output_quantizers[0].unit(layer._output_quantizer_vars)
    kind = type(inner(layer)).__name__
    if kind == "InputLayer":
        return tf.constant(1.0)  # raw pixels
    return unit(before(layer)[0]) if kind in PASSING else None


def exploded(model: Any) -> list[str]:
    """A sentence for each quantiser whose step or clip is not finite, ran away, or lies at its floor."""
    said = []
    for layer, quantizer, variables in quantizers(model):
        if not quantizer.learned:
            continue
        gain, name, what = variables["gain"].numpy(), inner(layer).name, "clip" if type(quantizer).__name__ == "PACT" else "step"
        if not np.isfinite(gain).all():
            said.append(f"{name}: its {what} is not finite; lower the rate")
        elif gain.max() > CEILING:
            said.append(f"{name}: its {what} grew to {gain.max():.0f} times its start; lower the rate, or take more bits")
        elif gain.max() <= FLOOR:  # of a step a channel: all of them
            said.append(f"{name}: its {what} fell to a {1 / FLOOR:.0f}th of its start; lower the rate, or take more bits")
    return said


class Pulse:
    """Which activations have died: all outputs of a quantised layer are on one level for every one of some images."""

    def __init__(self, model: Any, images: np.ndarray) -> None:
        self.layers = [layer for layer in model.layers if isinstance(layer, Wrapper) and layer._output_quantizers]
        self.images = tf.cast(images, tf.float32)
        self.probe = tf.keras.Model(model.input, [layer.output for layer in self.layers]) if self.layers else None

    def dead(self) -> list[str]:
        """Names of the layers."""
        if self.probe is None:
            return []
        outputs = self.probe(self.images, training=False)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        flat = [float(tf.reduce_max(o) - tf.reduce_min(o)) == 0 for o in outputs]
        return [inner(layer).name for layer, still in zip(self.layers, flat, strict=True) if still]
