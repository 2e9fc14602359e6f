"""The baseline: one random point of the ball, drawn without looking at any network. Also the noise floor's *uniform noise*."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edgeq.core import rng
from edgeq.core.protocols import Crafted, Differentiable, GradientAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


@dataclass(frozen=True)
class Noise:
    """l_inf: every pixel moves by an integer drawn uniformly from ``-e..e``. l2: a normal direction, scaled to the radius."""

    needs: ClassVar[str] = "nothing"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")

    def evaluations(self) -> int:
        return 0

    def craft(self, source: Differentiable | None, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> Crafted:
        shape = clean.shape[1:]
        x0 = clean.astype(np.float32) / np.float32(255)
        if threat.norm == "linf":
            reach = 2 * threat.pixels + 1
            offset = (np.floor(reach * rng.uniform(seed, rows.ids, 0, shape, _DRAW)) - threat.pixels) / 255
        else:
            offset = threat.eps * threat.ascent(rng.normal(seed, rows.ids, 0, shape, _DRAW))
        x = np.clip(x0 + offset.astype(np.float32), 0, 1)
        nothing = np.full(len(clean), np.nan, np.float32)
        return Crafted(threat.grid(x, clean), x, nothing, nothing[None], np.zeros(len(clean), bool))


_DRAW = 3  # rng stream
plugin: type[GradientAttack] = Noise
