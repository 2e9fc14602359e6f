"""Projected gradient descent from random starts (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.attacks._ascent import ascend, evaluations, fixed
from edgeq.core import plugins
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.protocols import Crafted, Differentiable, GradientAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True)
class PGD:
    """``restarts`` runs of ``steps`` steps. ``step`` is relative to epsilon (3/40: RobustART's). ``objective``: ce, margin, or another
    file of :mod:`edgeq.objectives`."""

    steps: int = 40
    step: float = 0.075
    restarts: int = 1
    objective: str = "ce"

    needs: ClassVar[str] = "gradients"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    targeted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.step > 0:
            raise ValueError("steps and restarts must be at least 1 and step above 0")
        if self.objective not in plugins.names(plugins.OBJECTIVES):
            raise ValueError(f"objective must be one of {', '.join(plugins.names(plugins.OBJECTIVES))}")

    def evaluations(self) -> int:
        return evaluations(self.steps, self.restarts)

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int, goal: Goal = UNTARGETED) -> Crafted:
        return ascend(
            source,
            clean,
            rows,
            threat,
            seed,
            goal,
            steps=self.steps,
            step=fixed(self.step),
            objective=plugins.load(plugins.OBJECTIVES, self.objective)(),
            random_start=True,
            restarts=self.restarts,
        )


plugin: type[GradientAttack] = PGD
