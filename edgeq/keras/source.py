"""A Keras network as a source of gradients, and as one more runtime to compare with.

One forward and one backward pass a step, inside one ``tf.function``. Every batch is padded to one recorded size: TensorFlow
picks its kernels by the batch size, and a row's gradient would change in its last bits with the number of rows beside it.
With one size it depends on no other row. On its place among them it does not either, with TensorFlow's own kernels and with oneDNN's for
AVX-512; oneDNN's products of matrices for AVX2 sum some rows of a batch in another order (of 32 the last two). So runs keep places.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.objective import Objective
from edgeq.core.rows import Rows
from edgeq.core.signature import Signature, Tensor
from edgeq.keras import engine, losses
from edgeq.keras.load import Network, load

PIXELS = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
"""``(256, 3) float32``: the table of a colour network that takes raw pixels."""


def open(path: str | Path, real: np.ndarray, batch: int = 128) -> KerasSource:
    """The network at ``path``. ``real``: ``(256, c) float32``, what it takes for each pixel value (``PixelCodes.real``)."""
    return KerasSource(load(path), real, batch)


class KerasSource:
    """A :class:`~edgeq.core.protocols.Differentiable` and a :class:`~edgeq.core.protocols.Target`, on logits.

    ``batch``: the size every batch is padded to; the network's own where it takes one size only.
    ``signature``: the answers' (float32 logits); ``network.signature`` is the file's. ``kind_note``: see :class:`Network`.
    """

    name = "keras"

    def __init__(self, network: Network, real: np.ndarray, batch: int = 128) -> None:
        tf = engine.tensorflow()
        self.network = network
        self.batch = network.batch or batch
        self.kind_note = network.kind_note
        self.signature = Signature(network.signature.input, Tensor(network.signature.output.shape, "float32"), "logits")
        shape = network.signature.input.shape
        slope, offset = _affine(network.path, real, shape[2])
        self._table = real.astype(np.float32)
        image = tf.TensorSpec((self.batch, *shape), tf.float32)
        labels = tf.TensorSpec((self.batch,), tf.int64)

        def step(name: Objective) -> Any:
            @tf.function(input_signature=[image, labels], autograph=False)
            def run(x: Any, y: Any) -> tuple[Any, Any]:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = losses.objective(name, network.logits(x * slope + offset), y)
                return loss, tape.gradient(loss, x)  # the rows' losses are summed: each row's gradient is its own

            return run

        self._steps = {name: step(name) for name in ("ce", "margin")}  # traced when first called
        self._unit = tf.function(lambda x: network.logits(x * slope + offset), input_signature=[image], autograph=False)
        self._real = tf.function(network.logits, input_signature=[image], autograph=False)

    def value_and_grad(self, x: np.ndarray, rows: Rows, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
        """Per-row loss ``(n,) float32`` and gradient ``(n, h, w, c) float32``; ``x`` float32 in [0, 1], any ``n``."""
        loss, gradient = np.empty(len(x), np.float32), np.empty(x.shape, np.float32)
        for part, images in self._padded(x):
            labels = np.zeros(self.batch, np.int64)
            labels[: part.stop - part.start] = rows.labels[part]
            value, slope = self._steps[objective](images, labels)
            loss[part] = value.numpy()[: part.stop - part.start]
            gradient[part] = slope.numpy()[: part.stop - part.start]
        return loss, gradient

    def answer(self, images: np.ndarray) -> Answer:
        """Logits of ``(n, h, w, c) uint8`` images, each pixel taken for exactly the real value that the table gives it."""
        return self._answer(self._real, images, lambda part: self._table[part, np.arange(part.shape[3])])

    def answer_float(self, x: np.ndarray) -> Answer:
        """Logits of ``(n, h, w, c) float32`` images in [0, 1], not rounded to the grid."""
        return self._answer(self._unit, x, lambda part: part)

    def identity(self) -> dict[str, Any]:
        """What makes this runtime this function."""
        tf = engine.tensorflow()
        return {
            "runtime": self.name,
            "engine": "tensorflow",
            "version": tf.__version__,
            "cpu": platform.machine(),
            "form": self.network.form,
            "sha256": self.network.sha256,
            "batch": self.batch,
            "devices": sorted({d.device_type for d in tf.config.get_visible_devices()}),
        }

    def close(self) -> None:
        """Nothing to give back: TensorFlow frees with the process."""

    def _answer(self, function: Any, images: np.ndarray, prepare: Any) -> Answer:
        scores = np.empty((len(images), self.signature.output.shape[0]), np.float32)
        for part, padded in self._padded(images, prepare):
            scores[part] = function(padded).numpy()[: part.stop - part.start]
        return Answer("logits", scores)

    def _padded(self, images: np.ndarray, prepare: Any = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices of ``images`` as float32 batches of one size, the last one filled with zeros."""
        if images.shape[1:] != self.signature.input.shape:
            raise EdgeqError(f"{self.network.path}: it takes images of {self.signature.input.shape}, not of {images.shape[1:]}")
        for start in range(0, len(images), self.batch):
            part = slice(start, min(start + self.batch, len(images)))
            block = prepare(images[part]) if prepare else images[part]
            if len(block) < self.batch:
                block = np.concatenate([block, np.zeros((self.batch - len(block), *block.shape[1:]), np.float32)])
            yield part, np.ascontiguousarray(block, np.float32)


def _affine(path: Path, real: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """``slope, offset``, each ``(c,) float32``: the line x -> real value of pixel 255 x through the table.

    A table that was rounded to codes lies around its line by half a code; one that saturates has no line.
    """
    if real.shape != (256, channels):
        raise EdgeqError(f"{path}: it takes {channels} channels, and the preprocessing gives {real.shape[1]}; state one for this network")
    table = real.astype(np.float64)
    grid = np.arange(256)[:, None] / 255
    slope, offset = table[255] - table[0], table[0]
    if np.abs(offset + slope * grid - table).max() > 1e-5 * np.abs(slope).max():  # rounded: fit instead of trusting the ends
        slope, offset = np.polyfit(grid[:, 0], table, 1)
    if not np.isfinite(table).all() or (np.abs(offset + slope * grid - table) > 0.02 * np.abs(slope)).any():
        raise EdgeqError(f"{path}: the pixels saturate its input, so no gradient fits them; state its --preprocess mean and std")
    return slope.astype(np.float32), offset.astype(np.float32)
