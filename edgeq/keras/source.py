"""A Keras network as a source of gradients, and as one more runtime to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Fused, Objective, Pullback
from edgeq.core.signature import Signature, Tensor
from edgeq.keras import engine
from edgeq.keras.gradients import Gradients, fill
from edgeq.keras.load import Network, load

PIXELS = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
"""``(256, 3) float32``: the table of a colour network that takes raw pixels."""


def open(path: str | Path, real: np.ndarray, batch: int = 128, output: str | None = None) -> KerasSource:
    """The network at ``path``. ``real``: ``(256, c) float32``, what it takes for each pixel value (``PixelCodes.real``). ``output``: as
    :func:`~edgeq.keras.load.load` takes it."""
    return KerasSource(load(path, output), real, batch)


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
        slope, offset = affine(network.path, real, shape[2])
        self._table = real.astype(np.float32)
        image = tf.TensorSpec((self.batch, *shape), tf.float32)
        self._gradients = Gradients(lambda x: network.logits(x * slope + offset), shape, self.batch)
        self._real = tf.function(network.logits, input_signature=[image], autograph=False)

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Pullback]:
        """``(n, classes) float32`` logits of ``x (n, h, w, c) float32`` in [0, 1], not rounded to the grid; and their pullback."""
        self._check(x)
        return self._gradients.logits(x)

    def fused(self, objective: Objective) -> Fused | None:
        """Of cross-entropy and margin; see :class:`~edgeq.core.protocols.Fuses`."""
        return self._gradients.fused(objective)

    def answer(self, images: np.ndarray) -> Answer:
        """Logits of ``(n, h, w, c) uint8`` images, each pixel taken for exactly the real value that the table gives it."""
        self._check(images)
        scores = np.empty((len(images), *self.signature.output.shape), np.float32)
        for start in range(0, len(images), self.batch):
            block = self._table[images[start : start + self.batch], np.arange(images.shape[3])]
            scores[start : start + len(block)] = self._real(fill(block, self.batch)).numpy()[: len(block)]
        return Answer("logits", scores)

    def answer_float(self, x: np.ndarray) -> Answer:
        """Logits of ``(n, h, w, c) float32`` images in [0, 1], not rounded to the grid."""
        self._check(x)
        return Answer("logits", self._gradients.values(x))

    def identity(self) -> dict[str, Any]:
        """What makes this runtime this function."""
        tf = engine.tensorflow()
        return {
            "runtime": self.name,
            **engine.identity(),
            "form": self.network.form,
            "sha256": self.network.sha256,
            "batch": self.batch,
            "devices": sorted({d.device_type for d in tf.config.get_visible_devices()}),
        }

    def close(self) -> None:
        """Nothing to give back: TensorFlow frees with the process."""

    def _check(self, images: np.ndarray) -> None:
        if images.shape[1:] != self.signature.input.shape:
            raise EdgeqError(f"{self.network.path}: it takes images of {self.signature.input.shape}, not of {images.shape[1:]}")


def affine(path: Path, real: np.ndarray, channels: int) -> tuple[np.ndarray, np.ndarray]:
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
