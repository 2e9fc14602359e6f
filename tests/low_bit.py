"""Small low-bit networks for tests, untrained: batch normalisation with random statistics, gammas of both signs and zeros among them.

``settled(net, quant)`` is a network as the end of a training leaves it, ``frozen(net, quant)`` its integer graph; both are made once a
process. ``net``: a key of ``SHAPES``; ``images(net)``: what their steps were set by.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from edgeq.integer.graph import Graph
from edgeq.integer.simulate import simulate
from edgeq.keras import engine, train
from edgeq.keras.freeze import freeze
from edgeq.keras.lowbit import trained
from edgeq.keras.quantizers import parse

SHAPES = {"digits_cnn": (8, 8, 1), "resnet8": (16, 16, 3), "b19_cifar10": (16, 16, 3), "mixed": (11, 15, 3), "largest": (9, 9, 1)}
WIDTHS = {"digits_cnn": 0.25, "resnet8": 0.15, "b19_cifar10": 0.05}


def images(net: str, n: int = 32) -> np.ndarray:
    """``(n, h, w, c) uint8``: noise, one half of it dark."""
    pixels = np.random.default_rng(1).integers(0, 256, (n, *SHAPES[net]))
    return (pixels >> (np.arange(n) % 2 * 3).reshape(-1, 1, 1, 1)).astype(np.uint8)


def codes(net: str, n: int = 32) -> np.ndarray:
    """The images as a frozen network takes them."""
    return (images(net, n).astype(np.int16) - 128).astype(np.int8)


def mixed() -> Any:
    """Strides, dilation, pads, depthwise kernels with a multiplier, ReLU6, both residual adds, layers without normalisation."""
    layers = engine.tensorflow().keras.layers
    image = layers.Input(SHAPES["mixed"])
    x = layers.ZeroPadding2D(((1, 0), (0, 1)))(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(5, 3, 2, padding="same")(x)))
    x = layers.ReLU()(layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", use_bias=False)(layers.Dropout(0.5)(x)))
    x = layers.ReLU()(layers.Add()([x, y]))
    y = layers.BatchNormalization()(layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x))
    x = layers.Activation("relu")(layers.Add()([layers.Conv2D(10, 1, 2)(x), y]))
    x = layers.Conv2D(8, 2)(layers.MaxPooling2D(2, 1, padding="same")(x))
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return _classifier(image, layers.GlobalAveragePooling2D()(x), "mixed")


def largest() -> Any:
    """Ends in a maximum over all pixels."""
    layers = engine.tensorflow().keras.layers
    image = layers.Input(SHAPES["largest"])
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(layers.Conv2D(6, 3)(image)))
    x = layers.ReLU()(layers.BatchNormalization(center=False)(layers.Conv2D(7, 3)(x)))
    return _classifier(image, layers.GlobalMaxPooling2D()(x), "largest")


def _classifier(image: Any, features: Any, name: str) -> Any:
    keras = engine.tensorflow().keras
    return keras.Model(image, keras.layers.Dense(4, activation="softmax")(features), name=name)


def floating(net: str) -> Any:
    """The float network, with the statistics of a trained one."""
    if net in WIDTHS:
        size = WIDTHS[net], 10, SHAPES[net]
        model = train.foldable(train.network(net, *size, 0), net, *size)
    else:
        engine.tensorflow().keras.utils.set_random_seed(0)
        model = {"mixed": mixed, "largest": largest}[net]()
    shake(model)
    return model


def shake(model: Any) -> None:
    """Statistics and gains at random; of every batch normalisation the first channel has a gamma of 0, others are negative."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer).__name__ != "BatchNormalization":
            continue
        n = int(layer.moving_mean.shape[0])
        if layer.scale:
            gamma = rng.uniform(0.5, 1.5, n) * rng.choice([-1, 1], n, p=[0.3, 0.7])
            layer.gamma.assign(np.where(np.arange(n) == 0, 0, gamma))
        if layer.center:
            layer.beta.assign(rng.normal(0, 0.5, n))
        layer.moving_mean.assign(rng.normal(0, 1, n))
        layer.moving_variance.assign(rng.uniform(0.5, 2, n))


@lru_cache
def settled(net: str, quant: str) -> Any:
    scheme = parse(quant)
    model = train.lower(floating(net), scheme, "int8", images(net), 0)
    if scheme.a != 32:
        train.settle(model)
    return model


@lru_cache
def frozen(net: str, quant: str) -> Graph:
    return freeze(settled(net, quant), images(net))


def activations(model: Any, images: np.ndarray) -> dict[str, np.ndarray]:
    """Layer -> Keras's float32 outputs in steps, which must be whole, of every layer that has a grid."""
    held = [layer for layer in model.layers if trained.grid(layer)]
    outputs = engine.tensorflow().keras.Model(model.input, [layer.output for layer in held])(images.astype(np.float32), training=False)
    found = {}
    for layer, output in zip(held, outputs, strict=True):
        steps = output.numpy() / np.float32(trained.grid(layer).step)
        assert np.abs(steps - np.rint(steps)).max() < 1e-3
        found[trained.inner(layer).name] = np.rint(steps).astype(int)
    return found


def values(graph: Graph, codes: np.ndarray) -> dict[str, np.ndarray]:
    """Tensor -> the frozen network's codes less their zero point."""
    kept = simulate(graph, codes, keep=True)
    return {t.name: kept[i].astype(int) - int(t.zero[0]) for i, t in enumerate(graph.tensors) if i in kept}


def assert_frozen(model: Any, graph: Graph, images: np.ndarray) -> None:
    """The graph's codes are Keras's, and the logits' top is."""
    got, wanted = values(graph, (images.astype(np.int16) - 128).astype(np.int8)), activations(model, images)
    for name, output in wanted.items():
        np.testing.assert_array_equal(got[name].reshape(output.shape), output, err_msg=name)
        assert len(np.unique(output)) > 1, f"{name} is dead, which tests nothing"
    logits, top = got[graph.tensors[graph.output].name], model(images.astype(np.float32), training=False).numpy().argmax(axis=1)
    assert (logits[np.arange(len(top)), top] == logits.max(axis=1)).all()
    assert len(np.unique(logits)) > 10
