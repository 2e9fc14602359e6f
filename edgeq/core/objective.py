"""What an attack maximises: one number a row, on logits (docs/concepts.md: *Losses*)."""

from __future__ import annotations

from typing import Literal

import numpy as np

Objective = Literal["ce", "margin"]
"""``ce``: cross-entropy of the true class. ``margin``: best other logit minus the true one (Carlini & Wagner 2017, f_6; B19 equation 7)."""


def evaluate(objective: Objective, logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``(m,) float32``, larger is worse for the defender. ``logits``: ``(m, k) float32``; ``labels``: ``(m,) int64``."""
    rows = np.arange(len(logits))
    own = logits[rows, labels]
    if objective == "ce":
        top = logits.max(axis=1)
        return top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - own
    others = logits.copy()
    others[rows, labels] = -np.inf
    return others.max(axis=1) - own
