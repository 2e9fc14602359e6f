"""Logits of a TensorFlow function and their gradients, one forward and one backward pass each, in batches padded to one size.

TensorFlow picks its kernels by the batch size, and a row's gradient would change in its last bits with the number of rows beside it. With
one size it depends on no other row. On its place among them it does not either, with TensorFlow's own kernels and with oneDNN's for
AVX-512; oneDNN's products of matrices for AVX2 sum some rows of a batch in another order (of 32 the last two). So runs keep places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from edgeq.core.protocols import Fused, Objective, Pullback
from edgeq.keras import engine, losses


class Gradients:
    """``given``: a function of tensors, ``(batch, h, w, c) float32 -> (batch, k) float32``; ``shape``: ``(h, w, c)``. A single logit is
    that of class 1, beside 0 of class 0, as in :attr:`edgeq.core.answer.Answer.scores`.

    Each ``tf.function`` is traced when it is first called.
    """

    def __init__(self, given: Callable[[Any], Any], shape: tuple[int, ...], batch: int) -> None:
        tf = engine.tensorflow()
        self._batch, self._single = batch, False  # known as soon as something was traced

        def forward(x: Any) -> Any:
            y = given(x)
            self._single = y.shape[1] == 1
            return tf.concat([tf.zeros_like(y), y], axis=1) if self._single else y

        image, labels = tf.TensorSpec((batch, *shape), tf.float32), tf.TensorSpec((batch,), tf.int64)

        def fuse(loss: losses.Twin) -> Any:
            @tf.function(input_signature=[image, labels], autograph=False)
            def run(x: Any, y: Any) -> tuple[Any, Any]:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    value = loss(forward(x), y)
                return value, tape.gradient(value, x)  # the rows' losses are summed: each row's gradient is its own

            return run

        self._forward = tf.function(forward, input_signature=[image], autograph=False)
        self._fused = {objective: fuse(twin) for objective, twin in losses.TWINS.items()}

    def values(self, x: np.ndarray) -> np.ndarray:
        """``(n, k) float32`` logits of ``x (n, h, w, c) float32``, any ``n`` but 0, as the network returns them."""
        logits = _joined([self._forward(block).numpy()[:size] for _, size, block in self._blocks(x)])
        return logits[:, 1:] if self._single else logits

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Pullback]:
        """See :class:`~edgeq.core.protocols.Differentiable`."""
        blocks = list(self._blocks(x))
        taped: dict[int, Any] = {start: self._tape(block) for start, _, block in blocks}
        logits = _joined([taped[start][2].numpy()[:size] for start, size, _ in blocks])

        def pullback(slope: np.ndarray) -> np.ndarray:
            gradient = np.empty(x.shape, np.float32)
            for start, size, block in blocks:
                tape, image, y = taped.pop(start, None) or self._tape(block)  # a tape is good for one backward pass
                upstream = engine.tensorflow().constant(fill(slope[start : start + size], self._batch))
                gradient[start : start + size] = tape.gradient(y, image, output_gradients=upstream).numpy()[:size]
            return gradient

        return logits, pullback

    def fused(self, objective: Objective) -> Fused | None:
        """See :class:`~edgeq.core.protocols.Fuses`."""
        step = self._fused.get(objective)
        if step is None:
            return None

        def run(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values, gradients = [], []
            for start, size, block in self._blocks(x):
                truth = np.zeros(self._batch, np.int64)
                truth[:size] = labels[start : start + size]
                value, slope = step(block, truth)
                values.append(value.numpy()[:size])
                gradients.append(np.asarray(memoryview(slope))[:size])  # as it lies in TensorFlow's memory
            return _joined(values), _joined(gradients)

        return run

    def _tape(self, block: np.ndarray) -> tuple[Any, Any, Any]:
        """A forward pass that can be pulled back: the call of a ``tf.function`` is one entry of the tape, with one backward function."""
        tf = engine.tensorflow()
        image = tf.constant(block)
        with tf.GradientTape() as tape:
            tape.watch(image)
            y = self._forward(image)
        return tape, image, y

    def _blocks(self, x: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
        """Where each batch of ``x`` starts, how many of its rows are ``x``'s, and the batch."""
        for start in range(0, len(x), self._batch):
            rows = x[start : start + self._batch]
            yield start, len(rows), fill(rows, self._batch)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def fill(rows: np.ndarray, batch: int) -> np.ndarray:
    """``(batch, ...) float32``, contiguous: ``rows``, at most ``batch`` of them, and zeros behind them."""
    if len(rows) == batch:
        return np.ascontiguousarray(rows, np.float32)
    out = np.zeros((batch, *rows.shape[1:]), np.float32)
    out[: len(rows)] = rows
    return out
