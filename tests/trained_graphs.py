"""Integer graphs as :mod:`edgeq.keras.freeze` makes them, with thresholds and no biases, built without TensorFlow."""

from __future__ import annotations

import numpy as np
from random_graphs import Builder

from edgeq.integer.graph import Graph


def cuts(d: np.ndarray, b: np.ndarray, low: int, high: int) -> np.ndarray:
    """The least integers that ``(A + B) / D`` rounds to each level, ``(out, high - low)``; ``d``, ``b``: (out,)."""
    return np.ceil((np.arange(low + 1, high + 1) - 0.5) * d[:, None] - b[:, None]).astype(np.int64)


def settled(rng: np.random.Generator, d: np.ndarray, low: int, high: int, reach: float) -> np.ndarray:
    """Thresholds as :mod:`edgeq.keras.lowbit.settle` leaves them: in the middle between integers."""
    b = np.rint(rng.uniform(-reach, reach, len(d)) * d * (high - low)) + np.where(d % 2 == 0, 0.5, 0)
    return cuts(d, b, low, high)


class Trained(Builder):
    """Graphs as :mod:`edgeq.keras.freeze` makes them."""

    def layer(
        self, x: int, kind: str, weights: np.ndarray, thresholds: np.ndarray, low: int = 0, shape: tuple = (), **options: object
    ) -> int:
        """``shape``: of the output, where the layer strides."""
        high = low + thresholds.shape[1]
        if low == 0:
            scale, zero, activation = 0.37, 127 - high, "relu"
        elif (low, high) == (-128, 127):
            scale, zero, activation = 0.1, 0, "none"
        else:
            scale, zero, activation = -1 / low, 0 if low == -high else 127 - high, "relu_n1_to_1"
        window = {} if kind == "dense" else {"stride": (1, 1), "dilation": (1, 1), "padding": "same"}
        if kind == "depthwise":
            window["multiplier"] = weights.shape[-1] // self.tensors[x].shape[-1]
        out = len(thresholds)
        w = self.tensor(weights.shape, 1.0, 0, "int32", weights)
        y = self.tensor(shape or ((out,) if kind == "dense" else (*self.tensors[x].shape[:2], out)), scale, zero)
        return self.op(kind, (x, w, -1), y, **(window | options), activation=activation, thresholds=thresholds, low=low)

    def drawn(self, x: int, kind: str, out: int, w: int, low: int, high: int, top: int, kernel: int = 3) -> int:
        """A random layer of ``w``-bit weights; ``top``: the largest magnitude of its input."""
        depth = self.tensors[x].shape[-1]
        shape = {"conv": (out, kernel, kernel, depth), "depthwise": (1, kernel, kernel, out), "dense": (out, depth)}[kind]
        most = max(1, 2 ** (w - 1) - 1)
        weights = self.rng.choice([-1, 1], shape) if w == 1 else self.rng.integers(-most, most + 1, shape)
        spread = np.sqrt(weights.size / out) * most * top / 2
        d = np.maximum(8, np.rint(spread * self.rng.uniform(0.5, 2, out) / (high - low)))
        return self.layer(x, kind, weights, settled(self.rng, d, low, high, 0.2), low)

    def ones(self, x: int, d: float, low: int, high: int, **options: object) -> int:
        """Onto another grid; with a ``window`` the average of that many pixels."""
        h, w, c = self.tensors[x].shape
        window = options.pop("window", (1, 1))
        options |= {"stride": window, "padding": "valid"}
        at = cuts(np.full(c, d), np.zeros(c), low, high)
        return self.layer(x, "depthwise", np.ones((1, *window, c), int), at, low, (h // window[0], w // window[1], c), **options)


def network(seed: int, w: int, a: int) -> Graph:
    """All that a residual network freezes to."""
    b = Trained(seed)
    high, step = 2**a - 1, 2 ** max(3, a)
    image = b.image((8, 6, 3), 1.0, -128)
    x = b.drawn(image, "conv", 6, 6, 0, high, 255)
    x = b.drawn(x, "depthwise", 12, w, 0, high, high)
    y = b.drawn(x, "conv", 12, w, -step + (a > 4), step - 1, high, 1)
    short = b.ones(x, 11 / 8, -step + (a > 4), step - 1)
    total = b.op("add", (y, short), b.tensor(b.tensors[y].shape, b.tensors[y].scale, 0), activation="none")
    x = b.pool(b.ones(total, 13 / 8, 0, high), "max_pool", 2, 1, "same")
    x = b.drawn(x, "conv", 5, w, 0, high, high)
    x = b.flat(b.ones(x, 6, 0, 255, window=(2, 3)))
    x = b.drawn(x, "dense", 9, w, 0, high, high)
    return b.done(
        image, b.layer(x, "dense", b.rng.integers(-31, 32, (4, 9)), settled(b.rng, np.full(4, 8 * high / 3 // 1), -128, 127, 0.1), -128)
    )
