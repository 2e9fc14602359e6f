"""A board of one's own: a run's inputs as it takes them, and what it answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.api.results import Result
from edgeq.core.reporter import SILENT, Reporter
from edgeq.measure.intervals import mcnemar
from edgeq.runs import board
from edgeq.runs.store import Run

CHANCE = 0.001
"""The accuracies of a board and a file are said to differ where McNemar's p is below this."""
ROUNDING = 0.9
"""Two kernel sets of one file agree on a larger share of labels (docs/results/attack.md)."""


def pack(run: str | Path, folder: str | Path, target: str | None = None, header: int = 16) -> dict[str, Any]:
    """Writes the inputs of the run file ``run`` into ``folder``, which must be new or empty, and returns what stands in its ``index.json``.

    ``target``: whose input codes to use; by default the first that is no Keras network. ``header``: images in the C header. Raises
    :class:`EdgeqError`; then nothing is written.
    """
    with Run.open(run) as opened:
        return board.pack(opened, Path(folder), target, header)


def score(run: str | Path, answers: str | Path, name: str | None = None, *, replace: bool = False, reporter: Reporter = SILENT) -> Result:
    """Adds what a board answered, the CSV file ``answers`` with the columns id, cell, and label or score_0, score_1, ..., to the run.

    ``name``: what to call the board, by default the file's name; ``replace``: forget what a board of this name answered before.
    ``reporter`` hears of rows that are missing. Raises :class:`EdgeqError`; then nothing is added.
    """
    answers = Path(answers)
    name = name or answers.stem
    with Run.open(run, write=True) as opened:
        for note in (*board.score(opened, answers, name, replace), *_departure(opened, name)):
            reporter.say(note, "yellow")
    return Result(run)


def _departure(run: Run, name: str) -> list[str]:
    """A sentence where the board is right on fewer or more of the clean images than the target whose answers are most like its own."""
    mine = run.outcomes(0, name)
    others = {t.id: run.outcomes(0, t.id) for t in run.targets(running=True) if t.spec.artifact and t.spec.answers}
    rows = {id: (mine.label >= 0) & (theirs.label >= 0) for id, theirs in others.items()}
    alike = {id: float((mine.label == others[id].label)[both].mean()) for id, both in rows.items() if both.any()}
    if not alike:
        return []
    like = max(alike, key=lambda id: alike[id])
    both, theirs = rows[like], others[like]
    a, b = mine.right[both] == 1, theirs.right[both] == 1
    if mcnemar(a, b) >= CHANCE:
        return []
    why = "which other rounding may explain"
    if alike[like] < ROUNDING:
        why = "which no rounding explains: check the layout and type of its input, and the order of its classes, by the pack's README.md"
    return [
        f"warning: {name} is right on {a.mean():.3f} of the clean images, {like} on {b.mean():.3f} of the same {both.sum()}; "
        f"{alike[like]:.3f} of their labels agree, {why}"
    ]
