"""Batch normalisation as what it is at inference: one gain and one offset a channel, which the layer before it can take on."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.keras import engine

LINEAR = {"Conv2D": "kernel", "Dense": "kernel", "DepthwiseConv2D": "depthwise_kernel"}


def affine(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """``y = gain * x + offset`` of a BatchNormalization layer: ``(channels,) float64`` each (Ioffe and Szegedy 2015, algorithm 2)."""
    gamma = norm.gamma.numpy().astype(np.float64) if norm.scale else 1.0
    gain = gamma / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
    return gain, (norm.beta.numpy() if norm.center else 0.0) - gain * norm.moving_mean.numpy()


def fold(model: Any) -> Any:
    """The same function without batch normalisation: where it stands behind a layer with a kernel, that layer takes it on; its own
    place is taken by an identity of its name."""
    tf = engine.tensorflow()
    norms = {}
    for layer in model.layers:
        behind = [node.outbound_layer for node in layer.outbound_nodes]
        if type(layer).__name__ in LINEAR and len(behind) == 1 and type(behind[0]).__name__ == "BatchNormalization":
            norms[layer.name] = behind[0]
    gone = {norm.name for norm in norms.values()}

    def clone(layer: Any) -> Any:
        if layer.name in gone:
            return tf.keras.layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        return type(layer).from_config({**config, "use_bias": True} if layer.name in norms else config)

    folded = tf.keras.models.clone_model(model, clone_function=clone)
    for layer in model.layers:
        twin = folded.get_layer(layer.name)
        if layer.name not in norms:
            if layer.name not in gone:
                twin.set_weights(layer.get_weights())
            continue
        gain, offset = affine(norms[layer.name])
        name = LINEAR[type(layer).__name__]
        weights = getattr(layer, name).numpy()
        per = gain.reshape(weights.shape[-2:]) if name == "depthwise_kernel" else gain
        getattr(twin, name).assign((weights * per).astype(np.float32))
        twin.bias.assign((offset + gain * (layer.bias.numpy() if layer.use_bias else 0)).astype(np.float32))
    return folded
