"""What an attack is to reach: any wrong class, or a wanted one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError

Rule = Literal["untargeted", "class", "next"]


@dataclass(frozen=True)
class Goal:
    """``untargeted``: any class but the true one. ``class``: the class ``label`` (0-based), the same for every row. ``next``: the class
    after the true one, modulo their number.

    A row whose true class is the wanted one cannot be attacked. It keeps its clean image, its loss or margin is NaN, it costs a query
    attack the clean check alone, and it never counts as reached. The goal is the attacker's: "fooled" and robust accuracy stay untargeted
    whatever it is (docs/concepts.md, *Right, fooled, tied*).
    """

    rule: Rule = "untargeted"
    label: int | None = None

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ValueError(f"a goal's rule must be one of {', '.join(get_args(Rule))}")
        if (self.rule == "class") != (self.label is not None):
            raise ValueError("a goal has a label if its rule is class, and none otherwise")
        if self.label is not None and (type(self.label) is not int or not 0 <= self.label < 1 << 31):
            raise ValueError("a goal's label must be a whole number from 0 to 2^31 - 1")

    @classmethod
    def parse(cls, text: str) -> Goal:
        """``untargeted``, ``next`` or ``class:3``, as :meth:`__str__` writes them. Raises :class:`EdgeqError` for anything else."""
        rule, colon, label = text.partition(":")
        try:
            if colon:
                return cls(rule, int(label) if label.isascii() and label.isdigit() else None)  # type: ignore[arg-type]  # checked above
            return cls(rule)  # type: ignore[arg-type]
        except ValueError:
            raise EdgeqError(f"{text!r} is not a goal; write untargeted, next, or class:3 for the class 3") from None

    def __str__(self) -> str:
        return self.rule if self.label is None else f"{self.rule}:{self.label}"

    @property
    def targeted(self) -> bool:
        """Whether one class is wanted of each row."""
        return self.rule != "untargeted"

    def check(self, attack: Any) -> None:
        """Raises ValueError where ``attack``, a gradient or query attack, cannot serve this goal."""
        if self.targeted and not attack.targeted:
            name = type(attack).__name__
            raise ValueError(f"{name} has no targeted form, so it cannot pursue the goal {self}; take the goal untargeted")

    def attackable(self, labels: np.ndarray) -> np.ndarray:
        """``(n,) bool``: rows whose true class, ``labels (n,) int64``, is not the wanted one."""
        return np.ones(len(labels), bool) if self.label is None else np.asarray(labels != self.label)

    def wanted(self, labels: np.ndarray, classes: int | None) -> np.ndarray | None:
        """``(n,) int64``: the class that is wanted of each row; None for the untargeted goal.

        ``classes``: how many there are; None where only labels are seen. Raises :class:`EdgeqError` for a class that does not exist, and
        for the rule ``next`` where their number is not known.
        """
        if not self.targeted:
            return None
        if self.label is not None:
            if classes is not None and self.label >= classes:
                raise EdgeqError(f"the goal {self} wants a class that does not exist; there are {classes}, from 0 to {classes - 1}")
            return np.full(len(labels), self.label, np.int64)
        if classes is None:
            raise EdgeqError(f"the goal {self} needs the number of classes, which labels alone do not show; name one class, as in class:3")
        if classes < 2:
            raise EdgeqError(f"the goal {self} needs a second class; there is only one")
        return (labels + 1) % classes

    def margin(self, answer: Answer, labels: np.ndarray) -> np.ndarray:
        """``(m,) float32``, in raw score steps: best other class minus the true one; for a wanted class its score minus the best other
        one's. Above 0 where the goal is reached, NaN for rows that cannot be attacked. Raises as :meth:`wanted`."""
        wanted = self.wanted(labels, answer.classes)
        if wanted is None:
            return answer.margin(labels)
        return np.where(self.attackable(labels), answer.lead(wanted), np.float32(np.nan))

    def reached(self, answer: Answer, labels: np.ndarray) -> np.ndarray:
        """``(m,) bool``: rows of which ``answer`` is what the attack wants, strictly. A tie reaches nothing. Raises as :meth:`wanted`."""
        return self.margin(answer, labels) > 0


UNTARGETED = Goal()
