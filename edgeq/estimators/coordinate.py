"""Differences along single pixels, on the pixel grid (B19 equation 9; ZOO, Chen et al. 2017, whose step of 1e-4 a sensor rounds away)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.core import rng
from edgeq.core.estimate import Estimate, Estimator, Loss

_PIXELS = 2  # rng stream


def choose(seed: int, ids: np.ndarray, size: int, count: int) -> np.ndarray:
    """``(r, min(count, size)) int64``: elements of each row's flat image, drawn without repetition, in rising order."""
    count = min(count, size)
    order = np.argsort(rng.uniform(seed, ids, 0, (size,), _PIXELS), axis=1, kind="stable")
    return np.sort(order[:, :count], axis=1)


def ends(values: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """The upper and lower end of each difference around uint8 ``values``, alike in shape: ``v + step`` and ``v - step``.

    A side beyond 0..255 does not exist: there ``v`` itself is that end, and the difference one-sided. ``step``: 1 to 127.
    """
    centre = values.astype(np.int16)
    high, low = centre + step, centre - step
    return np.where(high > 255, centre, high).astype(np.uint8), np.where(low < 0, centre, low).astype(np.uint8)


def queries(images: np.ndarray, pixels: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """``(r, 2k, h, w, c) uint8``: each image with one pixel at its upper end, for all its ``pixels (r, k)``; then at the lower ends."""
    r, k = pixels.shape
    asked = np.repeat(images.reshape(r, 1, -1), 2 * k, axis=1)
    np.put_along_axis(asked, np.concatenate([pixels, pixels], axis=1)[..., None], np.concatenate([high, low], axis=1)[..., None], axis=2)
    return asked.reshape(r, 2 * k, *images.shape[1:])


@dataclass(frozen=True)
class Coordinate:
    """Differences at ``pixels`` elements of each image, drawn by its id, of ``step`` pixel steps to either side."""

    pixels: int = 64
    step: int = 1

    def __post_init__(self) -> None:
        if self.pixels < 1 or not 1 <= self.step <= 127:
            raise ValueError("pixels must be at least 1 and step a whole number of pixels, 1 to 127")

    def queries(self, size: int) -> int:
        """What a row of ``size`` elements costs."""
        return 2 * min(self.pixels, size)

    def estimate(self, loss: Loss, images: np.ndarray, ids: np.ndarray, seed: int) -> Estimate:
        """``images``: ``(r, h, w, c) uint8``; a row's estimate depends on its id, not on the others."""
        r, size = len(images), images[0].size
        pixels = choose(seed, ids, size, self.pixels)
        high, low = ends(np.take_along_axis(images.reshape(r, size), pixels, axis=1), self.step)
        asked = queries(images, pixels, high, low).reshape(-1, *images.shape[1:])
        losses = loss(asked, np.repeat(np.arange(r), 2 * pixels.shape[1])).reshape(r, 2, -1)
        difference = losses[:, 0] - losses[:, 1]
        span = high.astype(np.float64) - low
        return Estimate((difference / span).astype(np.float32), pixels, difference, span)


plugin: type[Estimator] = Coordinate
