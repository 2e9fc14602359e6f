"""The loop that gradient attacks share: projected ascent, with three hooks in which its variants differ.

Before each step the loop calls ``momentum`` for the direction, ``step`` for the length, and ``project`` for the next iterate. A hook is a
plain function of a :class:`Point`; each has the default that makes projected gradient ascent (FGSM, BIM, PGD).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.core import rng
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.gradient import value_and_grad
from edgeq.core.protocols import Crafted, Differentiable, Objective
from edgeq.core.rows import Rows
from edgeq.core.threat import Projection, Threat
from edgeq.objectives.ce import CE

_START = 1  # rng stream


@dataclass(frozen=True, eq=False)
class Point:
    """Where an ascent of ``n`` rows stands before a step: what hooks see and leave alone. Images are ``(n, h, w, c)`` in [0, 1], float32,
    or float64 after a random start."""

    t: int  # steps taken since the start or restart
    steps: int  # steps in all
    threat: Threat
    clean: np.ndarray  # the images attacked
    nearest: Projection  # onto the ball around them and into [0, 1]
    x: np.ndarray  # the iterate
    previous: np.ndarray  # the iterate one step before; at the start ``x`` itself
    gradient: np.ndarray  # of the objective at ``x``, shaped like it
    direction: np.ndarray  # what ``momentum`` gave one step before; zeros at the start
    best: np.ndarray  # the iterate of highest loss since the start; the start itself while there is no other
    losses: Sequence[np.ndarray]  # (n,) float32 each, of the iterates since the start; ``x``'s is the last of t + 1
    sizes: Sequence[Size]  # what ``step`` gave for the t steps since the start


Size = float | np.ndarray
"""The length of a step as a share of epsilon: one for all rows, or ``(n, 1, 1, 1)`` float."""
Momentum = Callable[[Point], np.ndarray]
"""``momentum(point) -> direction (n, h, w, c) float32``, of any length: it is normalised by :meth:`Threat.ascent` when the step is made."""
Step = Callable[[Point], Size]
"""``step(point) -> size``."""
Project = Callable[[Point, np.ndarray, Size], np.ndarray]
"""``project(point, direction, size) -> x (n, h, w, c) float32``: the next iterate, inside the ball and in [0, 1]."""


def evaluations(steps: int, restarts: int = 1) -> int:
    """Gradients a row takes; of a single step the loss at its end is not asked."""
    return 1 if steps == restarts == 1 else restarts * (steps + 1)


def steepest(point: Point) -> np.ndarray:
    """The gradient itself: no momentum."""
    return point.gradient


def fixed(size: float) -> Step:
    """Steps of one length: ``size`` times epsilon."""
    return lambda point: size


def move(point: Point, direction: np.ndarray, size: Size) -> np.ndarray:
    """``size`` times epsilon along ``direction``, as the norm steps, then back into the ball."""
    step = point.threat.ascent(direction)
    step *= np.asarray(size * point.threat.eps, np.float32)
    moved = point.x + step
    return point.nearest(moved, out=moved)


def ascend(
    source: Differentiable,
    clean: np.ndarray,
    rows: Rows,
    threat: Threat,
    seed: int,
    goal: Goal = UNTARGETED,
    *,
    steps: int,
    step: Step,
    momentum: Momentum = steepest,
    project: Project = move,
    objective: Objective = CE(),  # noqa: B008  # a frozen value
    random_start: bool = False,
    restarts: int = 1,
) -> Crafted:
    """``steps`` steps; of all iterates (the starting point is none) the one of highest loss is kept. ``clean``: ``(n, h, w, c) uint8``.

    The gradient is taken at the gridded iterate, straight through the sensor's rounding, while the iterate itself stays continuous:
    so the loss that selects is the candidate's own, at one forward and one backward pass a step. Below one pixel, where the grid
    would undo every step, both are taken at the iterate. Raises :class:`EdgeqError` for a wanted class that the source does not know.
    """
    x0 = clean.astype(np.float32) / np.float32(255)
    n, nearest, grid = len(clean), threat.projection(x0), threat.gridding(clean)
    iterates, top = x0, np.full(n, -np.inf, np.float32)
    trace: list[np.ndarray] = []
    first = x0  # the first gradient, once it is known
    single = evaluations(steps, restarts) == 1  # one iterate: nothing to select
    for restart in range(restarts):
        x = _start(x0, rows, threat, seed, restart) if random_start else x0
        previous, direction, best, highest = x, np.zeros_like(x), x, np.full(n, -np.inf, np.float32)
        losses: list[np.ndarray] = []
        sizes: list[Size] = []
        for t in range(steps + 1):
            if single and t == steps:
                best, highest = x, np.full(n, np.inf, np.float32)
                break
            point = x
            if threat.reaches_integers:
                point = grid(x).astype(np.float32)
                point /= np.float32(255)
            loss, gradient = value_and_grad(source, objective, point, rows, goal)
            losses.append(loss)
            if t == 0 and restart == 0:
                first = gradient
            if t > 0:
                higher = loss > highest
                best, highest = _choose(higher, x, best), np.where(higher, loss, highest)
            if t == steps:
                break
            at = Point(t, steps, threat, x0, nearest, x, previous, gradient, direction, best, tuple(losses), tuple(sizes))
            direction, size = momentum(at), step(at)
            x, previous = project(at, direction, size), x
            sizes.append(size)
        trace += losses
        better = highest > top
        iterates, top = _choose(better, best, iterates), np.where(better, highest, top)
    zero = first == 0
    diagnostics = Diagnostics(np.stack(trace, axis=1), zero.all(axis=(1, 2, 3)), zero.sum(axis=(1, 2, 3)))
    loss = np.full(n, np.nan, np.float32) if single else top
    return Crafted(grid(iterates), iterates.astype(np.float32), loss, diagnostics).sparing(clean, goal, rows.labels)


def _choose(mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row the images of ``a`` where ``mask (n,) bool`` is set, else those of ``b``: never written into, so hooks may keep them."""
    return a if mask.all() else np.where(mask[:, None, None, None], a, b)


def _start(x0: np.ndarray, rows: Rows, threat: Threat, seed: int, restart: int) -> np.ndarray:
    """A point of the ball: uniform in every pixel for l_inf; for l2 a normal direction of uniform length."""
    shape = x0.shape[1:]
    if threat.norm == "linf":
        offset = 2 * rng.uniform(seed, rows.ids, restart, shape, _START) - 1
    else:
        offset = threat.ascent(rng.normal(seed, rows.ids, restart, shape, _START))
        offset *= rng.uniform(seed, rows.ids, restart, (1, 1, 1), _START + 1)
    return threat.project(x0 + np.float32(threat.eps) * offset, x0)
