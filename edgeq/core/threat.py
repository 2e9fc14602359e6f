"""The threat: a norm, a radius, and the sensor's grid (docs/concepts.md: *Pixels and the grid*)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgeq.core.errors import EdgeqError

Norm = Literal["linf", "l2"]
LARGEST = 1e4  # times the range of a pixel: more than any two images are apart


@dataclass(frozen=True)
class Threat:
    """All images within ``eps`` of the clean one in ``norm``, with pixels in [0, 1]; candidates are integers 0..255."""

    norm: Norm
    eps: float

    @property
    def pixels(self) -> float:
        """The radius in pixel steps: a whole number for l_inf (``floor(255 eps + 1e-6)``), ``255 eps`` for l2."""
        return math.floor(255 * self.eps + 1e-6) if self.norm == "linf" else 255 * self.eps

    @property
    def reaches_integers(self) -> bool:
        """Whether any integer image but the clean one lies inside."""
        return self.pixels >= 1

    def project(self, x: np.ndarray, x0: np.ndarray) -> np.ndarray:
        """The nearest point of the ball around ``x0``, then of [0, 1]. Both ``(n, h, w, c) float32`` in [0, 1]."""
        if self.norm == "linf":
            eps = np.float32(self.eps)
            inside = np.maximum(x, np.maximum(x0 - eps, 0))
            return np.minimum(inside, np.minimum(x0 + eps, 1), out=inside)
        delta = x - x0
        return np.clip(x0 + delta * np.minimum(1, np.float32(self.eps) / np.maximum(_l2(delta), 1e-12)), 0, 1)

    def ascent(self, gradient: np.ndarray) -> np.ndarray:
        """The unit step of steepest ascent: the sign for l_inf, ``g / |g|`` for l2 (0 where the gradient is 0)."""
        if self.norm == "linf":
            return np.sign(gradient)
        return gradient / np.maximum(_l2(gradient), 1e-12)

    def grid(self, x: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """The candidate of an iterate: ``(n, h, w, c) uint8`` inside the ball around ``clean``.

        ``x``: float32 in [0, 1]; ``clean``: uint8, broadcast against it. For l2 the integer delta is shrunk until its own norm is inside.
        """
        scaled = np.float32(255) * x
        pixels, base = np.rint(scaled, out=scaled).astype(np.int16), clean.astype(np.int16)
        if self.norm == "linf":
            reach = min(self.pixels, 255)
            pixels = np.maximum(pixels, np.maximum(base - reach, 0))  # 16-bit integers: a quarter of the memory of floats
            return np.minimum(pixels, np.minimum(base + reach, 255), out=pixels).astype(np.uint8)
        return np.clip(base + _shrink(pixels - base, self.pixels), 0, 255).astype(np.uint8)

    def contains(self, candidates: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """``(n,) bool``: which uint8 ``candidates`` lie in the ball around the uint8 ``clean``."""
        delta = candidates.astype(np.int64) - clean
        axes = tuple(range(1, delta.ndim))
        if self.norm == "linf":
            return np.abs(delta).max(axis=axes) <= self.pixels
        return (delta**2).sum(axis=axes) <= self.pixels**2 * (1 + 1e-9)

    def distance(self, candidates: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """``(n,) float64``: how far uint8 ``candidates (n, h, w, c)`` lie from the uint8 ``clean``, in the norm and in pixel steps."""
        delta = candidates.astype(np.int64) - clean
        axes = tuple(range(1, delta.ndim))
        if self.norm == "linf":
            return np.abs(delta).max(axis=axes).astype(np.float64)
        return np.sqrt((delta**2).sum(axis=axes))


def _l2(delta: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(delta).sum(axis=tuple(range(1, delta.ndim)), keepdims=True))


def _shrink(step: np.ndarray, radius: float) -> np.ndarray:
    """Integer deltas with an l2 norm of at most ``radius``: ``rint(s * step)`` with the largest ``s`` of a bisection.

    ``|rint(s d)|`` grows with ``s`` in every component, so the norm is monotone in ``s`` and bisection is sound.
    """
    axes = tuple(range(1, step.ndim))
    limit = radius**2 * (1 + 1e-9)

    def norm2(d: np.ndarray) -> np.ndarray:
        return np.square(d.astype(np.int64)).sum(axis=axes, keepdims=True)

    low = np.where(norm2(step) <= limit, 1.0, 0.0)
    high = np.ones_like(low)
    for _ in range(16):
        middle = (low + high) / 2
        fits = norm2(np.rint(middle * step)) <= limit
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.rint(low * step).astype(np.int16)


def parse_eps(text: str) -> float:
    """``8/255``, ``0.03`` or ``8px`` as a fraction of the pixel range. Raises :class:`EdgeqError`."""
    try:
        if text.endswith("px"):
            eps = float(text[:-2]) / 255
        elif "/" in text:
            above, below = text.split("/")
            eps = float(above) / float(below)
        else:
            eps = float(text)
    except (ValueError, ZeroDivisionError):
        eps = math.nan
    if not 0 < eps <= LARGEST:
        raise EdgeqError(f"--eps {text}: not a radius; write 8/255, 0.03 or 8px")
    return eps
