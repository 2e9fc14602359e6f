"""The small interfaces between rooms. Implementations share no base class; they answer to these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
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


@runtime_checkable
class AnswersLater(Protocol):
    """A target that answers while its caller does something else."""

    def answer_later(self, images: np.ndarray) -> Callable[[], Answer]:
        """Begins what :meth:`Target.answer` does; the function that it returns waits for the answer. One at a time: what was asked before,
        and not fetched, is waited for first."""
        ...


Pullback = Callable[[np.ndarray], np.ndarray]
"""``pullback(slope (n, k) float32) -> (n, h, w, c) float32``: each row's gradient of ``sum(slope * logits)`` by its image."""

Fused = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""``fused(x (n, h, w, c) float32, labels (n,) int64) -> (loss (n,) float32, gradient (n, h, w, c) float32)``, untargeted."""


class Objective(Protocol):
    """What an attack maximises: one number a row, as a function of the logits (docs/concepts.md: *Losses*).

    A file of :mod:`edgeq.objectives` is a frozen, hashable dataclass that is called so.
    """

    def __call__(self, logits: np.ndarray, labels: np.ndarray, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """``loss (n,)``, larger being worse for the defender, and its derivative ``slope (n, k)``, both in the dtype of ``logits``.

        ``logits``: ``(n, k)`` float32 or float64, left alone; ``labels``: ``(n,) int64``, the true classes; ``wanted``: ``(n,) int64``, the
        class that each row is to be taken for, or None where any wrong one will do. A row's results do not depend on the others.
        """
        ...


class Differentiable(Protocol):
    """A source of gradients with respect to the image: logits, and how a slope on them is pulled back."""

    batch: int  # rows it computes at once; every batch is padded to this size, so that a row's numbers do not depend on their count

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Pullback]:
        """``(n, k) float32`` logits of ``x (n, h, w, c) float32`` in [0, 1], any ``n``, and their pullback at ``x``.

        The first call of the pullback costs one backward pass; later ones cost a forward pass as well.
        """
        ...

    def answer_float(self, x: np.ndarray) -> Answer:
        """The same logits as an answer, where no gradient is wanted."""
        ...


@runtime_checkable
class Fuses(Protocol):
    """A source that computes some objectives and their gradients in one piece, because that is faster."""

    def fused(self, objective: Objective) -> Fused | None:
        """The twin of ``objective`` followed by the pullback, equal to them within float32 rounding; None where there is none."""
        ...


@dataclass(frozen=True, eq=False)
class Crafted:
    """What a gradient attack made of ``n`` images."""

    candidates: np.ndarray  # (n, h, w, c) uint8: the gridded iterate of highest loss
    iterates: np.ndarray  # (n, h, w, c) float32 in [0, 1]: the same before the grid
    loss: np.ndarray  # (n,) float32: its loss on the source; NaN where the source was not asked
    diagnostics: Diagnostics = field(default_factory=Diagnostics)

    def sparing(self, clean: np.ndarray, goal: Goal, labels: np.ndarray) -> Crafted:
        """The same with the clean image, and a loss of NaN, in the rows that ``goal`` cannot attack. ``clean``: ``(n, h, w, c) uint8``."""
        attacked = goal.attackable(labels)
        if attacked.all():
            return self
        image = attacked[:, None, None, None]
        iterates = np.where(image, self.iterates, clean.astype(np.float32) / np.float32(255))
        loss = np.where(attacked, self.loss, np.float32(np.nan))
        return Crafted(np.where(image, self.candidates, clean), iterates, loss, self.diagnostics)


class GradientAttack(Protocol):
    """A plain loop over a :class:`Differentiable`. Every row runs its full budget."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # its options
    needs: ClassVar[str]  # "gradients", or "nothing": a baseline that looks at no network
    norms: ClassVar[tuple[str, ...]]
    targeted: ClassVar[bool]  # serves a wanted class, too

    def evaluations(self) -> int:
        """Gradients a row takes: what the time estimate is made of."""
        ...

    def craft(self, source: Differentiable, clean: np.ndarray, rows: Rows, threat: Threat, seed: int, goal: Goal = UNTARGETED) -> Crafted:
        """``clean``: ``(n, h, w, c) uint8``, left alone. Rows that ``goal`` cannot attack are :meth:`Crafted.sparing`'s."""
        ...


Selection = Literal["first success", "smallest norm"]
"""What the scheduler keeps of a row's queries inside the threat, and when it stops.

``first success``: stops a row as soon as a query reaches the goal; keeps the query of highest margin, the latest among equals.
``smallest norm``: never stops for a success; keeps, of the queries that reach the goal, the one nearest to the clean image in the threat's
norm, the earliest among equals. While none does, as ``first success``. Of a clean image that reaches the goal nothing is nearer: its row
is over.
"""


class QueryAttack(Protocol):
    """An ask/tell value, vectorised over rows. ``State`` is a frozen dataclass of arrays whose first axis is the rows."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # its options
    needs: ClassVar[str]  # "scores" or "label"
    norms: ClassVar[tuple[str, ...]]
    targeted: ClassVar[bool]  # serves a wanted class, too; the scheduler refuses one where it does not
    roams: ClassVar[bool]  # asks outside the threat, too: what lies outside is a query like another, and never a candidate
    selection: ClassVar[Selection]

    def queries(self) -> int:
        """The most queries a row asks, the clean check left out."""
        ...

    @property
    def width(self) -> int:
        """Queries a row asks at once."""
        ...

    def start(self, clean: np.ndarray, rows: Rows, threat: Threat, seed: int, goal: Goal = UNTARGETED) -> Any:
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

    def diagnostics(self, state: Any) -> Diagnostics:
        """What the attack has to tell of its ``r`` rows so far; the scheduler adds the queries to the first success."""
        ...
