"""Small exact networks in numpy: targets and sources whose answers the tests can compute by hand.

All sums run over integers held exactly, so a row's answer cannot depend on the batch it sits in.
"""

from __future__ import annotations

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.objective import evaluate
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
    """The same classifier with its gradient; losses and gradients are computed row by row."""

    batch = 8

    def __init__(self, target: LinearTarget):
        self.weights = target.weights.astype(np.float64)

    def value_and_grad(self, x: np.ndarray, rows: Rows, objective: str) -> tuple[np.ndarray, np.ndarray]:
        losses, gradients = [], []
        for image, label in zip(x, rows.labels, strict=True):
            logits = (255 * image.astype(np.float64).reshape(-1) @ self.weights / 500)[None]
            losses.append(evaluate(objective, logits.copy(), np.array([label]))[0])
            if objective == "ce":
                p = np.exp(logits[0] - logits[0].max())
                slope = p / p.sum()
                slope[label] -= 1
            else:
                others = logits[0].copy()
                others[label] = -np.inf
                slope = np.zeros(len(others))
                slope[others.argmax()] += 1
                slope[label] -= 1
            gradients.append((self.weights @ slope).reshape(image.shape))
        return np.array(losses, np.float32), np.array(gradients, np.float32)
