"""The small interfaces between rooms. Implementations share no base class; they answer to these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.objective import Objective
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat


class Dataset(Protocol):
    """Labelled images that are decoded one at a time, so that memory does not grow with their number."""

    @property
    def names(self) -> Sequence[str]:
        """Relative path or index of each image: what a row's id is made of."""
        ...

    @property
    def labels(self) -> np.ndarray:
        """``(n,) int64``, 0-based."""
        ...

    @property
    def classes(self) -> Sequence[str] | None:
        """Class names in label order, where known."""
        ...

    def image(self, index: int) -> np.ndarray:
        """``(h, w, c) uint8``, c 1 or 3 (RGB), at the size it is stored in."""
        ...


class Target(Protocol):
    """An artifact in a runtime: what can be queried."""

    name: str  # "litert-xnnpack"
    batch: int  # images it answers best at once

    def answer(self, images: np.ndarray) -> Answer:
        """Answers to ``(m, h, w, c) uint8`` images, any ``m``; a row's answer does not depend on the others."""
        ...

    def identity(self) -> dict[str, Any]:
        """Engine, version, kernel set, instruction set: what makes this runtime this function."""
        ...

    def close(self) -> None: ...


class Differentiable(Protocol):
    """A source of gradients with respect to the image."""

    def value_and_grad(self, x: np.ndarray, rows: Rows, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
        """Per-row loss ``(n,) float32`` and its gradient ``(n, h, w, c) float32``; ``x`` float32 in [0, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class Crafted:
    """What a gradient attack made of ``n`` images."""

    candidates: np.ndarray  # (n, h, w, c) uint8: the gridded iterate of highest loss
    iterates: np.ndarray  # (n, h, w, c) float32 in [0, 1]: the same before the grid
    loss: np.ndarray  # (n,) float32: its loss on the source; NaN where the source was not asked
    trace: np.ndarray  # (evaluations, n) float32: the loss at each point whose gradient was taken
    zero: np.ndarray  # (n,) bool: the first gradient was exactly zero


class GradientAttack(Protocol):
    """A plain loop over a :class:`Differentiable`. Every row runs its full budget."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # its options
    needs: ClassVar[str]  # "gradients", or "nothing": a baseline that looks at no network
    norms: ClassVar[tuple[str, ...]]

    def evaluations(self) -> int:
        """Gradients a row takes: what the time estimate is made of."""
        ...

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> Crafted:
        """``clean``: ``(n, h, w, c) uint8``, left alone."""
        ...


class QueryAttack(Protocol):
    """An ask/tell value, vectorised over rows. ``State`` is a frozen dataclass of arrays whose first axis is the rows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # its options
    needs: ClassVar[str]  # "scores" or "label"
    norms: ClassVar[tuple[str, ...]]
    roams: ClassVar[bool]  # asks outside the threat, too: what lies outside is a query like another, and never a candidate

    def queries(self) -> int:
        """The most queries a row asks, the clean check left out."""
        ...

    @property
    def width(self) -> int:
        """Queries a row asks at once."""
        ...

    def start(self, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> Any:
        """The state of rows that were asked nothing yet. ``clean``: ``(r, h, w, c) uint8``."""
        ...

    def ask(self, state: Any) -> np.ndarray:
        """``(r, width, h, w, c) uint8``, every one a candidate inside the threat, unless the attack ``roams``."""
        ...

    def tell(self, state: Any, answer: Answer) -> Any:
        """The state after the ``r * width`` answers, row-major."""
        ...

    def done(self, state: Any) -> np.ndarray:
        """``(r,) bool``: rows with nothing more to ask."""
        ...
