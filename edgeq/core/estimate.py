"""What an estimator makes of scores: slopes, and the differences that they were made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

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


class Estimator(Protocol):
    """A frozen dataclass whose fields are its options: how to place the queries of a row, and what their answers say of the slope."""

    def queries(self, size: int) -> int:
        """What a row of ``size`` elements costs."""
        ...

    def estimate(self, loss: Loss, images: np.ndarray, ids: np.ndarray, seed: int) -> Estimate:
        """``images``: ``(r, h, w, c) uint8``; ``ids``: ``(r,) int64``. A row's estimate depends on its id, not on the others."""
        ...
