"""A network with quantised weights and float activations as an integer graph: DEQUANTIZE in front of float layers.

Pixels are dequantised once, weights as constants, batch normalisation goes into their scales and the bias. No kernel quantises anything by
itself: the hybrid kernels of TensorFlow Lite, integer weights straight into a float layer, would (and would not be this network).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph
from edgeq.keras.fold import affine
from edgeq.keras.freeze_parts import KINDS, Builder, along, laid_out, moved, passes
from edgeq.keras.lowbit.trained import before, inner, kernel


def freeze_weights(model: Any, b: Builder) -> Graph:
    """``b`` holds the input, int8. The output: ``(classes,) float32`` logits."""
    image = b.tensors[0]
    b.values[model.layers[0].name] = b.op("dequantize", (0,), b.tensor("pixels", image.shape, "float32"))
    for layer in model.layers[1:]:
        b.values[layer.name] = _layer(b, layer)
    return b.graph(b.values[model.layers[-1].name], model.name)


def _layer(b: Builder, layer: Any) -> int:
    part, given = inner(layer), [b.values[x.name] for x in before(layer)]
    kind, config = type(part).__name__, part.get_config()
    shape = tuple(int(d) for d in layer.output_shape[1:])
    if kind in KINDS:
        return _linear(b, layer, given[0], shape)
    if passes(layer) or (kind == "BatchNormalization" and _norm(before(layer)[0]) is layer):
        return int(given[0])  # a normalisation was taken on by the layer before
    if (moves := moved(b, layer, given[0])) is not None:
        return moves

    def op(name: str, **options: Any) -> int:
        return b.op(name, tuple(given), b.tensor(part.name, shape, "float32"), **options)

    if (kind, config.get("activation")) == ("Activation", "relu"):
        return op("relu")
    if kind == "ReLU" and not part.negative_slope and not part.threshold and part.max_value in (None, 6):
        return op("relu" if part.max_value is None else "relu6")
    if kind == "Add":
        return op("add", activation="none")
    if kind == "AveragePooling2D":
        window, stride = tuple(config["pool_size"]), tuple(config["strides"])
        return op("average_pool", window=window, stride=stride, padding=config["padding"], activation="none")
    if kind == "GlobalAveragePooling2D":
        return op("mean", axes=(1, 2), keep=len(shape) == 3)
    raise EdgeqError(
        f"{part.name}: {kind} has no form here; use convolutions and dense layers, batch normalisation right behind them, ReLU or ReLU6, "
        "Add and pooling"
    )


def _norm(layer: Any) -> Any:
    """The batch normalisation that a layer with a kernel takes on; None where there is none."""
    behind = [node.outbound_layer for node in layer.outbound_nodes]
    alone = len(behind) == 1 and type(behind[0]).__name__ == "BatchNormalization" and type(inner(layer)).__name__ in KINDS
    return behind[0] if alone else None


def _linear(b: Builder, layer: Any, x: int, shape: tuple[int, ...]) -> int:
    part, trained = inner(layer), kernel(layer)
    kind, name = KINDS[type(part).__name__], part.name
    stored = trained.codes if trained else (part.depthwise_kernel if kind == "depthwise" else part.kernel).numpy()
    weights, axis, options = laid_out(part, stored)
    out = weights.shape[axis]
    step = np.broadcast_to(trained.scale if trained else 1.0, out)
    offset = part.bias.numpy().astype(np.float64) if part.use_bias else np.zeros(out)
    if (norm := _norm(layer)) is not None:
        gain, shift = affine(norm)
        step, offset = step * gain, offset * gain + shift
    if trained:
        if np.abs(weights).max(initial=0) > 127:
            raise EdgeqError(
                f"{name}: its trained weights go up to {np.abs(weights).max()} steps, which int8 cannot hold; train with lsq:w8"
            )
        codes = along(axis, weights, np.where(step < 0, -1, 1)).astype(np.int8)
        w = b.tensor(name + "/weights", codes.shape, "int8", np.maximum(np.abs(step), 1e-30), 0, axis, codes)
        w = b.op("dequantize", (w,), b.tensor(name + "/float", codes.shape, "float32"))
    else:
        w = b.tensor(name + "/weights", weights.shape, "float32", data=along(axis, weights, step).astype(np.float32))
    bias = b.tensor(name + "/bias", (out,), "float32", data=offset.astype(np.float32))
    return b.op(kind, (x, w, bias), b.tensor(name, shape, "float32"), **options, activation="none")
