"""Basic iterative method (Kurakin, Goodfellow, Bengio 2017), with B19's hyperparameters (table 12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.attacks._ascent import ascend
from edgeq.core.protocols import Crafted, Differentiable, GradientAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True)
class BIM:
    """Projected steps from the clean image. ``step`` is relative to epsilon: B19's 0.0003 at 0.03 is 0.01."""

    steps: int = 100
    step: float = 0.01

    needs: ClassVar[str] = "gradients"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.step > 0:
            raise ValueError("steps must be at least 1 and step above 0")

    def evaluations(self) -> int:
        return self.steps + 1

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> Crafted:
        return ascend(source, clean, rows, threat, seed, steps=self.steps, step=self.step)


plugin: type[GradientAttack] = BIM
