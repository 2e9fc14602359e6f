"""Quantisers around the layers of a float network.

What is quantised, and on which grid (``w`` and ``a`` are the scheme's bits):

- the kernel of every convolution and dense layer: ``w`` bits. Of the first and the last: int8, of which LSQ uses 6 bits, a step a channel
  in the first and one step in the last. int8 holds such weights four times over, and without that room neither the first layer's
  thresholds nor the logits would be the same on every runtime. With float activations nothing is gained by that, and it uses 8 bits.
  Or neither is quantised (``ends="float"``, B19's rule in section 4.2, though its table 9 names the first convolution's kernel as
  quantised). Biases stay float: they become part of the integer accumulator (:mod:`.settle`).
- the output of every ReLU, also the one behind a residual add: ``a`` bits without sign. BinaryNet has the sign function in its place.
- both branches into a residual add: signed, on **one** learned step, so that the sum of their codes is exact. A branch's codes have
  ``max(4, a + 1)`` bits, at most 7: the sum of two has one more, and must fit int8.
- an average pool in front of the last layer: 8 bits, on a step that is a power of two times its input's.

With ``a`` = 32 only kernels are. The pixels are integers already, the logits stay as they are: what a file does with them is the export's.
Batch normalisation keeps gamma from falling below zero (a negative one is turned around with its kernel first), so that more accumulator
never means less activation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.keras.fold import fold
from edgeq.keras.lowbit.layers import WEIGHTS, Config, QuantizedAdd, QuantizedPool, Wrapper
from edgeq.keras.lowbit.trained import PASSING, before, inner, quantizers, unit
from edgeq.keras.quantizers import Ends, Scheme
from edgeq.keras.quantizers._base import tf
from edgeq.keras.quantizers.lsq import LSQ

MOMENTUM = 0.9
"""Of the moving averages of batch normalisation: with Keras's 0.99 a fine-tuning of some hundred steps ends far from its averages."""
POOLS = ("AveragePooling2D", "GlobalAveragePooling2D")
ENDS = 6  # bits of the weights of the first and the last layer


def wrap(model: Any, scheme: Scheme, ends: Ends = "int8") -> Any:
    """``model`` with the scheme around its layers, its weights kept. Call :func:`begin` before training it from there.

    Raises :class:`EdgeqError` where a layer that holds a kernel or an activation is none that can be quantised, naming it.
    """
    model = fold(model) if scheme.weights == "portable" else model
    holders = [layer.name for layer in model.layers if type(layer).__name__ in WEIGHTS]
    if len(holders) < 3:
        raise EdgeqError(f"{model.name}: it has {len(holders)} layers with weights; quantising between the first and the last needs three")
    weights = plugins.load(plugins.QUANTISERS, scheme.weights).weights
    chosen = plugins.load(plugins.QUANTISERS, scheme.activations) if scheme.activations else None
    twins: dict[str, Any] = {}

    def kernel_of(name: str, axis: int) -> Any:
        if scheme.weights == "portable" or name not in (holders[0], holders[-1]):
            return weights(scheme.w, axis if scheme.channel and name != holders[-1] else None)
        return LSQ(ENDS, None if name == holders[-1] else axis) if chosen else LSQ(8, axis)

    def clone(layer: Any) -> Any:
        kind, config = type(layer).__name__, layer.get_config()
        if kind in WEIGHTS:
            if config["activation"] not in ("linear", "softmax"):
                raise EdgeqError(
                    f"{layer.name}: its activation is fused into it; put batch normalisation and a ReLU layer behind it instead"
                )
            attribute, axis = WEIGHTS[kind]
            fresh = type(layer).from_config(config)
            if ends == "float" and layer.name in (holders[0], holders[-1]):
                return fresh
            return Wrapper(fresh, Config(attribute, kernel_of(layer.name, axis)))
        if kind == "BatchNormalization":
            kept = {"momentum": min(config["momentum"], MOMENTUM), "gamma_constraint": tf.keras.constraints.NonNeg()}
            return type(layer).from_config({**config, **kept})
        if chosen is None:
            return type(layer).from_config(config)
        if kind == "ReLU" and (config["negative_slope"] or config["threshold"]):
            raise EdgeqError(f"{layer.name}: edgeq has no quantised form of a ReLU with a slope or a threshold; use a plain one")
        if kind == "ReLU" or (kind == "Activation" and config["activation"] == "relu"):
            if scheme.activations == "binarynet":
                return Wrapper(tf.keras.layers.Activation("linear", name=layer.name), Config(output=chosen.activations(1)))
            return Wrapper(type(layer).from_config(config), Config(output=chosen.activations(scheme.a)))
        if kind == "Add":
            bits = min(7, max(4, scheme.a + 1))
            return QuantizedAdd(chosen.branches(bits) or LSQ(bits, images=True), name=layer.name)
        if kind in POOLS:
            flat, whole = kind[0] == "G", tuple(layer.input_shape[1:3])
            size = whole if flat else tuple(config["pool_size"])
            source = twins[before(layer)[0].name]
            if not _coded(before(layer)[0]):
                raise EdgeqError(f"{layer.name}: averages what is not quantised; put it behind a ReLU")
            if not flat and (tuple(config["strides"]) != size or config["padding"] != "valid"):
                raise EdgeqError(f"{layer.name}: edgeq has no quantised form of an average pool whose windows overlap or leave the image")
            return QuantizedPool(size, flat, scheme.activations == "binarynet", lambda: unit(source), name=layer.name)
        if kind not in ("InputLayer", *PASSING) and (kind, config.get("activation")) != ("Activation", "linear"):
            raise EdgeqError(f"{layer.name}: edgeq has no quantised form of {kind}; use ReLU, Add, pooling and batch normalisation")
        return type(layer).from_config(config)

    def remember(layer: Any) -> Any:
        return twins.setdefault(layer.name, clone(layer))

    quantised = tf.keras.models.clone_model(model, clone_function=remember)
    twins |= {inner(layer).name: layer for layer in quantised.layers}  # the input is no layer that is cloned
    for layer in model.layers:
        _copy(layer, twins[layer.name])
    return quantised


def _coded(layer: Any) -> bool:
    """Whether a layer of the float network will put out codes, or is the image."""
    kind = type(layer).__name__
    return _coded(before(layer)[0]) if kind in PASSING else kind in ("InputLayer", "ReLU", "Activation", "Add", *POOLS)


def _copy(old: Any, new: Any) -> None:
    if isinstance(new, Wrapper) and new._weight_vars:  # the wrapped layer's own kernel is a tensor once it was called
        new._weight_vars[0][0].assign(getattr(old, WEIGHTS[type(old).__name__][0]))
        if old.use_bias:
            new.layer.bias.assign(old.bias)
    elif type(old).__name__ == "BatchNormalization":
        _turn(before(new)[0], old, new)
    elif old.weights:
        new.set_weights(old.get_weights())


def _turn(linear: Any, old: Any, new: Any) -> None:
    """The weights of a batch normalisation, channels of negative gamma negated together with the kernel and bias in front of them."""
    new.set_weights(old.get_weights())
    part = inner(linear)
    if type(part).__name__ not in WEIGHTS or not new.scale or len(linear.outbound_nodes) > 1:
        return
    sign = np.where(new.gamma.numpy() < 0, -1, 1).astype(np.float32)
    attribute, axis = WEIGHTS[type(part).__name__]
    weights = linear._weight_vars[0][0] if isinstance(linear, Wrapper) else getattr(part, attribute)
    weights.assign(weights.numpy() * (sign if axis == -1 else sign.reshape(weights.shape[-2], -1)))
    if part.use_bias:
        part.bias.assign(part.bias * sign)
    new.gamma.assign(new.gamma * sign)
    new.moving_mean.assign(new.moving_mean * sign)


def begin(model: Any, images: np.ndarray) -> None:
    """Set every step and clip from the kernels and from ``(n, h, w, c) uint8`` images, layer by layer, as each sees what is quantised
    before it; and the moving averages of batch normalisation to these images, as other weights have other sums."""
    quantised = [q for _, q, _ in quantizers(model)] + [layer for layer in model.layers if isinstance(layer, QuantizedPool)]
    averages = [w for layer in model.layers if type(layer).__name__ == "BatchNormalization" for w in layer.non_trainable_weights]
    old_averages = [w.numpy() for w in averages]
    for quantizer in quantised:
        quantizer.beginning = True
    try:
        model(tf.cast(images, tf.float32), training=True)
    finally:
        for quantizer in quantised:
            quantizer.beginning = False
    for weight, old in zip(averages, old_averages, strict=True):
        weight.assign(old + (weight.numpy() - old) / (1 - MOMENTUM))
