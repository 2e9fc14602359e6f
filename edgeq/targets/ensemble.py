"""Several targets as one: what enough of them agree on, or the mean of their logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.core.answer import ABSTAINS, Answer
from edgeq.core.protocols import Target


class Ensemble:
    """Answers the class that most members name, the lowest of equals, if at least ``agree`` of them do; else it abstains (B19, equations
    11 to 13). ``members``: targets by id."""

    def __init__(self, name: str, members: Mapping[str, Target], agree: int) -> None:
        self.name, self.agree = name, agree
        self.batch = max(member.batch for member in members.values())
        self._members = members

    def answer(self, images: np.ndarray) -> Answer:
        """Labels ``(m,) int64`` of ``(m, h, w, c) uint8`` images; :data:`~edgeq.core.answer.ABSTAINS` where too few agree."""
        labels = np.stack([member.answer(images).label() for member in self._members.values()])
        votes = (labels[:, None] == labels).sum(axis=1)  # (members, m): how many name what this member names
        most = votes.max(axis=0)
        named = np.where(votes == most, labels, np.iinfo(np.int64).max).min(axis=0)
        return Answer("label", np.where(most >= self.agree, named, ABSTAINS))

    def identity(self) -> dict[str, Any]:
        return {"engine": "ensemble", "agree": self.agree, "members": {id: m.identity() for id, m in self._members.items()}}

    def close(self) -> None:
        """The members are their opener's to close."""


class Mean:
    """The mean of the members' logits, as a target and, of sources, as a source. ``members``: by id."""

    def __init__(self, name: str, members: Mapping[str, Any]) -> None:
        self.name, self._members = name, members
        self.batch = max(member.batch for member in members.values())

    def answer(self, images: np.ndarray) -> Answer:
        """Logits ``(m, k) float32`` of ``(m, h, w, c) uint8`` images."""
        return Answer("logits", self._mean([member.answer(images).logits() for member in self._members.values()]))

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Logits ``(m, k) float32`` of ``(m, h, w, c) float32`` images in [0, 1], and from a slope in them to the gradient in ``x``."""
        logits, pullbacks = zip(*(member.logits(x) for member in self._members.values()), strict=True)
        return self._mean(logits), lambda slope: self._mean([pullback(slope) for pullback in pullbacks])

    def identity(self) -> dict[str, Any]:
        return {"engine": "mean of logits", "members": {id: m.identity() for id, m in self._members.items()}}

    def close(self) -> None:
        """The members are their opener's to close."""

    @staticmethod
    def _mean(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(np.mean(values, axis=0, dtype=np.float32))
