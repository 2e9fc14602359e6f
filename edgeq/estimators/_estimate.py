"""What an estimator makes of scores: slopes, and the differences that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``loss(images (m, h, w, c) uint8, rows (m,) int64) -> (m,) float64``: a query an image; ``rows``: which clean image each is made of."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """Slopes of a loss at ``n`` images, per pixel step.

    ``slope``: ``(n, k) float32``; ``pixels``: ``(n, k) int64``, the elements of the flat image that they belong to, None for all in order.
    ``difference``: ``(n, q) float64``, the loss at one end of each step less that at the other; ``length``: ``(n, q) float64``, the l2
    distance of the two ends in pixel steps.
    """

    slope: np.ndarray
    pixels: np.ndarray | None
    difference: np.ndarray
    length: np.ndarray
