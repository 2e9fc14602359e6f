"""SPSA: Adam on slopes estimated from scores (Uesato et al. 2018), with B19's hyperparameters (table 13)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from edgeq.core import rng
from edgeq.core.answer import Answer
from edgeq.core.objective import evaluate
from edgeq.core.protocols import QueryAttack
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.estimators import spsa

_START = 1  # rng stream
_ADAM = (np.float32(0.9), np.float32(0.999), np.float32(1e-9))


@dataclass(frozen=True, eq=False)
class State:
    rows: Rows
    clean: np.ndarray  # (r, h, w, c) uint8
    x: np.ndarray  # (r, h, w, c) float32 in [0, 1]
    mean: np.ndarray  # Adam's moments, as x
    square: np.ndarray
    step: np.ndarray  # (r,) int64: estimates made
    threat: Threat
    seed: int


@dataclass(frozen=True)
class SPSA:
    """Each of ``steps`` rounds asks for the iterate and for ``batch / 2`` mirrored pairs at distance ``delta``, then takes an Adam
    step of ``lr``; ``delta`` and ``lr`` are shares of the pixel range. Starts at a random point of the ball. Maximises the logit margin."""

    steps: int = 100
    lr: float = 0.01
    delta: float = 0.01
    batch: int = 128

    needs: ClassVar[str] = "scores"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    roams: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.batch % 2 or not (self.lr > 0 and self.delta > 0):
            raise ValueError("steps must be at least 1, batch even and at least 2, lr and delta above 0")

    @property
    def width(self) -> int:
        return self.batch + 1

    def queries(self) -> int:
        return self.steps * self.width

    def start(self, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> State:
        x0 = clean.astype(np.float32) / np.float32(255)
        offset = 2 * rng.uniform(seed, rows.ids, 0, clean.shape[1:], _START) - 1
        x = threat.project(x0 + np.float32(threat.eps) * offset, x0)
        return State(rows, clean, x, np.zeros_like(x), np.zeros_like(x), np.zeros(len(clean), np.int64), threat, seed)

    def ask(self, state: State) -> np.ndarray:
        queries = np.empty((len(state.x), self.width, state.x[0].size), np.uint8)
        queries[:, 0] = state.threat.grid(state.x, state.clean).reshape(len(state.x), -1)
        signs, high, low = self._pairs(state)
        spsa.pairs(high, low, signs, out=queries[:, 1:])
        return queries.reshape(len(state.x), self.width, *state.x.shape[1:])

    def tell(self, state: State, answer: Answer) -> State:
        loss = evaluate("margin", answer.logits(), np.repeat(state.rows.labels, self.width)).reshape(-1, self.width)
        slope = spsa.gradient(loss[:, 1:], *self._pairs(state)).reshape(state.x.shape)
        b1, b2, tiny = _ADAM
        step = state.step + 1
        mean = b1 * state.mean + (1 - b1) * slope
        square = b2 * state.square + (1 - b2) * slope**2
        t = step.astype(np.float32)[:, None, None, None]
        move = np.float32(self.lr) * (mean / (1 - b1**t)) / (np.sqrt(square / (1 - b2**t)) + tiny)
        x = state.threat.project(state.x + move, state.clean.astype(np.float32) / np.float32(255))
        return replace(state, x=x, mean=mean, square=square, step=step)

    def _pairs(self, state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        signs = spsa.signs(state.seed, state.rows.ids, state.step, self.batch // 2, state.x[0].size)
        return signs, *spsa.ends(state.x, state.clean, state.threat, self.delta)

    def done(self, state: State) -> np.ndarray:
        return state.step >= self.steps


plugin: type[QueryAttack] = SPSA
