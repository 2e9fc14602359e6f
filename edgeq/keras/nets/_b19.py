"""B19's table 8: six convolutions, two dense layers of 1,024 units, softmax (after Courbariaux et al. 2016, *BinaryNet*).

The table repeats "(2,2)" behind the rows of the fully connected layers; a pooling window has no meaning there and no row of those
layers names a MaxPooling: taken as a slip of the paper. Neither padding nor initialisation is stated: "same" and Keras's own are used.

Where a block pools, the paper's order is convolution, max-pooling, batch normalisation, ReLU. While its scale (gamma) is not negative,
pooling last is the same function at inference, as a maximum commutes with every function that never falls. So gamma is kept from
falling below 0 in training, and ``pool_last`` lays the same list of weights out as convolution, batch normalisation, ReLU, max-pooling,
which is what TF-MOT's int8 scheme knows and what folds into one integer kernel.
"""

from __future__ import annotations

from typing import Any

from edgeq.keras import engine


def build(filters: tuple[int, ...], name: str, width: float, classes: int, input_shape: tuple[int, int, int], pool_last: bool) -> Any:
    """``filters``: of the six convolutions; every second one pools. ``width`` multiplies them and the 1,024 units."""
    keras = engine.tensorflow().keras
    layers = keras.layers

    def norm(x: Any, constraint: Any = None) -> Any:
        return layers.BatchNormalization(gamma_constraint=constraint)(x)

    image = x = layers.Input(input_shape, name="image")
    for i, count in enumerate(filters):
        x = layers.Conv2D(max(1, round(count * width)), 3, padding="same", use_bias=False)(x)
        if i % 2 == 0:
            x = layers.ReLU()(norm(x))
        elif pool_last:
            x = layers.MaxPooling2D(2)(layers.ReLU()(norm(x, keras.constraints.NonNeg())))
        else:
            x = layers.ReLU()(norm(layers.MaxPooling2D(2)(x), keras.constraints.NonNeg()))
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.ReLU()(norm(layers.Dense(max(1, round(1024 * width)), use_bias=False)(x)))
    return keras.Model(image, layers.Dense(classes, activation="softmax")(x), name=name)
