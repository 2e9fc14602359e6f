"""Accuracy against epsilon, laid out as numbers that a template draws."""

from __future__ import annotations

from typing import Any

from edgeq.measure.figures import CellFigures, Share, Summary
from edgeq.report.text import epsilon, plain

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 12, 34  # margins around the axes
DODGE = 5.5  # between two runtimes at one radius, so that their intervals stand side by side


def plots(summary: Summary) -> list[dict[str, Any]]:
    """One plot an attack and norm: a line a runtime from clean through the radii, and the reference under uniform noise.

    Radii stand evenly spaced (they are often 1, 2, 8: a linear axis would crowd the small ones).
    """
    order = [t.id for t in summary.targets if t.shown]
    noise = {(c.norm, c.eps): c for c in summary.cells if c.kind == "noise"}
    groups: dict[tuple[str, str, str], list[CellFigures]] = {}
    for cell in summary.cells:
        if cell.kind != "noise" and cell.targets:
            groups.setdefault((cell.attack, cell.norm, cell.crafted_on), []).append(cell)
    return [_plot(summary, key, sorted(cells, key=lambda c: c.eps or 0), order, noise) for key, cells in groups.items()]


def _plot(
    summary: Summary, key: tuple[str, str, str], cells: list[CellFigures], order: list[str], noise: dict[Any, CellFigures]
) -> dict[str, Any]:
    step = (WIDTH - LEFT - RIGHT) / (len(cells) + 1)
    centres = [LEFT + step * (k + 0.5) for k in range(len(cells) + 1)]
    ids = [id for id in order if any(cell.of(id) for cell in cells)]
    spacing = min(DODGE, step * 0.7 / max(len(ids), 1))
    before = {line.target: line.accuracy for line in summary.clean}
    lines = []
    for k, id in enumerate(ids):
        shift = (k - (len(ids) - 1) / 2) * spacing
        shares = [before.get(id), *(None if (line := c.of(id)) is None else line.robust_accuracy for c in cells)]
        points = [_point(x + shift, s) for x, s in zip(centres, shares, strict=True) if s is not None and s.of]
        lines.append({"name": summary.name(id), "series": order.index(id), "points": points, "path": _path(points)})
    return {
        "title": plain(key[0], 30),
        "norm": key[1],
        "crafted_on": plain(summary.name(key[2]), 40),
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "rows": [{"y": round(_y(v), 1), "text": text} for v, text in ((0, "0"), (0.25, ".25"), (0.5, ".5"), (0.75, ".75"), (1, "1"))],
        "columns": [{"x": round(x, 1), "text": t} for x, t in zip(centres, ["clean", *(epsilon(c.eps) for c in cells)], strict=True)],
        "lines": lines,
        "noise": _noise(summary, cells, centres, before, noise),
    }


def _noise(
    summary: Summary, cells: list[CellFigures], centres: list[float], before: dict[str, Share], noise: dict[Any, CellFigures]
) -> dict[str, Any] | None:
    """The reference runtime's robust accuracy under uniform noise of the same radii: what no attack at all does."""
    reference = cells[0].reference
    shares = [before.get(reference)]
    for cell in cells:
        under = noise.get((cell.norm, cell.eps))
        line = None if under is None else under.of(reference)
        shares.append(None if line is None else line.robust_accuracy)
    if all(s is None for s in shares[1:]):
        return None
    points = [_point(x, s) for x, s in zip(centres, shares, strict=True) if s is not None and s.of]
    return {"reference": plain(summary.name(reference), 40), "path": _path(points)}


def _point(x: float, share: Share) -> dict[str, float]:
    low, high = share.interval or (0.0, 1.0)
    value = share.share or 0.0
    return {"x": round(x, 1), "y": round(_y(value), 1), "low": round(_y(low), 1), "high": round(_y(high), 1), "value": value}


def _y(value: float) -> float:
    return TOP + (1 - value) * (HEIGHT - TOP - BOTTOM)


def _path(points: list[dict[str, float]]) -> str:
    return " ".join(f"{p['x']:g},{p['y']:g}" for p in points)
