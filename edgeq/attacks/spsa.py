"""SPSA: Adam on slopes estimated from scores (Uesato et al. 2018), with B19's hyperparameters (table 13)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from edgeq.core import rng
from edgeq.core.answer import Answer
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.protocols import QueryAttack, Selection
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.estimators import spsa
from edgeq.objectives import margin

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
    zero: np.ndarray  # (r,) int64: mirrored pairs so far whose two losses are equal
    signs: np.ndarray  # (r, bytes) uint8: of the round that is asked, packed
    high: np.ndarray  # (r, 1, h*w*c) uint8: the values that a pixel of its pairs can have
    low: np.ndarray
    threat: Threat
    seed: int
    goal: Goal


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
    targeted: ClassVar[bool] = True
    roams: ClassVar[bool] = False
    selection: ClassVar[Selection] = "first success"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 2 or self.batch % 2 or not (self.lr > 0 and self.delta > 0):
            raise ValueError("steps must be at least 1, batch even and at least 2, lr and delta above 0")

    @property
    def width(self) -> int:
        return self.batch + 1

    def queries(self) -> int:
        return self.steps * self.width

    def start(self, clean: np.ndarray, rows: Rows, threat: Threat, seed: int, goal: Goal = UNTARGETED) -> State:
        x0 = clean.astype(np.float32) / np.float32(255)
        offset = 2 * rng.uniform(seed, rows.ids, 0, clean.shape[1:], _START) - 1
        x = threat.project(x0 + np.float32(threat.eps) * offset, x0)
        none = np.zeros(len(clean), np.int64)
        drawn = self._round(seed, rows, none, x, clean, threat)
        return State(rows, clean, x, np.zeros_like(x), np.zeros_like(x), none, none, *drawn, threat, seed, goal)

    def ask(self, state: State) -> np.ndarray:
        size = state.x[0].size
        queries = np.empty((len(state.x), self.width, size), np.uint8)
        queries[:, 0] = state.threat.grid(state.x, state.clean).reshape(len(state.x), -1)
        spsa.pairs(state.high, state.low, spsa.unpacked(state.signs, self.batch // 2, size), out=queries[:, 1:])
        return queries.reshape(len(state.x), self.width, *state.x.shape[1:])

    def tell(self, state: State, answer: Answer) -> State:
        logits, labels = answer.logits(), np.repeat(state.rows.labels, self.width)
        loss = margin.loss(logits, labels, state.goal.wanted(labels, logits.shape[1])).reshape(-1, self.width)
        up, down = np.split(loss[:, 1:], 2, axis=1)
        signs = spsa.unpacked(state.signs, self.batch // 2, state.x[0].size)
        slope = spsa.gradient(loss[:, 1:], signs, state.high, state.low).reshape(state.x.shape)
        b1, b2, tiny = _ADAM
        step = state.step + 1
        mean = b1 * state.mean + (1 - b1) * slope
        square = b2 * state.square + (1 - b2) * slope**2
        t = step.astype(np.float32)[:, None, None, None]
        move = np.float32(self.lr) * (mean / (1 - b1**t)) / (np.sqrt(square / (1 - b2**t)) + tiny)
        x = state.threat.project(state.x + move, state.clean.astype(np.float32) / np.float32(255))
        drawn, high, low = self._round(state.seed, state.rows, step, x, state.clean, state.threat)
        zero = state.zero + (up == down).sum(axis=1)
        return replace(state, x=x, mean=mean, square=square, step=step, zero=zero, signs=drawn, high=high, low=low)

    def _round(
        self, seed: int, rows: Rows, step: np.ndarray, x: np.ndarray, clean: np.ndarray, threat: Threat
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the pairs of a round are made of: packed signs, and both ends."""
        return spsa.packed(seed, rows.ids, step, self.batch // 2, x[0].size), *spsa.ends(x, clean, threat, self.delta)

    def done(self, state: State) -> np.ndarray:
        return state.step >= self.steps

    def diagnostics(self, state: State) -> Diagnostics:
        """Of the rounds that were answered whole: the one in which a row succeeds forms no differences."""
        return Diagnostics(differences=state.step * (self.batch // 2), zero_differences=state.zero)


plugin: type[QueryAttack] = SPSA
