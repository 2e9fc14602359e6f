"""edgeq's own small CNN for the 8x8 digits: two convolutions and a dense layer, 16 kB of weights as int8."""

from __future__ import annotations

from typing import Any

from edgeq.core.plugin_types import Network
from edgeq.keras import engine


def build(width: float = 1.0, classes: int = 10, input_shape: tuple[int, int, int] = (8, 8, 1)) -> Any:
    """``(h, w, c)`` raw pixels -> ``classes`` probabilities. ``width`` multiplies the 16 and 32 filters."""
    layers, model = engine.tensorflow().keras.layers, engine.tensorflow().keras.Model
    image = x = layers.Input(input_shape, name="image")
    for filters in (16, 32):
        x = layers.Conv2D(max(1, round(filters * width)), 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Flatten()(layers.MaxPooling2D()(x))
    return model(image, layers.Dense(classes, activation="softmax")(x), name="digits_cnn")


plugin: Network = build
