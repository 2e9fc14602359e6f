"""An objective's value and gradient at images, from any source."""

from __future__ import annotations

import numpy as np

from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.protocols import Differentiable, Fuses, Objective
from edgeq.core.rows import Rows


def value_and_grad(
    source: Differentiable, objective: Objective, x: np.ndarray, rows: Rows, goal: Goal = UNTARGETED
) -> tuple[np.ndarray, np.ndarray]:
    """Per-row loss ``(n,) float32``, larger being worse for the defender, and its gradient ``(n, h, w, c) float32``.

    ``x``: ``(n, h, w, c) float32`` in [0, 1]. The fused form is taken where the source has one; otherwise the objective's slope on the
    logits is pulled back, ``source.batch`` rows at a time, so that no more than one batch of inner values is in memory. Raises
    :class:`EdgeqError` for a wanted class that the source does not know.
    """
    if not goal.targeted and isinstance(source, Fuses) and (fused := source.fused(objective)) is not None:
        return fused(x, rows.labels)
    loss, gradient = np.empty(len(x), np.float32), np.empty(x.shape, np.float32)
    for start in range(0, len(x), source.batch):
        part = slice(start, start + source.batch)
        logits, pullback = source.logits(x[part])
        labels = rows.labels[part]
        loss[part], slope = objective(logits, labels, goal.wanted(labels, logits.shape[1]))
        gradient[part] = pullback(slope)
    return loss, gradient
