"""Small exact networks in numpy: targets and sources whose answers the tests can compute by hand.

All sums run over integers held exactly, so a row's answer cannot depend on the batch it sits in.
"""

from __future__ import annotations

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.protocols import Pullback
from edgeq.core.rows import Rows, row_id


def rows_and_images(n: int, shape: tuple[int, int, int] = (6, 5, 1), classes: int = 4, seed: int = 0) -> tuple[Rows, np.ndarray]:
    draw = np.random.default_rng(seed)
    ids = np.array([row_id(f"toy/{i}") for i in range(n)])
    return Rows(ids, draw.integers(0, classes, n)), draw.integers(0, 256, (n, *shape), dtype=np.uint8)


class LinearTarget:
    """A linear classifier with integer weights, answering in ``dtype``; counts what it is shown."""

    name, batch = "toy", 16

    def __init__(self, shape=(6, 5, 1), classes=4, seed=1, kind="logits"):
        self.weights = np.random.default_rng(seed).integers(-8, 9, (int(np.prod(shape)), classes))
        self.kind, self.seen = kind, 0

    def answer(self, images: np.ndarray) -> Answer:
        self.seen += len(images)
        scores = images.reshape(len(images), -1).astype(np.int64) @ self.weights
        if self.kind == "label":
            return Answer("label", scores.argmax(axis=1))
        if self.kind == "probs":
            shifted = np.exp((scores - scores.max(axis=1, keepdims=True)) / 500)
            codes = np.rint(256 * shifted / shifted.sum(axis=1, keepdims=True)) - 128
            return Answer("probs", np.clip(codes, -128, 127).astype(np.int8), 1 / 256, -128)
        return Answer("logits", scores.astype(np.float32), 1.0, 0)

    def identity(self):
        return {"engine": "toy"}

    def close(self):
        pass


class LinearSource:
    """The same classifier with its gradient; logits and pullbacks are computed row by row, in float64."""

    batch = 8

    def __init__(self, target: LinearTarget):
        self.weights = target.weights.astype(np.float64)

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Pullback]:
        rows = [255 * image.astype(np.float64).reshape(-1) @ self.weights / 500 for image in x]
        return np.array(rows, np.float32), lambda slope: np.array(
            [(self.weights @ s.astype(np.float64)).reshape(x.shape[1:]) for s in slope], np.float32
        )


class FusedSource(LinearSource):
    """As :class:`LinearSource`, with fused twins of both objectives whose arithmetic is float64 throughout."""

    def fused(self, objective):
        def run(x, labels):
            losses, gradients = [], []
            for image, label in zip(x, labels, strict=True):
                logits = (255 * image.astype(np.float64).reshape(-1) @ self.weights / 500)[None]
                loss, slope = objective(logits, np.array([label]))
                losses.append(loss[0])
                gradients.append((self.weights @ slope[0]).reshape(image.shape))
            return np.array(losses, np.float32), np.array(gradients, np.float32)

        return run


class Bowl:
    """Two classes; class 1 scores less by the squared distance from ``peak (h*w*c,) int64``, in pixel steps, and never as much as class 0.

    A target and a source, exact in integers: of all images in a ball the one nearest to the peak is the worst for class 0.
    """

    name, batch = "bowl", 16

    def __init__(self, peak: np.ndarray):
        self.peak, self.seen = peak, 0

    def answer(self, images: np.ndarray) -> Answer:
        self.seen += len(images)
        score = -np.square(images.reshape(len(images), -1).astype(np.int64) - self.peak).sum(axis=1)
        return Answer("logits", np.stack([np.ones_like(score), score], axis=1).astype(np.float32))

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Pullback]:
        off = 255 * x.reshape(len(x), -1).astype(np.float64) - self.peak
        logits = np.stack([np.ones(len(x)), -np.array([np.square(row).sum() for row in off])], axis=1) / 1000
        return logits.astype(np.float32), lambda slope: (-2 * 255 / 1000 * slope[:, 1:] * off).astype(np.float32).reshape(x.shape)
