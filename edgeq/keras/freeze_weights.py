"""A network with quantised weights and float activations as an integer graph: DEQUANTIZE in front of float layers.

Pixels are dequantised once, weights as constants, batch normalisation goes into their scales and the bias. No kernel quantises anything by
itself: the hybrid kernels of TensorFlow Lite, integer weights straight into a float layer, would (and would not be this network).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph
from edgeq.keras.fold import affine
from edgeq.keras.quantizers.trained import before, inner, kernel

if TYPE_CHECKING:
    from edgeq.keras.freeze import Builder

ACTIVATIONS = {None: "relu", 6.0: "relu6"}


def freeze_weights(model: Any, b: Builder) -> Graph:
    """``b`` holds the input, int8. The output: ``(classes,) float32`` logits."""
    image = b.tensors[0]
    b.values[model.layers[0].name] = b.op("dequantize", (0,), b.tensor("pixels", image.shape, "float32"))
    for layer in model.layers[1:]:
        b.values[layer.name] = _layer(b, layer)
    return b.graph(b.values[model.layers[-1].name], model.name)


def _layer(b: Builder, layer: Any) -> int:
    held, given = inner(layer), [b.values[x.name] for x in before(layer)]
    kind, config = type(held).__name__, held.get_config()
    shape = tuple(int(d) for d in layer.output_shape[1:])
    if kind in ("Conv2D", "DepthwiseConv2D", "Dense"):
        return _linear(b, layer, given[0], shape)
    if kind == "BatchNormalization" or kind == "Dropout" or (kind, config.get("activation")) == ("Activation", "linear"):
        return int(given[0])  # the layer before took it on

    def y() -> int:
        return b.tensor(held.name, shape, "float32")

    if kind == "ReLU" or (kind, config.get("activation")) == ("Activation", "relu"):
        return b.op(ACTIVATIONS[config.get("max_value")], (given[0],), y())
    if kind == "Add":
        return b.op("add", tuple(given), y(), activation="none")
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        window, stride = tuple(config["pool_size"]), tuple(config["strides"])
        op = "max_pool" if kind[0] == "M" else "average_pool"
        return b.op(op, (given[0],), y(), window=window, stride=stride, padding=config["padding"], activation="none")
    if kind == "GlobalAveragePooling2D":
        return b.op("mean", (given[0],), y(), axes=(1, 2), keep=len(shape) == 3)
    if kind in ("Flatten", "Reshape"):
        return b.op("reshape", (given[0],), y(), shape=shape)
    raise EdgeqError(f"{held.name}: {kind} has no form here; use convolutions, dense layers, batch normalisation, ReLU, Add and pooling")


def _linear(b: Builder, layer: Any, x: int, shape: tuple[int, ...]) -> int:
    from edgeq.keras.freeze import KINDS

    held, trained = inner(layer), kernel(layer)
    kind, config = KINDS[type(held).__name__], held.get_config()
    stored = trained.codes if trained else (held.depthwise_kernel if kind == "depthwise" else held.kernel).numpy()
    options: dict[str, Any] = {"activation": "none"}
    if kind == "dense":
        weights, axis = stored.T, 0
    else:
        weights = stored.transpose(3, 0, 1, 2) if kind == "conv" else stored.reshape(1, *stored.shape[:2], -1)
        axis = 0 if kind == "conv" else 3
        options |= {"stride": tuple(config["strides"]), "dilation": tuple(config["dilation_rate"]), "padding": config["padding"]}
    if kind == "depthwise":
        options["multiplier"] = stored.shape[3]
    out = weights.shape[axis]
    step: Any = trained.step.astype(np.float64) if trained else 1.0
    step = np.broadcast_to(np.repeat(step, stored.shape[3]) if kind == "depthwise" and np.ndim(step) else step, out)
    offset = held.bias.numpy().astype(np.float64) if held.use_bias else np.zeros(out)
    behind = [node.outbound_layer for node in layer.outbound_nodes]
    if len(behind) == 1 and type(behind[0]).__name__ == "BatchNormalization":
        gain, shift = affine(behind[0])
        step, offset = step * gain, offset * gain + shift
    name = held.name
    if trained:
        if np.abs(weights).max(initial=0) > 127:
            raise EdgeqError(
                f"{name}: its trained weights go up to {np.abs(weights).max()} steps, which int8 cannot hold; train with lsq:w8"
            )
        sign = np.where(step < 0, -1, 1)
        codes = np.moveaxis(np.moveaxis(weights, axis, -1) * sign, -1, axis).astype(np.int8)
        w = b.tensor(name + "/weights", codes.shape, "int8", np.maximum(np.abs(step), 1e-30), 0, axis, codes)
        w = b.op("dequantize", (w,), b.tensor(name + "/float", codes.shape, "float32"))
    else:
        scaled = np.moveaxis(np.moveaxis(weights, axis, -1) * step, -1, axis).astype(np.float32)
        w = b.tensor(name + "/weights", scaled.shape, "float32", data=scaled)
    bias = b.tensor(name + "/bias", (out,), "float32", data=offset.astype(np.float32))
    return b.op(kind, (x, w, bias), b.tensor(name, shape, "float32"), **options)
