"""What looks wrong about a run's answers to its clean images: sentences that stand above all its figures (docs/concepts.md: *Warnings*)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeq.core import doubts
from edgeq.core.answer import Answer
from edgeq.core.doubts import Alike, Constant, Doubt
from edgeq.runs.format import RunTarget
from edgeq.runs.reader import Reader


def alike(run: Reader, target: str, classes: int) -> Alike | None:
    """Whether a target answers all clean images alike, of those that it has answered. ``classes``: how many the data has."""
    labels = run.labels_of(0, target)
    answers, answered = Constant(), np.flatnonzero(labels != -1)
    for start in range(0, len(answered), 256):
        idx = answered[start : start + 256]
        answers.add(run.answer(0, target, idx) or Answer("label", labels[idx]))
        if not answers.label:  # as nearly always in the first rows already
            break
    return answers.verdict(classes)


def of_target(run: Reader, record: RunTarget) -> tuple[Doubt, ...]:
    """Of one target, over the clean images that it has answered. An ensemble, which may abstain, is doubted only where it is constant."""
    spec, answered, truth = record.spec, run.labels_of(0, record.id), run.labels()
    done = (answered != -1) & (truth >= 0)
    present = len(np.unique(truth[done]))
    found = doubts.constant(alike(run, record.id, present), int(done.sum()))
    if not found and spec.derived != "ensemble":
        classes = None if spec.signature is None else spec.signature.classes
        found = doubts.of_answers(answered[done], truth[done], classes or present)
    if spec.codes is not None and spec.role == "target" and spec.derived != "ensemble":
        found = [*doubts.of_codes(spec.codes.used, spec.codes.table), *found]
    return tuple(found)


def sentences(found: Mapping[str, tuple[Doubt, ...]], networks: Mapping[str, str], called: Mapping[str, str]) -> Iterable[str]:
    """``found``: doubts by target; ``networks``: what their files are called; ``called``: what to call them. What several runtimes of one
    file have in common is said of the first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for id, several in found.items():
        for doubt in several:
            groups.setdefault((networks[id] or id, doubt.kind), []).append(id)
    for (_, kind), ids in groups.items():
        doubt = next(d for d in found[ids[0]] if d.kind == kind)
        others = f" So it is with {', '.join(called[id] for id in ids[1:])}." if len(ids) > 1 else ""
        yield doubt.of(called[ids[0]]).sentence + others
