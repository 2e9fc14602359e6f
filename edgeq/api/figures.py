"""The figures of one attack at one radius on one target, looked up in a summary by what a person would call them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.threat import parse_eps
from edgeq.measure.figures import CellFigures, Line, Share, Summary
from edgeq.measure.words import epsilon


@dataclass(frozen=True)
class Figures:
    """What one target answered to one attack at one radius. Accuracies are shares in [0, 1] of ``n`` rows, NaN where there are none yet;
    ``line`` and ``cell`` have everything else (:mod:`edgeq.measure.figures`). What each means: docs/concepts.md: *The figures*."""

    cell: CellFigures
    line: Line

    @property
    def target(self) -> str:
        """The id of what answered."""
        return self.line.target

    @property
    def n(self) -> int:
        return self.line.n

    @property
    def robust_accuracy(self) -> float:
        """Right on the clean image, and not fooled by the candidate."""
        return _share(self.line.robust_accuracy)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's of the robust accuracy, 95 %."""
        return self.line.robust_accuracy.interval or (math.nan, math.nan)

    @property
    def clean_accuracy(self) -> float:
        return _share(self.line.clean_accuracy)

    @property
    def success(self) -> float:
        """Share of the rows that are right clean which the attack broke."""
        return _share(self.line.success)


def _share(value: Share) -> float:
    return math.nan if value.share is None else value.share


def lookup(summary: Summary, attack: str, eps: str | float, target: str | None = None, crafted_on: str | None = None) -> Figures:
    """``attack``: its name, or with options as in ``"pgd:steps=20"``; ``eps``: ``"4/255"``, or a share of the pixel range.

    ``target``: whose answers, by its id or as tables call it; by default what is attacked. ``crafted_on``: of an attack that was crafted on
    several, which. Raises :class:`EdgeqError`, with the choices, where that is nothing, or several things.
    """
    cells = _cells(summary, attack, parse_eps(str(eps)))
    if not cells:
        raise _choose(f"there is no {attack} at {eps} in this run", [(c.attack, epsilon(c.eps)) for c in summary.cells])
    if crafted_on is not None:
        cells = [c for c in cells if crafted_on in (c.crafted_on, summary.name(c.crafted_on))]
    matches = [Figures(cell, line) for cell in cells for line in cell.targets if _answers(summary, cell, line, target)]
    if len(matches) == 1:
        return matches[0]
    offered = matches or [Figures(cell, line) for cell in cells or _cells(summary, attack, parse_eps(str(eps))) for line in cell.targets]
    keys = [(attack, str(eps), summary.name(f.target), summary.name(f.cell.crafted_on)) for f in offered if not f.line.before_grid]
    raise _choose(f"{attack} at {eps} is {'several things' if matches else 'not that'} in this run", keys)


def _cells(summary: Summary, attack: str, eps: float) -> list[CellFigures]:
    name, _, options = attack.partition(":")
    params = asdict(plugins.build(plugins.ATTACKS, attack)[1]) if options else None
    cells = [c for c in summary.cells if c.attack == name and c.eps is not None and math.isclose(c.eps, eps, rel_tol=1e-9)]
    return cells if params is None else [c for c in cells if dict(c.params) == params]


def _answers(summary: Summary, cell: CellFigures, line: Line, wanted: str | None) -> bool:
    """Whether ``line`` is the ``wanted`` target's; where none is named, whether it is what the cell attacks: what it was crafted on, or
    for candidates of a source the first target of each network that ships."""
    if line.before_grid:
        return False
    if wanted is not None:
        return wanted in (line.target, summary.name(line.target))
    made_on = summary.target(cell.crafted_on)
    if made_on is not None and made_on.role == "target":
        return line.target == (made_on.stands_for or made_on.id)
    mine = summary.target(line.target)
    if mine is None or mine.role == "source" or mine.derived:
        return False
    mates = (t for t in summary.targets if t.runs and t.network == mine.network and t.role == "target" and not t.derived)
    return next(mates).id == mine.id


def _choose(wrong: str, keys: Sequence[tuple[str, ...]]) -> EdgeqError:
    choices = "; ".join(", ".join(f'"{part}"' for part in key) for key in dict.fromkeys(keys))
    return EdgeqError(f"{wrong}; choose one of: {choices or 'nothing, no attack is in it'}")
