"""Quantisers around the layers of a float network, and what can be read off the network afterwards.

What is quantised, and on which grid (``w`` and ``a`` are the scheme's bits):

- the kernel of every convolution and dense layer: ``w`` bits. Of the first and the last: 8 bits by LSQ, a step a channel
  (``ends="int8"``, what an integer-only chip needs), or not at all (``ends="float"``, B19's rule in section 4.2, though its table 9
  names the first convolution's kernel as quantised). Biases stay float: they become part of the integer accumulator.
- the output of every ReLU, also the one behind a residual add: ``a`` bits without sign. BinaryNet has the sign function in its place.
- both branches into a residual add: signed, on **one** learned step, so that the sum of their codes is exact. A branch's codes have
  ``max(4, a + 1)`` bits, at most 8: the shortcut is a ReLU's output, and its codes fit without loss where both steps agree.
- an average pool in front of the last layer: 8 bits without sign, on its own step (a mean of codes is on a finer grid than they are).

With ``a`` = 32 only kernels are. The pixels are integers already, the logits stay as they are: what a file does with them is the export's.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.keras import engine
from edgeq.keras.quantizers import Ends, Scheme
from edgeq.keras.quantizers._base import CEILING, FLOOR, Quantizer, tf, tfmot
from edgeq.keras.quantizers.lsq import LSQ

Wrapper = engine.need("tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper").QuantizeWrapperV2
WEIGHTS = {"Conv2D": ("kernel", -1), "Dense": ("kernel", -1), "DepthwiseConv2D": ("depthwise_kernel", -2)}
"""Layers with a kernel: its name and the axis of its channels."""
MOMENTUM = 0.9
"""Of the moving averages of batch normalisation: with Keras's 0.99 a fine-tuning of some hundred steps ends far from its averages."""


class Config(tfmot.quantization.keras.QuantizeConfig):
    """Quantise the kernel called ``attribute``, or the output, or nothing of a layer."""

    def __init__(self, attribute: str = "", kernel: Quantizer | None = None, output: Quantizer | None = None) -> None:
        self.attribute, self.kernel, self.output = attribute, kernel, output

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        return [(getattr(layer, self.attribute), self.kernel)] if self.kernel else []

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if quantize_weights:
            setattr(layer, self.attribute, quantize_weights[0])

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        return [self.output] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {}  # such networks are rebuilt, not deserialised: see train.restore


class QuantizedAdd(tf.keras.layers.Add):
    """A residual add whose branches are quantised on one learned step."""

    def __init__(self, bits: int = 8, **options: Any) -> None:
        super().__init__(**options)
        self.quantizer = LSQ(bits, images=True)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.quantizer_variables = self.quantizer.build(input_shape[0], "branch", self)

    def call(self, inputs: list[Any]) -> Any:
        if self.quantizer.beginning:  # one step for both: the larger
            starts = [self.quantizer.begin(x) for x in inputs]
            self.quantizer_variables["start"].assign(tf.maximum(*starts))
        parts = [self.quantizer.split(x, self.quantizer_variables) for x in inputs]
        return (parts[0][0] + parts[1][0]) * parts[0][1]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bits": self.quantizer.bits}


def branch_bits(a: int) -> int:
    return min(8, max(4, a + 1))


def wrap(model: Any, scheme: Scheme, ends: Ends = "int8") -> Any:
    """``model`` with the scheme around its layers, its weights kept. Call :func:`begin` before training it from there.

    Raises :class:`EdgeqError` where a layer that holds a kernel or an activation is none that can be quantised, naming it.
    """
    layers = tf.keras.layers
    holders = [layer.name for layer in model.layers if type(layer).__name__ in WEIGHTS]
    if len(holders) < 3:
        raise EdgeqError(f"{model.name}: it has {len(holders)} layers with weights; quantising between the first and the last needs three")
    weights = import_module(f"edgeq.keras.quantizers.{scheme.weights}").weights
    activations = import_module(f"edgeq.keras.quantizers.{scheme.activations}").activations if scheme.activations else None

    def clone(layer: Any) -> Any:
        kind, config = type(layer).__name__, layer.get_config()
        if kind in WEIGHTS:
            if config["activation"] not in ("linear", "softmax"):
                raise EdgeqError(
                    f"{layer.name}: its activation is fused into it; put batch normalisation and a ReLU layer behind it instead"
                )
            attribute, axis = WEIGHTS[kind]
            fresh = type(layer).from_config(config)
            if layer.name not in (holders[0], holders[-1]):
                return Wrapper(fresh, Config(attribute, weights(scheme.w, axis if scheme.channel else None)))
            return Wrapper(fresh, Config(attribute, LSQ(8, axis))) if ends == "int8" else fresh
        if kind == "BatchNormalization":
            return type(layer).from_config({**config, "momentum": min(config["momentum"], MOMENTUM)})
        if activations is None:
            return type(layer).from_config(config)
        if kind == "ReLU" or (kind == "Activation" and config["activation"] == "relu"):
            if scheme.activations == "binarynet":
                return Wrapper(layers.Activation("linear", name=layer.name), Config(output=activations(1)))
            return Wrapper(type(layer).from_config(config), Config(output=activations(scheme.a)))
        if kind == "Add":
            return QuantizedAdd(branch_bits(scheme.a), name=layer.name)
        if kind in ("AveragePooling2D", "GlobalAveragePooling2D"):
            signed = scheme.activations == "binarynet"
            return Wrapper(type(layer).from_config(config), Config(output=LSQ(8, signed=signed, images=True)))
        if kind not in ("InputLayer", "MaxPooling2D", "Flatten", "Reshape", "Dropout", "ZeroPadding2D", "GlobalMaxPooling2D"):
            raise EdgeqError(f"{layer.name}: edgeq has no quantised form of {kind}; use ReLU, Add, pooling and batch normalisation")
        return type(layer).from_config(config)

    quantised = tf.keras.models.clone_model(model, clone_function=clone)
    twins = {_inner(layer).name: layer for layer in quantised.layers}
    for layer in model.layers:
        _copy(layer, twins[layer.name])
    return quantised


def _inner(layer: Any) -> Any:
    return layer.layer if isinstance(layer, Wrapper) else layer


def _copy(old: Any, new: Any) -> None:
    if isinstance(new, Wrapper) and new._weight_vars:  # the wrapped layer's own kernel is a tensor once it was called
        new._weight_vars[0][0].assign(getattr(old, WEIGHTS[type(old).__name__][0]))
        if old.use_bias:
            new.layer.bias.assign(old.bias)
    elif old.weights:
        new.set_weights(old.get_weights())


def begin(model: Any, images: np.ndarray) -> None:
    """Set every step and clip from the kernels and from ``(n, h, w, c) uint8`` images, layer by layer, as each sees what is quantised
    before it; and the moving averages of batch normalisation to these images, as other weights have other sums."""
    found = [q for _, q, _ in quantizers(model)]
    averages = [w for layer in model.layers if type(layer).__name__ == "BatchNormalization" for w in layer.non_trainable_weights]
    before = [w.numpy() for w in averages]
    for quantizer in found:
        quantizer.beginning = True
    try:
        model(tf.cast(images, tf.float32), training=True)
    finally:
        for quantizer in found:
            quantizer.beginning = False
    for weight, old in zip(averages, before, strict=True):
        weight.assign(old + (weight.numpy() - old) / (1 - MOMENTUM))


def quantizers(model: Any) -> list[tuple[Any, Quantizer, dict[str, Any]]]:
    """``(layer, quantiser, its variables)`` of every quantiser in the network, in the order of its layers."""
    found = []
    for layer in model.layers:
        if isinstance(layer, QuantizedAdd):
            found.append((layer, layer.quantizer, layer.quantizer_variables))
        elif isinstance(layer, Wrapper):
            found += [(layer, quantizer, variables) for _, quantizer, variables in layer._weight_vars]
            if layer._output_quantizers:
                found.append((layer, layer._output_quantizers[0], layer._output_quantizer_vars))
    return found


@dataclass(frozen=True, eq=False)
class Kernel:
    """``value = codes * step``, exactly as float32. ``codes``: int32 in Keras's layout; ``step``: ``()`` or ``(channels,)`` float32,
    along the last axis, of a depthwise kernel ``(kh, kw, channels, multiplier)`` along the third."""

    codes: np.ndarray
    step: np.ndarray
    bits: int


@dataclass(frozen=True, eq=False)
class Grid:
    """The values ``step * code`` for ``low <= code <= high`` that an activation takes; ``codes`` of ``(...) float32`` values.

    For :class:`QuantizedAdd`: the grid of each branch; the sum has the same step and twice the range.
    """

    step: np.float32
    low: int
    high: int
    bits: int
    codes: Any


def kernel(layer: Any) -> Kernel | None:
    """The trained integer weights of a wrapped layer; None where its kernel is float."""
    if not isinstance(layer, Wrapper) or not layer._weight_vars:
        return None
    variable, quantizer, variables = layer._weight_vars[0]
    codes, step = quantizer.levels(variable, variables)
    return Kernel(codes, step, quantizer.bits)


def grid(layer: Any) -> Grid | None:
    """The grid of a layer's output, or of an add's branches; None where it is float."""
    if isinstance(layer, QuantizedAdd):
        quantizer, variables = layer.quantizer, layer.quantizer_variables
    elif isinstance(layer, Wrapper) and layer._output_quantizers:
        quantizer, variables = layer._output_quantizers[0], layer._output_quantizer_vars
    else:
        return None
    step = np.float32(quantizer.step(variables))
    return Grid(step, quantizer.low, quantizer.high, quantizer.bits, lambda x: quantizer.levels(x, variables)[0])


def exploded(model: Any) -> list[str]:
    """A sentence for each quantiser whose step or clip is not finite, ran away, or lies at its floor."""
    said = []
    for layer, quantizer, variables in quantizers(model):
        if not quantizer.learned:
            continue
        gain, name, what = variables["gain"].numpy(), _inner(layer).name, "clip" if type(quantizer).__name__ == "PACT" else "step"
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
        return [_inner(layer).name for layer, still in zip(self.layers, flat, strict=True) if still]
