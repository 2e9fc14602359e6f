"""MLPerf-Tiny's image classifier: a ResNet of three blocks (Banbury et al. 2021, *MLPerf Tiny Benchmark*; mlcommons/tiny).

Layer by layer the published ``pretrainedResnet.h5`` (tested where that file is at hand), so its weights can be the start of a training.
"""

from __future__ import annotations

from typing import Any

from edgeq.core.plugin_types import Network
from edgeq.keras import engine


def build(width: float = 1.0, classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3)) -> Any:
    """``(h, w, c)`` raw pixels -> ``classes`` probabilities. ``width`` multiplies the 16, 32 and 64 filters."""
    keras = engine.tensorflow().keras
    layers = keras.layers

    def conv(x: Any, filters: int, size: int, stride: int) -> Any:
        return layers.Conv2D(
            filters, size, stride, padding="same", kernel_initializer="he_normal", kernel_regularizer=keras.regularizers.L2(1e-4)
        )(x)

    def norm(x: Any) -> Any:
        return layers.BatchNormalization()(x)

    def relu(x: Any) -> Any:
        return layers.Activation("relu")(x)

    a, b, c = (max(1, round(f * width)) for f in (16, 32, 64))
    image = layers.Input(input_shape, name="image")
    x = relu(norm(conv(image, a, 3, 1)))
    for filters, stride in ((a, 1), (b, 2), (c, 2)):
        y = relu(norm(conv(x, filters, 3, stride)))
        y = norm(conv(y, filters, 3, 1))
        shortcut = x if stride == 1 else conv(x, filters, 1, stride)  # no batch normalisation on this path
        x = relu(layers.Add()([shortcut, y]))
    size = (int(x.shape[1]), int(x.shape[2]))
    x = layers.Flatten()(layers.AveragePooling2D(size)(x))
    return keras.Model(image, layers.Dense(classes, activation="softmax", kernel_initializer="he_normal")(x), name="resnet8")


plugin: Network = build
