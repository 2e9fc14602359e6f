"""A cell: one way of making candidates from the rows. A unit: a cell's work on some of them. A batch: what came of a unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.threat import Threat

CellKind = Literal["clean", "noise", "gradient", "query"]
KINDS: tuple[str, ...] = get_args(CellKind)


@dataclass(frozen=True)
class Cell:
    """One attack at one radius, a baseline, or the clean images themselves, which are cell 0.

    ``params``: the attack's fields; ``norm``, ``eps``: its threat, "" and 0 where there is none; ``crafted_on``: the id of the target
    that was attacked or lent its gradients, "" where none was; ``access``: what that target revealed, a level of the access ladder;
    ``goal``: what the attack is to reach.
    """

    cell: int
    attack: str
    params: Mapping[str, Any] = field(hash=False)
    norm: str = ""
    eps: float = 0.0
    crafted_on: str = ""
    access: str = ""
    kind: CellKind = "gradient"
    goal: Goal = UNTARGETED

    @property
    def threat(self) -> Threat | None:
        """None where nothing bounds the candidates: the clean images."""
        return Threat(self.norm, self.eps) if self.norm else None  # type: ignore[arg-type]  # checked where it is read

    @property
    def adversarial(self) -> bool:
        """Whether somebody tried to fool a target: the clean images and noise are in no worst case."""
        return self.kind in ("gradient", "query")


CLEAN = Cell(0, "clean", {}, kind="clean")


@dataclass(frozen=True)
class Unit:
    """The rows ``index`` of a cell: to be crafted where ``target`` is "", else to be answered by it."""

    cell: Cell
    index: tuple[int, ...]
    target: str = ""


@dataclass(frozen=True, eq=False)
class Batch:
    """What came of rows ``index`` of a cell: candidates, answers, or both.

    ``candidates``: ``(m, h, w, c) uint8``, None where the rows were only answered; ``clean``: what they were made from; ``queries``:
    ``(m,) int64``; ``loss``: ``(m,) float32``; ``diagnostics``: by the clamp that the gradients went through, "" where there is none;
    ``answers``: by target id; ``identities``: what the targets and sources of gradients were that may have had a part in it.
    """

    cell: int
    index: np.ndarray
    candidates: np.ndarray | None = None
    clean: np.ndarray | None = None
    queries: np.ndarray | None = None
    loss: np.ndarray | None = None
    diagnostics: Mapping[str, Diagnostics] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    identities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
