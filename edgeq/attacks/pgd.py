"""Projected gradient descent from random starts (Madry et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np

from edgeq.attacks._ascent import ascend
from edgeq.core.objective import Objective
from edgeq.core.protocols import Crafted, Differentiable, GradientAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True)
class PGD:
    """``restarts`` runs of ``steps`` steps. ``step`` is relative to epsilon (3/40: RobustART's). ``objective``: ce or margin."""

    steps: int = 40
    step: float = 0.075
    restarts: int = 1
    objective: str = "ce"

    needs: ClassVar[str] = "gradients"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.step > 0:
            raise ValueError("steps and restarts must be at least 1 and step above 0")
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective must be one of {', '.join(get_args(Objective))}")

    def evaluations(self) -> int:
        return self.restarts * (self.steps + 1)

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> Crafted:
        return ascend(
            source,
            clean,
            rows,
            threat,
            seed,
            steps=self.steps,
            step=self.step,
            objective=self.objective,  # type: ignore[arg-type]  # checked in __post_init__
            random_start=True,
            restarts=self.restarts,
        )


plugin: type[GradientAttack] = PGD
