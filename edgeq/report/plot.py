"""Accuracy against epsilon, laid out as numbers that a template draws."""

from __future__ import annotations

from typing import Any

from edgeq.report.text import epsilon, plain

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 12, 34  # margins around the axes
DODGE = 5.5  # between two runtimes at one radius, so that their intervals stand side by side


def plots(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """One plot an attack and norm: a line a runtime from clean through the radii, and the reference under uniform noise.

    Radii stand evenly spaced (they are often 1, 2, 8: a linear axis would crowd the small ones).
    """
    order = [t["name"] for t in summary["targets"] if t["status"] == "runs" and not t["stands_for"]]
    noise = {(c["norm"], c["eps"]): c for c in summary["cells"] if c["kind"] == "noise"}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for cell in summary["cells"]:
        if cell["kind"] != "noise" and cell["targets"]:
            groups.setdefault((cell["attack"], cell["norm"], cell["crafted_on"]), []).append(cell)
    return [_plot(key, sorted(cells, key=lambda c: c["eps"] or 0), order, noise, summary["clean"]) for key, cells in groups.items()]


def _plot(key: tuple[str, str, str], cells: list[Any], order: list[str], noise: dict[Any, Any], clean: list[Any]) -> dict[str, Any]:
    step = (WIDTH - LEFT - RIGHT) / (len(cells) + 1)
    centres = [LEFT + step * (k + 0.5) for k in range(len(cells) + 1)]
    names = [name for name in order if any(line["target"] == name for cell in cells for line in cell["targets"])]
    spacing = min(DODGE, step * 0.7 / max(len(names), 1))
    before = {line["target"]: line["accuracy"] for line in clean}
    lines = []
    for k, name in enumerate(names):
        shift = (k - (len(names) - 1) / 2) * spacing
        shares = [before.get(name)] + [next((t["robust_accuracy"] for t in c["targets"] if t["target"] == name), None) for c in cells]
        points = [_point(x + shift, s) for x, s in zip(centres, shares, strict=True) if s is not None and s["of"]]
        lines.append({"name": name, "series": order.index(name), "points": points, "path": _path(points)})
    return {
        "title": plain(key[0], 30),
        "norm": key[1],
        "crafted_on": plain(key[2], 40),
        "width": WIDTH,
        "height": HEIGHT,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "bottom": HEIGHT - BOTTOM,
        "rows": [{"y": round(_y(v), 1), "text": text} for v, text in ((0, "0"), (0.25, ".25"), (0.5, ".5"), (0.75, ".75"), (1, "1"))],
        "columns": [{"x": round(x, 1), "text": t} for x, t in zip(centres, ["clean", *(epsilon(c["eps"]) for c in cells)], strict=True)],
        "lines": lines,
        "noise": _noise(cells, centres, before, noise),
    }


def _noise(cells: list[Any], centres: list[float], before: dict[str, Any], noise: dict[Any, Any]) -> dict[str, Any] | None:
    """The reference runtime's robust accuracy under uniform noise of the same radii: what no attack at all does."""
    reference = cells[0]["reference"]
    shares = [before.get(reference)]
    for cell in cells:
        lines = noise.get((cell["norm"], cell["eps"]), {"targets": []})["targets"]
        shares.append(next((t["robust_accuracy"] for t in lines if t["target"] == reference), None))
    if all(s is None for s in shares[1:]):
        return None
    points = [_point(x, s) for x, s in zip(centres, shares, strict=True) if s is not None and s["of"]]
    return {"reference": plain(reference, 40), "path": _path(points)}


def _point(x: float, share: dict[str, Any]) -> dict[str, float]:
    low, high = share["interval"]
    return {
        "x": round(x, 1),
        "y": round(_y(share["share"]), 1),
        "low": round(_y(low), 1),
        "high": round(_y(high), 1),
        "value": share["share"],
    }


def _y(value: float) -> float:
    return TOP + (1 - value) * (HEIGHT - TOP - BOTTOM)


def _path(points: list[dict[str, float]]) -> str:
    return " ".join(f"{p['x']:g},{p['y']:g}" for p in points)
