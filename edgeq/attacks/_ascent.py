"""The loop that FGSM, BIM and PGD share: projected steps of steepest ascent."""

from __future__ import annotations

import numpy as np

from edgeq.core import rng
from edgeq.core.objective import Objective
from edgeq.core.protocols import Crafted, Differentiable
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat

_START = 1  # rng stream


def ascend(
    source: Differentiable,
    clean: np.ndarray,
    rows: Rows,
    threat: Threat,
    seed: int,
    *,
    steps: int,
    step: float,
    objective: Objective = "ce",
    random_start: bool = False,
    restarts: int = 1,
) -> Crafted:
    """``steps`` steps of ``step * eps`` each; of all iterates (the starting point is none) the one of highest loss is kept.

    The gradient is taken at the gridded iterate, straight through the sensor's rounding, while the iterate itself stays continuous:
    so the loss that selects is the candidate's own, at one forward and one backward pass a step. Below one pixel, where the grid
    would undo every step, both are taken at the iterate.
    """
    x0 = clean.astype(np.float32) / np.float32(255)
    n = len(clean)
    best = np.full(n, -np.inf, np.float32)
    candidates, iterates = clean.copy(), x0.copy()
    trace, zero = [], np.zeros(n, bool)
    single = steps == 1 and restarts == 1  # one iterate: nothing to select, so its loss need not be known
    for restart in range(restarts):
        x = _start(x0, rows, threat, seed, restart) if random_start else x0
        for t in range(steps + 1):
            gridded = threat.grid(x, clean)
            if single and t == steps:
                candidates, iterates, best = gridded, x, np.full(n, np.nan, np.float32)
                break
            point = gridded.astype(np.float32) / np.float32(255) if threat.reaches_integers else x
            loss, gradient = source.value_and_grad(point, rows, objective)
            trace.append(loss)
            if t == 0 and restart == 0:
                zero = np.logical_not(gradient.any(axis=(1, 2, 3)))
            if t > 0:
                better = loss > best
                best[better], candidates[better], iterates[better] = loss[better], gridded[better], x[better]
            if t < steps:
                x = threat.project(x + threat.ascent(gradient) * np.float32(step * threat.eps), x0)
    return Crafted(candidates, iterates, best, np.stack(trace), zero)


def _start(x0: np.ndarray, rows: Rows, threat: Threat, seed: int, restart: int) -> np.ndarray:
    """A point of the ball: uniform in every pixel for l_inf; for l2 a normal direction of uniform length."""
    shape = x0.shape[1:]
    if threat.norm == "linf":
        offset = 2 * rng.uniform(seed, rows.ids, restart, shape, _START) - 1
    else:
        offset = threat.ascent(rng.normal(seed, rows.ids, restart, shape, _START))
        offset *= rng.uniform(seed, rows.ids, restart, (1, 1, 1), _START + 1)
    return threat.project(x0 + np.float32(threat.eps) * offset, x0)
