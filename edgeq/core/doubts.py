"""Do a target's answers to clean images look as if the file, its preprocessing or the labels were wrong? Then its figures mislead.

A network that answers every image alike is right on the images of one class and never fooled; one that is shown other pixels than it was
trained on, or other labels, is right by chance alone, and its robust accuracy of .000 says nothing of attacks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.numbers import number

FEW = 10  # images below which no share is judged
LEVEL = 0.025  # of the one-sided test against chance: the lower end of an exact 95 % interval
LEAST = 0.05  # an accuracy below is no better than chance in practice, however many classes there are
CODES = 200  # of the 256 that an 8-bit input has


@dataclass(frozen=True)
class Alike:
    """A target that answers all clean images alike. ``what``: "scores" or "label"; ``dead``: images of several classes get one score."""

    what: str
    label: int
    dead: bool


@dataclass(frozen=True)
class Doubt:
    """What looks wrong about a target. ``kind``: "constant", "one class", "chance" or "codes"; ``sentence``: with ``{name}`` in the place
    of the target's; ``void``: nothing can be judged by its figures."""

    kind: str
    sentence: str
    void: bool

    def of(self, name: str) -> Doubt:
        """The same of the target that is called ``name``."""
        return replace(self, sentence=self.sentence.replace("{name}", name))


@dataclass(eq=False)
class Constant:
    """What a target answers to clean images, a chunk at a time: ``scores`` and ``label`` are True for as long as all of them are one."""

    n: int = 0
    scores: bool = True
    label: bool = True
    first: Answer | None = None

    def add(self, answer: Answer) -> None:
        if self.first is None and len(answer):
            self.first = answer[:1]
        if self.first is not None:
            self.n += len(answer)
            self.label = self.label and bool((answer.label() == self.first.label()).all())
            alike = np.array_equal(answer.raw, np.broadcast_to(self.first.raw, answer.raw.shape), equal_nan=True)
            self.scores = self.scores and answer.kind != "label" and alike

    def verdict(self, classes: int) -> Alike | None:
        """None where the answers differ, as they do in a network that works. ``classes``: how many the data has, 0 where nobody knows."""
        same = self.scores or (self.label and classes > 1)
        if self.n < 2 or self.first is None or not same:
            return None
        return Alike("scores" if self.scores else "label", int(self.first.label()[0]), self.scores and classes > 1)


def constant(alike: Alike | None, n: int) -> list[Doubt]:
    """Of a target that answers all ``n`` images ``alike``; else none."""
    if alike is None:
        return []
    if alike.what == "scores":
        says = f"{{name}} answers all {n} clean images with the same scores"
        return [
            Doubt(
                "constant",
                f"{says}: it does not see the image, so its figures mean nothing. Was it trained, and exported well?",
                alike.dead,
            )
        ]
    says = f"{{name}} calls all {n} clean images class {alike.label}: it is right on the images of that class alone."
    return [Doubt("constant", says, n >= FEW)]


def of_answers(answered: np.ndarray, truth: np.ndarray, classes: int) -> list[Doubt]:
    """At most one doubt about the labels ``answered`` to images of labels ``truth``, both ``(n,) int64``, by a network of ``classes``.

    *One class*: it names one class for more than halfway from that class's share of the data to all of it; so data of one class, or nearly,
    raise no doubt by themselves. *Chance*: an exact 95 % interval of the accuracy does not lie above 1 / ``classes``, or the accuracy is
    below ``LEAST``. Nothing is said of fewer than ``FEW`` images.
    """
    n = len(answered)
    if n < FEW:
        return []
    named, counts = np.unique(answered, return_counts=True)
    most, of_it = int(named[counts.argmax()]), int((truth == named[counts.argmax()]).sum())
    if 2 * counts.max() > n + of_it:
        return [Doubt("one class", f"{{name}} calls {counts.max()} of {n} clean images class {most}, which {of_it} of them are.", True)]
    right = int((answered == truth).sum())
    share = f"{{name}} gets {right} of {n} clean images right ({number(right / n)})"
    if by_chance(right, n, classes):
        return [Doubt("chance", f"{share}, which cannot be told from chance (1 in {classes:,}).", True)]
    if right < LEAST * n:
        return [Doubt("chance", f"{share}, hardly more than by chance.", True)]
    return []


def of_codes(used: int, table: np.ndarray) -> list[Doubt]:
    """Of an input that pixels reach ``used`` codes of, by the ``table`` from pixels to codes."""
    if used >= CODES:
        return []
    what = "values of its input" if table.dtype.kind == "f" else "codes of its input"
    return [Doubt("codes", f"The 256 values of a pixel reach {used} {what} in {{name}}: it hardly sees the image.", False)]


def by_chance(right: int, n: int, classes: int) -> bool:
    """Whether so many of ``n`` cannot be told from guessing one of ``classes``."""
    return at_least(right, n, 1 / max(classes, 1)) > LEVEL


def at_least(k: int, n: int, p: float) -> float:
    """The probability of ``k`` or more of ``n`` that come true with probability ``p`` each. Exact, summed in logarithms."""
    if k <= 0 or p >= 1:
        return 1.0
    if p <= 0 or k > n:
        return 0.0
    whole, yes, no = math.lgamma(n + 1), math.log(p), math.log1p(-p)
    terms = [whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * yes + (n - i) * no for i in range(k, n + 1)]
    top = max(terms)
    return min(1.0, math.exp(top) * math.fsum(math.exp(term - top) for term in terms))
