"""The figures of a run, as values. What each means: docs/concepts.md: *The figures*; how they are computed: :mod:`edgeq.measure.summary`.

``norm``, ``eps`` (a share of the pixel range; None where a damaged file states none) and ``pixels`` (the radius in pixel steps) stand
in each figure that has a radius.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.core.doubts import Alike, Doubt
from edgeq.core.jsonable import as_json
from edgeq.measure.intervals import wilson
from edgeq.runs.trials import Fit
from edgeq.targets.spec import Derived, Role


@dataclass(frozen=True)
class Share:
    """``k`` in ``of`` rows."""

    k: int
    of: int

    @property
    def share(self) -> float | None:
        """In [0, 1]; None where there are no rows."""
        return self.k / self.of if self.of else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's, 95 %."""
        return wilson(self.k, self.of) if self.of else None

    def to_json(self) -> dict[str, Any]:
        interval = self.interval
        return {"k": self.k, "of": self.of, "share": self.share, "interval": None if interval is None else list(interval)}


def share(k: Any, of: Any) -> Share:
    return Share(int(k), int(of))


@dataclass(frozen=True)
class Spread:
    mean: float
    median: float
    p90: float


def spread(values: np.ndarray) -> Spread | None:
    """Of the finite ``values``; None for an empty set."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return Spread(float(values.mean()), float(np.median(values)), float(np.percentile(values, 90)))


@dataclass(frozen=True)
class Pair:
    """Two targets on the same ``n`` rows: how many stand on one alone, and McNemar's p."""

    against: str
    n: int
    only_this: int
    only_other: int
    p: float


@dataclass(frozen=True)
class Floor:
    """The noise floor: how often the labels of two targets differ, on clean images, on uniform noise of the radius (None where none was
    run), and on the adversarial images."""

    against: str
    clean: Share
    noise: Share | None
    adversarial: Share


@dataclass(frozen=True)
class Queries:
    """To the first success, over the broken rows; and of all rows."""

    successes: Spread | None
    all: Spread | None


@dataclass(frozen=True)
class Consensus:
    """Of an ensemble (B19, equations 11 to 13): ``predicted``: rows on which enough members agree (PR); ``d_acc``: 1 less the share of
    rows that are predicted, and wrongly."""

    predicted: Share
    d_acc: Share


@dataclass(frozen=True)
class Line:
    """One target under one cell. ``reached``: rows that can be attacked and are given the wanted class, None for the untargeted goal;
    ``before_grid``: a float network that saw iterates which no sensor gives."""

    target: str
    n: int
    before_grid: bool
    clean_accuracy: Share
    robust_accuracy: Share
    b19_acc: Share
    success: Share
    ties: Share
    l2: Spread | None
    linf: Spread | None
    queries: Queries | None
    floor: Floor | None
    mcnemar: Pair | None
    reached: Share | None = None
    consensus: Consensus | None = None


@dataclass(frozen=True)
class ZeroGradient:
    """Under one clamp ("" for a float network): rows whose first gradient was exactly zero, and components of it that were (None in old
    runs that did not count them)."""

    clamp: str
    rows: Share
    pixels: Share | None


@dataclass(frozen=True)
class CellFigures:
    """``reference``: the target that the noise floor and the pairs are against: what was crafted on, or the first; ``crafted``: rows."""

    cell: int
    attack: str
    params: Mapping[str, Any]
    norm: str
    kind: str
    crafted_on: str
    access: str
    goal: str
    eps: float | None
    pixels: float | None
    reference: str
    crafted: int
    zero_gradients: tuple[ZeroGradient, ...]
    targets: tuple[Line, ...]

    def of(self, target: str) -> Line | None:
        return next((line for line in self.targets if line.target == target), None)


@dataclass(frozen=True)
class CleanFigures:
    """``with_ties``: what the accuracy would be if every tie with the true class counted as right."""

    target: str
    n: int
    accuracy: Share
    with_ties: Share
    ties: Share
    constant: Alike | None
    consensus: Consensus | None = None
    doubts: tuple[Doubt, ...] = ()

    @property
    def void(self) -> bool:
        """Whether nothing can be judged by its figures."""
        return any(doubt.void for doubt in self.doubts)


@dataclass(frozen=True)
class WorstCase:
    """WCAR: right clean and under every attack of a radius, noise aside; over all rows, and over the rows that are right clean."""

    target: str
    norm: str
    eps: float | None
    pixels: float | None
    attacks: tuple[str, ...]
    over_n: Share
    over_clean_right: Share


Matrix = tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Agreement:
    """Share of equal labels of every two targets, over the images of all attacks of a radius."""

    norm: str
    eps: float | None
    pixels: float | None
    matrix: Matrix


@dataclass(frozen=True)
class Agreements:
    targets: tuple[str, ...]
    clean: Matrix
    adversarial: tuple[Agreement, ...]


@dataclass(frozen=True)
class Lowest:
    """The lowest robust accuracy of what ships, on the grid, under an attack: what ``--fail-under`` looks at."""

    attack: str
    norm: str
    eps: float | None
    pixels: float | None
    crafted_on: str
    target: str
    robust_accuracy: float


@dataclass(frozen=True)
class WhiteBoxLine:
    """Robust accuracy of ``target`` on the same rows, by where the gradients came from."""

    target: str
    n: int
    source: Share
    file: Share
    only_source: int
    only_file: int
    p: float


@dataclass(frozen=True)
class WhiteBox:
    """White-box versus transfer: one attack crafted on a source, and on the file itself. ``cells``: their numbers."""

    attack: str
    params: Mapping[str, Any]
    norm: str
    eps: float | None
    pixels: float | None
    source: str
    file: str
    cells: tuple[int, int]
    targets: tuple[WhiteBoxLine, ...]


@dataclass(frozen=True)
class TransferRow:
    """Candidates crafted on ``crafted_on``, as each target of the matrix answers them; None where nothing was answered yet."""

    crafted_on: str
    cell: int
    lines: tuple[Line | None, ...]

    def to_json(self) -> dict[str, Any]:
        keys = ("robust_accuracy", "b19_acc", "l2", "linf", "floor")
        lines = [None if line is None else {"target": line.target, **{key: getattr(line, key) for key in keys}} for line in self.lines]
        return {"crafted_on": self.crafted_on, "cell": self.cell, "lines": as_json(lines)}


@dataclass(frozen=True)
class Transfer:
    """The transfer matrix of one attack at one radius: a row for each target it was crafted on, a column for each that answered.

    ``clean``, ``noise``: accuracy of each column on clean images, and robust accuracy under uniform noise of the radius (None where
    none was run).
    """

    attack: str
    params: Mapping[str, Any]
    norm: str
    eps: float | None
    pixels: float | None
    targets: tuple[str, ...]
    clean: tuple[Share | None, ...]
    noise: tuple[Share | None, ...]
    rows: tuple[TransferRow, ...]


@dataclass(frozen=True)
class Differing:
    cell: int
    rows: int
    differ: int


@dataclass(frozen=True)
class Confirmed:
    """Over how many rows the interpreter ``by`` was asked for what ``target`` computes in its stead, and where the two differ."""

    target: str
    by: str
    rows: int
    differ: int
    cells: tuple[Differing, ...]


@dataclass(frozen=True)
class ArtifactFigures:
    """``role``: "source" for a network that only lends its gradients, else "target"."""

    sha256: str
    name: str
    file: str
    bytes: int
    role: Role


@dataclass(frozen=True)
class TargetFigures:
    """``name``: what tables call it; ``stands_for``: the id of the interpreter whose answers it computes, or None."""

    id: str
    name: str
    network: str
    artifact: str
    runtime: str
    role: Role
    derived: Derived
    members: tuple[str, ...]
    status: str
    reason: str
    signature: Any
    identity: Any

    @property
    def runs(self) -> bool:
        return self.status == "runs"

    @property
    def shown(self) -> bool:
        """Whether it has figures of its own: not what only lends gradients, nor what is confirmed on another."""
        return self.runs and self.derived not in ("stand-in", "mean")

    @property
    def before_grid(self) -> bool:
        return self.derived == "before-grid"

    @property
    def stands_for(self) -> str | None:
        return self.members[0] if self.derived == "stand-in" and self.members else None


@dataclass(frozen=True)
class RunFacts:
    """``written``: rows whose images are in the file."""

    file: str
    n: int
    shape: tuple[int, int, int]
    written: int


@dataclass(frozen=True)
class Rule:
    right: str
    fooled: str


@dataclass(frozen=True)
class Summary:
    """All figures of a run. ``unfinished``, ``threat_model``, ``not_shown``, ``warnings``: sentences."""

    format: int
    run: RunFacts
    warnings: tuple[str, ...]
    rule: Rule
    artifacts: tuple[ArtifactFigures, ...]
    targets: tuple[TargetFigures, ...]
    clean: tuple[CleanFigures, ...]
    cells: tuple[CellFigures, ...]
    wcar: tuple[WorstCase, ...]
    agreement: Agreements
    lowest: Lowest | None
    access: Any
    white_box: tuple[WhiteBox, ...]
    transfer: tuple[Transfer, ...]
    confirmed: tuple[Confirmed, ...]
    fits: tuple[Fit, ...]
    unfinished: tuple[str, ...] = ()
    threat_model: tuple[str, ...] = ()
    not_shown: tuple[str, ...] = ()

    def target(self, id: str) -> TargetFigures | None:
        return next((t for t in self.targets if t.id == id), None)

    def name(self, id: str) -> str:
        """What tables call a target."""
        target = self.target(id)
        return id if target is None else target.name
