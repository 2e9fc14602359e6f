"""MI-FGSM: momentum keeps the steps from turning back at every bend (Dong et al. 2018, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.attacks._ascent import Point, ascend, evaluations, fixed
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.protocols import Crafted, Differentiable, GradientAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True)
class MI:
    """``steps`` steps of ``eps / steps`` each from the clean image, along the decayed sum of gradients, each divided by its l1 norm."""

    steps: int = 10
    decay: float = 1.0

    needs: ClassVar[str] = "gradients"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    targeted: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.decay >= 0:
            raise ValueError("steps must be at least 1 and decay at least 0")

    def evaluations(self) -> int:
        return evaluations(self.steps)

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int, goal: Goal = UNTARGETED) -> Crafted:
        step = fixed(1 / self.steps)  # alpha = eps / T
        return ascend(source, clean, rows, threat, seed, goal, steps=self.steps, step=step, momentum=self._momentum)

    def _momentum(self, point: Point) -> np.ndarray:
        """``g' = decay g + gradient / |gradient|_1`` (equation 6); its sign is the step (equation 7), for l2 ``g' / |g'|_2``."""
        gradient = point.gradient
        norm = np.abs(gradient).sum(axis=(1, 2, 3), keepdims=True)
        norm = np.maximum(norm, np.finfo(np.float32).tiny)  # a gradient of zeros adds nothing
        return np.float32(self.decay) * point.direction + gradient / norm


plugin: type[GradientAttack] = MI
