"""What a target answers, and what "right" and "fooled" mean (docs/concepts.md: *Fooled*, *Ties*)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

Kind = Literal["label", "probs", "logits"]
_TINY = np.finfo(np.float32).tiny
ABSTAINS = -2
"""The label of an ensemble whose members do not agree: no class, so neither right nor fooled. (-1 is an answer that is missing.)"""


@dataclass(frozen=True, eq=False)
class Answer:
    """The answers to ``m`` images.

    ``kind``: what the numbers are.
    ``raw``: ``(m, k)`` in the dtype the runtime returned (int8, uint8, float32), or ``(m,) int64`` class indices for ``label``. ``(m, 1)``
    is one score of two classes: :attr:`scores` makes two of it.
    ``scale``, ``zero``: ``value = scale * (raw - zero)``; 1 and 0 where the runtime returns floats.
    """

    kind: Kind
    raw: np.ndarray
    scale: float = 1.0
    zero: int = 0

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: np.ndarray | slice) -> Answer:
        return Answer(self.kind, self.raw[index], self.scale, self.zero)

    @property
    def classes(self) -> int | None:
        """How many classes the scores tell apart; None for ``label`` answers."""
        return None if self.kind == "label" else self.scores.shape[1]

    @cached_property
    def scores(self) -> np.ndarray:
        """``(m, k)``: the scores of the classes, in raw steps: what was returned. Of a single score ``(m, 2) float64``, and nowhere else is
        one made two: class 1 has it; class 0 has ``1 - p`` beside a probability ``p``, and 0 beside a logit."""
        if self.kind == "label" or self.raw.shape[1] != 1:
            return self.raw
        one = self.raw.astype(np.float64)
        other = 2 * self.zero + 1 / self.scale - one if self.kind == "probs" else np.full_like(one, self.zero)
        return np.concatenate([other, one], axis=1)

    @property
    def lsb(self) -> float:
        """The smallest step of a score; 0.0 for float outputs."""
        return self.scale if self.raw.dtype.kind in "iu" and self.kind != "label" else 0.0

    def values(self) -> np.ndarray:
        """``(m, k) float32``: probabilities or logits."""
        return (self.scores.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale)

    def logits(self) -> np.ndarray:
        """``(m, k) float32``: logits, or ``log(max(p, LSB/2))`` where only probabilities are seen (docs/concepts.md: *Losses*)."""
        if self.kind == "label":
            raise TypeError("a label has no logits")
        values = self.values()
        if self.kind == "logits":
            return values
        return np.log(np.maximum(values, np.float32(self.lsb / 2 or _TINY)))

    def label(self) -> np.ndarray:
        """``(m,) int64``: the predicted class; the lowest index among equals (numpy's argmax)."""
        return self.raw if self.kind == "label" else self.scores.argmax(axis=1)

    def margin(self, labels: np.ndarray) -> np.ndarray:
        """``(m,) float32``: best other class minus the class ``labels``, in raw steps; above 0 where the target is fooled.

        For ``label`` answers it is +1 where another class is named, and -1 where the class ``labels`` is, or none.
        """
        if self.kind == "label":
            return np.where((self.raw != labels) & (self.raw != ABSTAINS), 1, -1).astype(np.float32)
        # int8 differences need 9 bits; float32 holds them exactly, and float outputs as they are
        scores = self.scores.astype(np.float32)
        rows = np.arange(len(scores))
        own = scores[rows, labels]
        scores[rows, labels] = -np.inf
        return scores.max(axis=1) - own

    def lead(self, wanted: np.ndarray) -> np.ndarray:
        """``(m,) float32``: the class ``wanted (m,) int64`` minus the best other one, in raw steps; above 0 where the target answers it
        strictly. For ``label`` answers it is +1 where the label is the wanted one and -1 where it is not."""
        return 0 - Answer.margin(self, wanted)

    def right(self, labels: np.ndarray) -> np.ndarray:
        """``(m,) bool``: the predicted class is ``labels``. A tie is right where that is the lowest index among the equals."""
        return np.asarray(self.label() == labels)

    def fooled(self, labels: np.ndarray) -> np.ndarray:
        """``(m,) bool``: some class *strictly* exceeds the class ``labels``. A tie fools nobody, and proves nobody right."""
        return self.margin(labels) > 0

    def tied(self) -> np.ndarray:
        """``(m,) bool``: two or more classes share the top score."""
        if self.kind == "label":
            return np.zeros(len(self.raw), bool)
        return (self.scores == self.scores.max(axis=1, keepdims=True)).sum(axis=1) > 1
