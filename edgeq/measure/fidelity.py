"""Is the file still the network, and the same network on every runtime? (docs/concepts.md: *Noise floor*, on clean images.)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.doubts import Alike, Constant
from edgeq.core.jsonable import as_json
from edgeq.measure.intervals import wilson

REFERENCE = "litert-reference"


class Answering(Protocol):
    """All that is asked of a target here."""

    def answer(self, images: np.ndarray) -> Answer:
        """Answers to ``(m, h, w, c) uint8`` images."""
        ...


@dataclass(frozen=True)
class Line:
    """One runtime. ``reason``: why it cannot run, "" where it did; then the numbers below stand.

    ``right``: rows it gets right, None without labels; ``with_ties``: the same if ties with the true class counted as right;
    ``flips``: other runtime -> rows with another top class;
    ``lsb``: largest score difference to the reference kernels, in steps of their output; None where there is nothing to compare;
    ``tied``: rows where classes share the top score; ``constant``: see :meth:`~edgeq.core.doubts.Constant.verdict`.
    """

    name: str
    reason: str = ""
    n: int = 0
    right: int | None = None
    flips: Mapping[str, int] | None = None
    lsb: float | None = None
    tied: int = 0
    with_ties: int | None = None
    constant: Alike | None = None

    @property
    def accuracy(self) -> tuple[float, float, float] | None:
        """Accuracy with its Wilson 95 % interval."""
        return None if self.right is None or not self.n else (self.right / self.n, *wilson(self.right, self.n))

    def to_json(self) -> dict[str, Any]:
        """As the sidecar of an export has it: shares of the ``n`` rows, accuracy with its interval."""
        if self.reason:
            return {"runtime": self.name, "reason": self.reason}
        return {
            "runtime": self.name,
            "n": self.n,
            "accuracy": self.accuracy,
            "with_ties": None if self.with_ties is None or not self.n else self.with_ties / self.n,
            "flips": dict(self.flips or {}),
            "lsb": self.lsb,
            "ties": self.tied,
            "constant": as_json(self.constant),
        }


@dataclass(frozen=True)
class Fidelity:
    """A network and the files made of it, on the same ``n`` clean images of ``data``, sampled with ``seed``."""

    data: str
    seed: int
    n: int
    runtimes: tuple[Line, ...]

    def to_json(self) -> dict[str, Any]:
        """As the sidecar of an export has it."""
        return {"data": self.data, "seed": self.seed, "n": self.n, "runtimes": [line.to_json() for line in self.runtimes]}


def compare(
    targets: Mapping[str, Answering | str],
    batches: Iterable[tuple[np.ndarray, np.ndarray | None]],
    progress: Callable[[int], None] | None = None,
) -> tuple[Line, ...]:
    """A line a target, in their order. A target that is a text is the reason why there is none.

    ``batches``: ``(m, h, w, c) uint8`` images and ``(m,) int64`` labels, or None where nobody knows them. They are read once, so
    memory does not grow with their number. ``progress`` is called with the number of images done so far.
    """
    running = {name: target for name, target in targets.items() if not isinstance(target, str)}
    tops: dict[str, list[np.ndarray]] = {name: [] for name in running}
    right, with_ties, tied = (dict.fromkeys(running, 0) for _ in range(3))
    far = dict.fromkeys(running, 0.0)
    constant = {name: Constant() for name in running}
    labelled, n, classes = True, 0, set[int]()
    for images, labels in batches:
        answers = {name: target.answer(images) for name, target in running.items()}
        for name, answer in answers.items():
            tops[name].append(answer.label())
            tied[name] += int(answer.tied().sum())
            constant[name].add(answer)
            if labels is not None:
                right[name] += int(answer.right(labels).sum())
                with_ties[name] += int((~answer.fooled(labels)).sum())
            if REFERENCE in answers:
                far[name] = max(far[name], distance(answer, answers[REFERENCE]))
        labelled &= labels is not None
        classes |= set() if labels is None else set(labels.tolist())
        n += len(images)
        if progress:
            progress(n)
    top = {name: np.concatenate(parts) if parts else np.empty(0, np.int64) for name, parts in tops.items()}
    lines = []
    for name, target in targets.items():
        if isinstance(target, str):
            lines.append(Line(name, reason=target))
            continue
        flips = {other: int((top[name] != top[other]).sum()) for other in running if other != name}
        lsb = far[name] if REFERENCE in running and np.isfinite(far[name]) else None
        counted = (right[name], with_ties[name]) if labelled else (None, None)
        lines.append(Line(name, "", n, counted[0], flips, lsb, tied[name], counted[1], constant[name].verdict(len(classes))))
    return tuple(lines)


def distance(answer: Answer, reference: Answer) -> float:
    """The largest difference of two answers' scores, in steps of ``reference``; infinite where they are not comparable.

    Float logits are compared with quantised probabilities after their softmax.
    """
    if "label" in (answer.kind, reference.kind):
        return np.inf
    values, wanted = answer.values().astype(np.float64), reference.values().astype(np.float64)
    if (answer.kind, reference.kind) == ("logits", "probs"):
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    elif answer.kind != reference.kind:
        return np.inf
    return float(np.abs(values - wanted).max(initial=0) / (reference.lsb or 1))
