"""A board of one's own: a run's inputs as it takes them, and what it answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.api.results import Result
from edgeq.core.reporter import SILENT, Reporter
from edgeq.runs import board
from edgeq.runs.store import Run


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
    with Run.open(run, write=True) as opened:
        for note in board.score(opened, answers, name or answers.stem, replace):
            reporter.say(note, "yellow")
    return Result(run)
