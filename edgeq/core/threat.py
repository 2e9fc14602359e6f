"""The threat: a norm, a radius, and the sensor's grid (docs/concepts.md: *Pixels and the grid*)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from edgeq.core.errors import EdgeqError

Norm = Literal["linf", "l2"]
LARGEST = 1e4  # times the range of a pixel: more than any two images are apart


class Projection(Protocol):
    """The nearest point of a ball and of [0, 1] to each of ``x (n, h, w, c)``; written to ``out`` if given, which may be ``x`` itself."""

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray: ...


@dataclass(frozen=True)
class Threat:
    """All images within ``eps`` of the clean one in ``norm``, with pixels in [0, 1]; candidates are integers 0..255."""

    norm: Norm
    eps: float

    @classmethod
    def parse(cls, norm: Norm, text: str) -> Threat:
        """The threat of ``--eps text``. Raises :class:`EdgeqError` for no radius, and for an l_inf radius beyond the range of a pixel, by
        which a number of pixel steps was meant."""
        threat = cls(norm, parse_eps(text))
        if norm == "linf" and threat.eps > 1:
            steps = text.removesuffix("px")
            meant = f"for {steps} pixel steps write {steps}/255 or {steps}px" if "/" not in text and float(steps) <= 255 else "write 8/255"
            raise EdgeqError(f"--eps {text}: is {threat.pixels:,} pixel steps in l_inf, and a pixel has 255; {meant}")
        return threat

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
        return self.projection(x0)(x)

    def projection(self, x0: np.ndarray) -> Projection:
        """:meth:`project` for many ``x`` around the same ``x0``, whose bounds are computed once."""
        eps = np.float32(self.eps)
        if self.norm == "linf":
            low, high = np.maximum(x0 - eps, 0), np.minimum(x0 + eps, 1)

            def box(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
                inside = np.maximum(x, low, out=out)
                return np.minimum(inside, high, out=inside)

            return box

        def ball(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
            delta = x - x0
            return np.clip(x0 + delta * np.minimum(1, eps / np.maximum(_l2(delta), 1e-12)), 0, 1, out=out)

        return ball

    def ascent(self, gradient: np.ndarray) -> np.ndarray:
        """The unit step of steepest ascent: the sign for l_inf, ``g / |g|`` for l2 (0 where the gradient is 0)."""
        if self.norm == "linf":
            return np.sign(gradient)
        return gradient / np.maximum(_l2(gradient), 1e-12)

    def grid(self, x: np.ndarray, clean: np.ndarray) -> np.ndarray:
        """The candidate of an iterate: ``(n, h, w, c) uint8`` inside the ball around ``clean``.

        ``x``: float32 in [0, 1]; ``clean``: uint8, broadcast against it. For l2 the integer delta is shrunk until its own norm is inside.
        """
        return self.gridding(clean)(x)

    def gridding(self, clean: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """:meth:`grid` for many ``x`` around the same ``clean``, whose bounds are computed once."""
        base = clean.astype(np.int16)  # 16-bit integers: a quarter of the memory of floats
        if self.norm == "linf":
            reach = min(self.pixels, 255)
            low, high = np.maximum(base - reach, 0), np.minimum(base + reach, 255)

            def box(x: np.ndarray) -> np.ndarray:
                pixels = np.maximum(_pixels(x), low)
                return np.minimum(pixels, high, out=pixels).astype(np.uint8)

            return box
        return lambda x: np.clip(base + _shrink(_pixels(x) - base, self.pixels), 0, 255).astype(np.uint8)

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


def _pixels(x: np.ndarray) -> np.ndarray:
    scaled = np.float32(255) * x
    return np.rint(scaled, out=scaled).astype(np.int16)


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
