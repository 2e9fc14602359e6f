"""Two runtimes of one file, or two files, on the same images: accuracy, flips, scores, and each one's adversarial examples on the other.

docs/concepts.md: *Robust accuracy*, *Noise floor*, *Intervals*. The sides are called A and B.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeq.attacks.noise import Noise
from edgeq.core import scheduler
from edgeq.core.answer import Answer
from edgeq.core.protocols import Differentiable, Target
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.core.worst import worst
from edgeq.measure.constant import Constant, sentence
from edgeq.measure.figures import share as as_share
from edgeq.measure.intervals import mcnemar

NAMES = ("A", "B")
CHUNK = 256  # rows decoded, attacked and answered at once

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)`` in rows."""


@dataclass(frozen=True, eq=False)
class Attack:
    """What crafts: ``value``, an attack as :func:`edgeq.core.plugins.build` gives it, called ``name``.

    ``targets``: side -> its target, which a query attack asks. ``sources``: side -> its Differentiables, for an attack on gradients. Of
    several (a file has one a clamp) a row keeps the :func:`~edgeq.core.worst.worst` candidate.
    """

    name: str
    value: Any
    targets: Mapping[str, Target]
    sources: Mapping[str, Sequence[Differentiable]]
    max_queries: int | None = None

    def craft(self, side: str, clean: np.ndarray, rows: Rows, threat: Threat, seed: int) -> np.ndarray:
        """``(n, h, w, c) uint8``: candidates crafted on ``side``."""
        if self.value.needs == "gradients":
            made = [self.value.craft(source, clean, rows, threat, seed) for source in self.sources[side]]
            return worst(made, self.targets[side], rows.labels).candidates
        candidates = clean.copy()
        for done in scheduler.run(self.value, self.targets[side], rows, lambda i: clean[i], threat, seed, self.max_queries):
            candidates[done.index] = done.candidates
        return candidates


@dataclass(eq=False)
class _Seen:
    """What both sides answered to one set of images, a chunk at a time."""

    labels: list[np.ndarray] = field(default_factory=list)  # (2, m)
    right: list[np.ndarray] = field(default_factory=list)  # (2, m)
    stands: list[np.ndarray] = field(default_factory=list)  # (2, m): not fooled
    tied: list[np.ndarray] = field(default_factory=list)  # (2, m)

    def add(self, answers: list[Answer], truth: np.ndarray) -> None:
        self.labels.append(np.stack([a.label() for a in answers]))
        self.right.append(np.stack([a.right(truth) for a in answers]))
        self.stands.append(np.stack([~a.fooled(truth) for a in answers]))
        self.tied.append(np.stack([a.tied() for a in answers]))

    def flips(self) -> dict[str, Any]:
        a, b = np.concatenate(self.labels, axis=1)
        return share((a != b).sum(), len(a))

    def ties(self) -> dict[str, Any]:
        return {name: share(t.sum(), len(t)) for name, t in zip(NAMES, np.concatenate(self.tied, axis=1), strict=True)}


def compare(
    targets: tuple[Target, Target],
    images: Callable[[slice], np.ndarray],
    rows: Rows,
    threat: Threat,
    seed: int,
    attack: Attack | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """All figures as one JSON-able dictionary. ``images``: a slice of the rows -> ``(m, h, w, c) uint8``; memory holds one chunk.

    ``warnings``: where a side answers every image alike; ``clean``: accuracy of each (``with_ties``: if ties with the true class counted
    as right), paired test, flips, ties, score differences; ``noise``: the same images with uniform noise of the
    threat's radius; ``adversarial``: for each side that crafted, both sides' figures, as the attack tables give them.
    """
    sets = {name: _Seen() for name in ("clean", "noise", *(NAMES if attack else ()))}
    scores, constant = _Scores(), {name: Constant() for name in NAMES}
    for start in range(0, len(rows), CHUNK):
        part = slice(start, min(start + CHUNK, len(rows)))
        clean, some = images(part), rows[part]
        answers = _answers(targets, clean)
        scores.add(*answers)
        for side, answer in zip(NAMES, answers, strict=True):
            constant[side].add(answer)
        sets["clean"].add(answers, some.labels)
        sets["noise"].add(_answers(targets, Noise().craft(None, clean, some, threat, seed).candidates), some.labels)
        progress("clean images and noise", part.stop, len(rows))
        for side in NAMES if attack else ():
            assert attack
            sets[side].add(_answers(targets, attack.craft(side, clean, some, threat, seed)), some.labels)
            progress(f"{attack.name} on {side}", part.stop, len(rows))
    clean_right, classes = np.concatenate(sets["clean"].right, axis=1), len(np.unique(rows.labels))
    stands = _right(np.concatenate(sets["clean"].stands, axis=1))["accuracy"]
    return {
        "warnings": [line for side, seen in constant.items() for line in sentence(side, seen.verdict(classes), len(rows))],
        "n": len(rows),
        "norm": threat.norm,
        "eps": threat.eps,
        "pixels": threat.pixels,
        "seed": seed,
        "attack": {"name": attack.name, "params": asdict(attack.value), "max_queries": attack.max_queries} if attack else None,
        "clean": {
            **_right(clean_right),
            "with_ties": stands,
            "flips": sets["clean"].flips(),
            "ties": sets["clean"].ties(),
            "scores": scores.figures(),
        },
        "noise": {**_right(np.concatenate(sets["noise"].right, axis=1)), "flips": sets["noise"].flips(), "ties": sets["noise"].ties()},
        "adversarial": [{"crafted_on": side, **_attacked(sets[side], clean_right)} for side in NAMES if attack],
    }


def gates(figures: dict[str, Any], limits: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """What the ``limits`` say: ``max_flips`` of clean flips; ``max_accuracy_drop``, and ``max_robust_drop`` under one's own adversarial
    examples, from A to B. A gate is met where the value measured, not its interval, is at most the limit."""
    own = {made["crafted_on"]: made["robust_accuracy"][made["crafted_on"]]["share"] for made in figures["adversarial"]}
    clean = figures["clean"]["accuracy"]
    values = {
        "max_flips": figures["clean"]["flips"]["share"],
        "max_accuracy_drop": clean["A"]["share"] - clean["B"]["share"],
        "max_robust_drop": own["A"] - own["B"] if own else None,
    }
    asked = [(name, limit, values[name]) for name, limit in limits.items() if limit is not None and values[name] is not None]
    return [{"gate": name, "limit": limit, "value": value, "met": bool(value <= limit + 1e-12)} for name, limit, value in asked]


def _answers(targets: tuple[Target, Target], images: np.ndarray) -> list[Answer]:
    return [target.answer(images) for target in targets]


def _right(right: np.ndarray) -> dict[str, Any]:
    """``right``: ``(2, n) bool``. Accuracy of each with its interval, and in pairs."""
    a, b = right
    pair = {"only_a": int((a & ~b).sum()), "only_b": int((b & ~a).sum()), "p": mcnemar(a, b)}
    return {"accuracy": {name: share(r.sum(), len(r)) for name, r in zip(NAMES, right, strict=True)}, "mcnemar": pair}


def _attacked(seen: _Seen, clean: np.ndarray) -> dict[str, Any]:
    """For each side the three accuracies (docs/concepts.md: *Robust accuracy*), in pairs, and how many labels differ."""
    right, stands = np.concatenate(seen.right, axis=1), np.concatenate(seen.stands, axis=1)
    robust = _right(stands & clean)
    return {
        "robust_accuracy": robust["accuracy"],
        "b19_acc": _right(right)["accuracy"],
        "success": {name: share((c & ~s).sum(), c.sum()) for name, c, s in zip(NAMES, clean, stands, strict=True)},
        "mcnemar": robust["mcnemar"],
        "flips": seen.flips(),
        "ties": seen.ties(),
    }


class _Scores:
    """Differences of all classes' scores: largest and mean, in the scores' own unit. Float logits meet probabilities after a softmax."""

    def __init__(self) -> None:
        self.largest, self.total, self.count, self.kind, self.lsb = 0.0, 0.0, 0, "", {"A": 0.0, "B": 0.0}

    def add(self, a: Answer, b: Answer) -> None:
        if "label" in (a.kind, b.kind):
            return
        self.kind = "logits" if a.kind == b.kind == "logits" else "probs"
        self.lsb = {"A": a.lsb, "B": b.lsb}
        off = np.abs(_values(a, self.kind) - _values(b, self.kind))
        self.largest, self.total, self.count = max(self.largest, off.max(initial=0)), self.total + off.sum(), self.count + off.size

    def figures(self) -> dict[str, Any] | None:
        """None where a side gives labels only, or no numbers. ``lsb``: the smallest step of each side's scores, 0 for floats."""
        if not self.count or not math.isfinite(self.total):
            return None
        return {"kind": self.kind, "largest": float(self.largest), "mean": float(self.total / self.count), "lsb": self.lsb}


def _values(answer: Answer, kind: str) -> np.ndarray:
    values = answer.values().astype(np.float64)
    if answer.kind == "logits" and kind == "probs":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    return values


def share(k: Any, of: Any) -> dict[str, Any]:
    return as_share(k, of).to_json()
