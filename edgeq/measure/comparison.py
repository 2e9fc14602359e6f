"""Two targets of a run on the same images: accuracy, flips, scores, and how each stands on what was crafted on the other.

docs/concepts.md: *Robust accuracy*, *Noise floor*, *Intervals*. The two are called A and B, and the run says which is which
(:func:`sides`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.jsonable import as_json
from edgeq.measure.figures import Share, share
from edgeq.measure.intervals import mcnemar
from edgeq.measure.layers import Layers
from edgeq.runs import doubts, trials
from edgeq.runs.format import Outcomes, RunTarget
from edgeq.runs.plan import Plan
from edgeq.runs.reader import Reader
from edgeq.targets.spec import TargetSpec

NAMES = ("A", "B")
FORMAT = 1
CHUNK = 256  # rows of scores in memory at once

Shares = Mapping[str, Share]
"""Of each side, by its name."""


@dataclass(frozen=True)
class SideFigures:
    """What a side is. ``kind``: of its output; ``identity``: engine, version, kernel set, instruction set."""

    file: str
    sha256: str
    runtime: str
    kind: str
    identity: Any


@dataclass(frozen=True)
class Discordant:
    """Rows that stand on one side alone, and McNemar's p."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True)
class Scores:
    """Differences of all classes' scores, in the scores' own unit: logits, or probabilities where a side gives those. ``lsb``: the smallest
    step of each side's scores, 0 for floats."""

    kind: str
    largest: float
    mean: float
    lsb: Mapping[str, float]


@dataclass(frozen=True)
class Clean:
    """On the clean images. ``with_ties``: accuracy if ties with the true class counted as right; ``scores``: None where a side gives labels
    only, or no numbers."""

    accuracy: Shares
    mcnemar: Discordant
    with_ties: Shares
    flips: Share
    ties: Shares
    scores: Scores | None


@dataclass(frozen=True)
class Noise:
    """On the same images with uniform noise of the threat's radius."""

    accuracy: Shares
    mcnemar: Discordant
    flips: Share
    ties: Shares


@dataclass(frozen=True)
class Adversarial:
    """On what was crafted on the side ``crafted_on``: for each side the three accuracies, in pairs, and how many labels differ."""

    crafted_on: str
    robust_accuracy: Shares
    b19_acc: Shares
    success: Shares
    mcnemar: Discordant
    flips: Share
    ties: Shares


@dataclass(frozen=True)
class Crafter:
    """The attack that crafted."""

    name: str
    params: Mapping[str, Any]
    max_queries: int | None


@dataclass(frozen=True)
class Gate:
    """A limit, the value that was measured, and whether it is at most the limit. The interval of the value plays no part."""

    gate: str
    limit: float
    value: float
    met: bool


@dataclass(frozen=True)
class Comparison:
    """Everything. ``eps``: of the pixel range; ``pixels``: the same in steps; ``warnings``: on sides that look wrong;
    ``unreadable``: names of the images that were left out of the sample."""

    format: int
    sides: Mapping[str, SideFigures]
    data: str
    warnings: tuple[str, ...]
    n: int
    norm: str
    eps: float
    pixels: float
    seed: int
    attack: Crafter | None
    clean: Clean
    noise: Noise
    adversarial: tuple[Adversarial, ...]
    layers: Layers
    gates: tuple[Gate, ...]
    unreadable: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {f.name: as_json(getattr(self, f.name)) for f in fields(self)}


def sides(run: Reader) -> dict[str, RunTarget]:
    """The targets that are A and B. Raises :class:`EdgeqError` for a run that compares nothing."""
    named, records = run.meta("sides"), {t.id: t for t in run.targets(running=True)}
    try:
        return {name: records[named[name]["target"]] for name in NAMES}
    except (TypeError, KeyError):
        raise EdgeqError(f"{run.path}: is no run of edgeq compare") from None


def compare(run: Reader, layers: Layers, limits: Mapping[str, float | None]) -> Comparison:
    """All figures of a finished run whose plan has one radius and at most one attack. ``layers``: the table op by op; ``limits``: of the
    gates, by name (:func:`gates`)."""
    two, cells = sides(run), run.cells()
    plan = Plan.from_json(run.meta("plan"))
    specs = [two[name].spec for name in NAMES]
    before = _Pair(run, 0, specs)
    under = next((c for c in cells if c.kind == "noise"), None)
    if under is None or under.threat is None:
        raise EdgeqError(f"{run.path}: is damaged (it has no noise to compare under); use a copy, or start a new run")
    noisy = _Pair(run, under.cell, specs)
    crafted = {c.crafted_on: c for c in cells if c.adversarial}
    first = next(iter(crafted.values()), None)
    on = [crafted[id] for spec in specs if (id := next((i for i in (spec.id, *spec.members) if i in crafted), None))]
    adversarial = tuple(_attacked(name, before, _Pair(run, cell.cell, specs)) for name, cell in zip(NAMES, on, strict=False))
    clean = Clean(
        *_paired(before.right), with_ties=_shares(before.stands), flips=before.flips, ties=before.ties, scores=_scores(run, specs)
    )
    found = {name: doubts.of_target(run, two[name]) for name in NAMES}
    fits = [fit.sentence(name) for name in NAMES for fit in trials.kept(run) if fit.target == two[name].id]
    return Comparison(
        FORMAT,
        {name: _side(run, name, two[name]) for name in NAMES},
        plan.data,
        (*doubts.sentences(found, dict(zip(NAMES, NAMES, strict=True)), dict(zip(NAMES, NAMES, strict=True))), *fits),
        run.n,
        under.norm,
        under.eps,
        under.threat.pixels,
        plan.seed,
        None if first is None else Crafter(first.attack, first.params, plan.max_queries),
        clean,
        Noise(*_paired(noisy.right), flips=noisy.flips, ties=noisy.ties),
        adversarial,
        layers,
        tuple(gates(clean, adversarial, limits)),
        run.unreadable(),
    )


def gates(clean: Clean, adversarial: Iterable[Adversarial], limits: Mapping[str, float | None]) -> list[Gate]:
    """What the ``limits`` say: ``max_flips`` of clean flips; ``max_accuracy_drop``, and ``max_robust_drop`` under one's own adversarial
    examples, from A to B. A limit of None, and one of what was not measured, says nothing."""
    own = {made.crafted_on: made.robust_accuracy[made.crafted_on] for made in adversarial}
    values = {
        "max_flips": clean.flips.share,
        "max_accuracy_drop": _drop(clean.accuracy),
        "max_robust_drop": _drop(own) if own else None,
    }
    asked = [(name, limit, values[name]) for name, limit in limits.items() if limit is not None]
    return [Gate(name, limit, value, bool(value <= limit + 1e-12)) for name, limit, value in asked if value is not None]


def _drop(of: Shares) -> float | None:
    a, b = (of[name].share for name in NAMES)
    return None if a is None or b is None else a - b


class _Pair:
    """What both sides answered to a cell; arrays ``(2, n)``. ``stands``: not fooled."""

    def __init__(self, run: Reader, cell: int, specs: Iterable[TargetSpec]) -> None:
        self._seen: list[Outcomes] = [run.outcomes(cell, spec.id) for spec in specs]
        self.right, self.stands = (np.stack(v) == 1 for v in ([s.right for s in self._seen], [s.correct for s in self._seen]))

    @property
    def flips(self) -> Share:
        a, b = (s.label for s in self._seen)
        return share((a != b).sum(), len(a))

    @property
    def ties(self) -> Shares:
        return _shares(np.stack([s.tied for s in self._seen]) == 1)


def _shares(of: np.ndarray) -> Shares:
    """``of``: ``(2, n) bool``."""
    return {name: share(row.sum(), len(row)) for name, row in zip(NAMES, of, strict=True)}


def _paired(right: np.ndarray) -> tuple[Shares, Discordant]:
    """``right``: ``(2, n) bool``. The share of each with its interval, and in pairs."""
    a, b = right
    return _shares(right), Discordant(int((a & ~b).sum()), int((b & ~a).sum()), mcnemar(a, b))


def _attacked(crafted_on: str, clean: _Pair, seen: _Pair) -> Adversarial:
    """docs/concepts.md: *Robust accuracy*."""
    robust, pairs = _paired(seen.stands & clean.right)
    success = {n: share((c & ~s).sum(), c.sum()) for n, c, s in zip(NAMES, clean.right, seen.stands, strict=True)}
    return Adversarial(crafted_on, robust, _shares(seen.right), success, pairs, seen.flips, seen.ties)


def _side(run: Reader, name: str, target: RunTarget) -> SideFigures:
    spec = target.spec
    assert spec.signature is not None
    return SideFigures(str(run.meta("sides")[name].get("file")), spec.artifact, spec.runtime, spec.signature.kind, target.identity)


def _scores(run: Reader, specs: Iterable[TargetSpec]) -> Scores | None:
    """Over the clean images. Logits of one side meet the probabilities of the other after a softmax."""
    largest, total, count, kind, lsb = 0.0, 0.0, 0, "", dict[str, float]()
    for start in range(0, run.n, CHUNK):
        both = [run.answer(0, spec.id, np.arange(start, min(start + CHUNK, run.n))) for spec in specs]
        a, b = both
        if a is None or b is None:
            return None
        kind = "logits" if a.kind == b.kind == "logits" else "probs"
        lsb = {"A": a.lsb, "B": b.lsb}
        off = np.abs(_values(a, kind) - _values(b, kind))
        largest, total, count = max(largest, off.max(initial=0)), total + off.sum(), count + off.size
    if not count or not math.isfinite(total):
        return None
    return Scores(kind, float(largest), float(total / count), lsb)


def _values(answer: Answer, kind: str) -> np.ndarray:
    values = answer.values().astype(np.float64)
    if answer.kind == "logits" and kind == "probs":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    return values
