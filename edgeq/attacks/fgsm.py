"""Fast gradient sign method: one step to the edge of the ball (Goodfellow, Shlens, Szegedy 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.attacks._ascent import ascend
from edgeq.core.protocols import Crafted, Differentiable, GradientAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True)
class FGSM:
    """``x + eps * sign(grad)``; for l2 ``x + eps * grad / |grad|``."""

    needs: ClassVar[str] = "gradients"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    def evaluations(self) -> int:
        return 1

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> Crafted:
        return ascend(source, clean, rows, threat, seed, steps=1, step=1.0)


plugin: type[GradientAttack] = FGSM
