"""RayS: along which corner of the l_inf ball the decision boundary is nearest, from labels alone (Chen and Gu 2020, algorithms 1 to 3)."""

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

_DITHER = 4  # rng stream
_FAR = np.float32(255)  # from here on every pixel is 0 or 255
_TRY, _REACH, _HALVE = 0, 1, 2  # what a row asks next


@dataclass(frozen=True, eq=False)
class State:
    rows: Rows
    clean: np.ndarray  # (r, h, w, c) uint8
    signs: np.ndarray  # (r, h*w*c) int8: the best direction, 1 or -1 a pixel
    radius: np.ndarray  # (r,) float32: pixel steps along it to the boundary; infinite while none is known
    level: np.ndarray  # (r,) int64: the image is cut into 2^level runs of pixels
    block: np.ndarray  # (r,) int64: the run whose signs are turned next
    phase: np.ndarray  # (r,) int64
    low: np.ndarray  # (r,) float32: a radius of the turned direction that does not fool
    high: np.ndarray  # (r,) float32: one that does
    asked: np.ndarray  # (r,) int64
    threat: Threat
    seed: int


@dataclass(frozen=True)
class RayS:
    """Turns the signs of one run of pixels after the other, ever shorter runs, and keeps what brings the boundary nearer.

    A turned direction is asked at the best radius so far; if it fools there, at epsilon, where a row that fools has ended; else its
    boundary is halved down to ``tolerance`` pixel steps. ``steps``: queries a row. The sensor has whole pixels only: of a broken radius
    each pixel rounds up or down by a threshold of its own, so that the boundary's distance is still resolved in parts of a pixel.
    """

    steps: int = 10_000
    tolerance: float = 0.05

    needs: ClassVar[str] = "label"
    norms: ClassVar[tuple[str, ...]] = ("linf",)
    targeted: ClassVar[bool] = False  # where the boundary is near says nothing of which class lies behind it
    roams: ClassVar[bool] = True
    selection: ClassVar[Selection] = "first success"

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0.001 <= self.tolerance <= 1:
            raise ValueError("steps must be at least 1 and tolerance from .001 to 1 pixel step")

    @property
    def width(self) -> int:
        return 1

    def queries(self) -> int:
        return self.steps

    def start(self, clean: np.ndarray, rows: Rows, threat: Threat, seed: int, goal: Goal = UNTARGETED) -> State:
        goal.check(self)
        r, size = len(clean), clean[0].size
        none, far = np.zeros(r, np.int64), np.full(r, np.inf, np.float32)
        signs = np.ones((r, size), np.int8)
        return State(rows, clean, signs, far, none, none, none, np.zeros(r, np.float32), far, none, threat, seed)

    def ask(self, state: State) -> np.ndarray:
        reach = np.full(len(state.clean), state.threat.pixels, np.float32)
        radius = np.choose(state.phase, [np.minimum(state.radius, _FAR), reach, (state.low + state.high) / 2])
        up = rng.uniform(state.seed, state.rows.ids, 0, (state.signs.shape[1],), _DITHER)
        length = np.floor(radius[:, None] + up).astype(np.int16)
        base = state.clean.reshape(state.signs.shape).astype(np.int16)
        return np.clip(base + self._turned(state) * length, 0, 255).astype(np.uint8).reshape(len(base), 1, *state.clean.shape[1:])

    def tell(self, state: State, answer: Answer) -> State:
        fools = answer.label() != state.rows.labels
        tried, reached, halved = (state.phase == p for p in (_TRY, _REACH, _HALVE))
        middle = (state.low + state.high) / 2
        low = np.where(reached, np.float32(state.threat.pixels), np.where(halved & ~fools, middle, state.low))
        high = np.where(tried & fools, np.minimum(state.radius, _FAR), np.where(halved & fools, middle, state.high))
        located = ~tried & (high - low <= self.tolerance)
        nearer = located & (high < state.radius)
        signs = np.where(nearer[:, None], self._turned(state), state.signs)
        radius = np.where(nearer, high, state.radius)
        over = located | (tried & ~fools)
        phase = np.where(over, _TRY, np.where(tried, _REACH, _HALVE))
        block = np.where(over, state.block + 1, state.block)
        last = block * self._run(state) >= signs.shape[1]
        finest = int(np.ceil(np.log2(signs.shape[1])))
        level = np.where(last, np.minimum(state.level + 1, finest), state.level)
        block = np.where(last, 0, block)
        return replace(state, signs=signs, radius=radius, level=level, block=block, phase=phase, low=low, high=high, asked=state.asked + 1)

    def done(self, state: State) -> np.ndarray:
        return state.asked >= self.steps

    def diagnostics(self, state: State) -> Diagnostics:
        """None: labels have no differences."""
        return Diagnostics()

    @staticmethod
    def _run(state: State) -> np.ndarray:
        """``(r,) int64``: pixels in a run."""
        return -(-state.signs.shape[1] // (1 << state.level))

    def _turned(self, state: State) -> np.ndarray:
        """``(r, h*w*c) int8``: the best direction with the signs of the row's run turned."""
        at = np.arange(state.signs.shape[1]) // self._run(state)[:, None]
        return np.where(at == state.block[:, None], -state.signs, state.signs)


plugin: type[QueryAttack] = RayS
