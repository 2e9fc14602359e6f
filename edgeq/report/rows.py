"""Every row of a run: a line for each cell, target and image, with what was answered, clean and attacked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgeq.runs.reader import Reader

COLUMNS = (
    *("cell", "attack", "norm", "eps", "crafted_on", "target", "id", "name", "label", "clean_answer", "clean_correct"),
    *("answer", "correct", "fooled", "tied", "queries", "loss", "l2", "linf_px"),
)
"""``correct`` and ``clean_correct``: 1 where the argmax is the label; ``fooled``: 1 where a class is strictly above the label's;
``tied``: 1 where classes share the top score; ``l2`` in pixels / 255 and ``linf_px`` in pixels: of the integer change. None: not there."""


def rows(run: Reader) -> Iterator[tuple[Any, ...]]:
    """The values of ``COLUMNS``, cell by cell. Raises :class:`EdgeqError` for a damaged file."""
    ids, labels, names = run.ids(), run.labels(), run.names()
    targets = [t.id for t in run.targets(running=True)]
    clean = {id: run.outcomes(0, id) for id in targets}
    for cell in run.cells():
        queries, losses, (l2, linf) = run.queries(cell.cell), run.losses(cell.cell), run.norms(cell.cell)
        head = (cell.cell, cell.attack, cell.norm, cell.eps, cell.crafted_on)
        for id in targets:
            seen, before = run.outcomes(cell.cell, id), clean[id]
            for i in (seen.correct >= 0).nonzero()[0].tolist():
                known = (int(before.label[i]), int(before.right[i])) if before.right[i] >= 0 else (None, None)
                answers = (int(seen.label[i]), int(seen.right[i]), 1 - int(seen.correct[i]), int(seen.tied[i]))
                made = (None,) * 4 if queries[i] < 0 else (int(queries[i]), float(losses[i]), float(l2[i]), float(linf[i]))
                yield *head, id, int(ids[i]), names.get(i, ""), int(labels[i]), *known, *answers, *made
