"""The transfer matrix: who is fooled by what was crafted on whom (docs/concepts.md: *Transfer*)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeq.measure.figures import CellFigures, Share, Transfer, TransferRow


def matrices(cells: Sequence[CellFigures], targets: Sequence[str], clean: Mapping[str, Share]) -> list[Transfer]:
    """One for each gradient attack and radius that was crafted on two targets or more: those candidates ran their full budget on every
    row, whatever the target they were crafted on said of it.

    ``targets``: who answers, in the order of the columns; ``clean``: their accuracy on clean images.
    """
    groups: dict[tuple[str, str, str, float | None], list[CellFigures]] = {}
    for cell in cells:
        if cell.kind == "gradient":
            groups.setdefault((cell.attack, repr(sorted(cell.params.items())), cell.norm, cell.eps), []).append(cell)
    noise = {(c.norm, c.eps): c for c in cells if c.kind == "noise"}
    transfers = []
    for group in groups.values():
        head = group[0]
        if len({cell.crafted_on for cell in group}) < 2:
            continue
        rows = tuple(TransferRow(cell.crafted_on, cell.cell, tuple(cell.of(target) for target in targets)) for cell in group)
        under = noise.get((head.norm, head.eps))
        uniform = tuple(None if under is None or (line := under.of(target)) is None else line.robust_accuracy for target in targets)
        radius = (head.norm, head.eps, head.pixels)
        transfers.append(Transfer(head.attack, head.params, *radius, tuple(targets), tuple(clean.get(t) for t in targets), uniform, rows))
    return transfers
