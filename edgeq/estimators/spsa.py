"""Simultaneous perturbation: mirrored pairs along random signs (Spall 1992; for images Uesato et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.core import rng
from edgeq.core.estimate import Estimate, Estimator, Loss
from edgeq.core.threat import Threat

_SIGNS = 0  # rng stream


def packed(seed: int, ids: np.ndarray, step: np.ndarray, count: int, size: int) -> np.ndarray:
    """``(r, bytes) uint8``: the signs of ``count`` pairs in ``size`` elements, a bit each, for :func:`unpacked`."""
    return rng.packed(seed, ids, step, count * size, _SIGNS)


def unpacked(packed: np.ndarray, count: int, size: int) -> np.ndarray:
    """``(r, count, size) uint8``, 1 for + and 0 for -: the directions of ``count`` pairs."""
    return np.unpackbits(packed, axis=1, count=count * size).reshape(len(packed), count, size)


def ends(x: np.ndarray, clean: np.ndarray, threat: Threat, delta: float) -> tuple[np.ndarray, np.ndarray]:
    """What a pixel of a query can be: the grid's values of ``x + delta`` and ``x - delta``, each ``(r, 1, h*w*c) uint8``.

    l_inf only: there the grid and the ball treat every pixel for itself, so two values a pixel are rounded and clipped once.
    """
    high = threat.grid(np.minimum(x + np.float32(delta), 1), clean)
    low = threat.grid(np.maximum(x - np.float32(delta), 0), clean)
    return high.reshape(len(x), 1, -1), low.reshape(len(x), 1, -1)


def pairs(high: np.ndarray, low: np.ndarray, signs: np.ndarray, out: np.ndarray) -> None:
    """Fills ``out (r, 2 * count, h*w*c) uint8`` with all ``x + delta s``, then all ``x - delta s``."""
    count = signs.shape[1]
    plus, minus = out[:, :count], out[:, count:]
    np.multiply(signs, high ^ low, out=minus)  # the bits in which the ends differ, where the sign is +
    np.bitwise_xor(minus, low, out=plus)
    np.bitwise_xor(minus, high, out=minus)


def gradient(loss: np.ndarray, signs: np.ndarray, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The slope per pixel step, ``(r, h*w*c) float32``: mean over pairs of ``(f(x+) - f(x-)) s / (high - low)``; 0 where the ends meet.

    ``loss``: ``(r, 2 * count) float32`` in the order of :func:`pairs`.
    """
    count = signs.shape[1]
    difference = (loss[:, :count] - loss[:, count:]) / np.float32(count)
    # the sum of d s with s = 2 b - 1; by einsum, because a BLAS may add in an order that depends on its threads
    drawn = np.einsum("rp,rpd->rd", difference, signs, dtype=np.float32, casting="unsafe")  # cast in blocks that stay in the cache
    total = 2 * drawn - difference.sum(axis=1)[:, None]
    span = (high.astype(np.float32) - low)[:, 0]
    return np.divide(total, span, out=np.zeros_like(total), where=span > 0)


@dataclass(frozen=True)
class SPSA:
    """The mean over ``pairs`` mirrored pairs, ``step`` pixel steps to either side of each pixel, cut to 0..255."""

    pairs: int = 64
    step: int = 1

    def __post_init__(self) -> None:
        if self.pairs < 1 or not 1 <= self.step <= 127:
            raise ValueError("pairs must be at least 1 and step a whole number of pixels, 1 to 127")

    def queries(self, size: int) -> int:
        """What a row costs, however many elements it has."""
        return 2 * self.pairs

    def ceiling(self, size: int) -> float:
        """About the cosine of the estimate and the gradient for an exactly linear loss of ``size`` elements: the share of its own noise."""
        return float(np.sqrt(self.pairs / (self.pairs + size - 1)))

    def estimate(self, loss: Loss, images: np.ndarray, ids: np.ndarray, seed: int) -> Estimate:
        """``images``: ``(r, h, w, c) uint8``; a row's estimate depends on its id, not on the others."""
        r, size = len(images), images[0].size
        threat = Threat("linf", self.step / 255)
        drawn = unpacked(packed(seed, ids, np.zeros(r, np.int64), self.pairs, size), self.pairs, size)
        high, low = ends(images.astype(np.float32) / np.float32(255), images, threat, self.step / 255)
        asked = np.empty((r, 2 * self.pairs, size), np.uint8)
        pairs(high, low, drawn, out=asked)
        losses = loss(asked.reshape(-1, *images.shape[1:]), np.repeat(np.arange(r), 2 * self.pairs)).reshape(r, -1)
        difference = losses[:, : self.pairs] - losses[:, self.pairs :]
        length = np.sqrt(np.square(high.astype(np.float64) - low).sum(axis=2))  # (r, 1): alike for all pairs
        return Estimate(gradient(losses, drawn, high, low).astype(np.float32), None, difference, np.broadcast_to(length, difference.shape))


plugin: type[Estimator] = SPSA
