"""Does a network look at the image at all? One that answers every image alike is right on the images of one class, and never fooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.core.answer import Answer
from edgeq.measure.figures import Alike
from edgeq.runs.reader import Reader


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


def of_run(run: Reader, target: str, classes: int) -> Alike | None:
    """Of a run's target, over the clean images that it has answered. ``classes``: how many the data has."""
    labels = run.labels_of(0, target)
    answers, answered = Constant(), np.flatnonzero(labels != -1)
    for start in range(0, len(answered), 256):
        idx = answered[start : start + 256]
        answers.add(run.answer(0, target, idx) or Answer("label", labels[idx]))
        if not answers.label:  # as nearly always in the first rows already
            break
    return answers.verdict(classes)


def sentence(name: str, alike: Alike | None, n: int) -> list[str]:
    """The warning that stands above all figures of ``name``, by itself in a list; an empty one where there is nothing to say."""
    if alike is None:
        return []
    if alike.what == "scores":
        says = f"{name} answers all {n} clean images with the same scores"
        return [f"{says}: it does not see the image, so its figures mean nothing. Was it trained, and exported well?"]
    return [f"{name} calls all {n} clean images class {alike.label}: it is right on the images of that class alone."]
