"""The margin of logits (Carlini and Wagner 2017, f_6 without its floor; B19 equation 7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.core.protocols import Objective


def loss(logits: np.ndarray, labels: np.ndarray, wanted: np.ndarray | None = None) -> np.ndarray:
    """``(n,)``: the value of :class:`Margin` alone, for who needs no slope. Arguments and dtype as there."""
    other, own = _other(logits, labels if wanted is None else wanted)
    lead = other.max(axis=1) - own
    return lead if wanted is None else -lead


@dataclass(frozen=True)
class Margin:
    """``max_{j != y} z_j - z_y``; ``z_w - max_{j != w} z_j`` where the class w is wanted.

    Where several classes share the maximum, as integer logits often do, its slope is shared equally among them.
    """

    def __call__(self, logits: np.ndarray, labels: np.ndarray, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`~edgeq.core.protocols.Objective`."""
        of = labels if wanted is None else wanted
        other, own = _other(logits, of)
        top = other.max(axis=1)
        shared = (other == top[:, None]).astype(logits.dtype)
        slope = shared / shared.sum(axis=1, keepdims=True)
        slope[np.arange(len(logits)), of] -= 1
        return (top - own, slope) if wanted is None else (own - top, -slope)


def _other(logits: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The logits with -inf in place of each row's class ``of``, and the logits of that class."""
    rows = np.arange(len(logits))
    other, own = logits.copy(), logits[rows, of]
    other[rows, of] = -np.inf
    return other, own


plugin: type[Objective] = Margin
