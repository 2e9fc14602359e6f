"""A handful of clean and adversarial images, and what changed, as PNG data URIs."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from edgeq.measure.figures import Summary
from edgeq.report.text import name, plain
from edgeq.runs.reader import Reader

SIDE = 128  # pixels; larger images are shown smaller, smaller ones pixelated by the page
ROWS = 24  # of three pictures each, over all cells
BYTES = 1_400_000  # of base64: the page stays below about 2 MB


def pictures(run: Reader, summary: Summary) -> list[dict[str, Any]]:
    """A few rows of each attack cell: rows that fool every runtime, that split them, and that fool none. Runtimes' own labels beside."""
    classes = run.meta("classes")
    labels, names = run.labels(), run.names()
    cells = [c for c in summary.cells if c.kind != "noise" and any(not t.before_grid for t in c.targets)]
    each, spent = max(1, min(4, ROWS // max(1, len(cells)))), 0
    groups: list[dict[str, Any]] = []
    for cell in cells[:ROWS]:
        targets = [t.target for t in cell.targets if not t.before_grid]
        reference = cell.reference if cell.reference in targets else targets[0]
        before = run.outcomes(0, reference)
        after = {t: run.outcomes(cell.cell, t) for t in targets}
        have = (
            (run.queries(cell.cell) >= 0) & (labels >= 0) & (before.right == 1) & np.all([after[t].correct >= 0 for t in targets], axis=0)
        )
        shown: list[dict[str, Any]] = []
        for i in _choose(np.sum([after[t].correct == 0 for t in targets], axis=0), len(targets), have, each):
            clean, candidate = run.images(np.array([i]))[0], run.candidates(cell.cell, np.array([i]))[0]
            delta = candidate.astype(np.int16) - clean
            gain = 127 // max(1, int(np.abs(delta).max()))
            images = [_png(clean), _png(candidate), _png(np.clip(128 + gain * delta, 0, 255).astype(np.uint8))]
            spent += sum(map(len, images))
            if spent > BYTES:
                return [*groups, {"cell": cell, "rows": shown}] if shown else groups
            fooled = [t for t in targets if after[t].correct[i] == 0]
            shown.append(
                {
                    "images": images,
                    "gain": gain,
                    "file": plain(names.get(i, i), 60),
                    "true": name(int(labels[i]), classes),
                    "before": name(int(before.label[i]), classes),
                    "after": [
                        (
                            plain(summary.name(t), 40),
                            name(int(after[t].label[i]), classes) + " (a tie)" * bool(after[t].tied[i]),
                            t in fooled,
                        )
                        for t in targets
                    ],
                    "pixelated": max(clean.shape[:2]) < SIDE,
                    "most": int(np.abs(delta).max()),
                }
            )
        if shown:
            groups.append({"cell": cell, "rows": shown})
    return groups


def _choose(fooled: np.ndarray, targets: int, have: np.ndarray, most: int) -> list[int]:
    """Row numbers: about half fool all targets, then some that split them, then some that fool none; filled up in that order."""
    kinds = [np.flatnonzero(have & mask).tolist() for mask in (fooled == targets, (fooled > 0) & (fooled < targets), fooled == 0)]
    wanted = [kinds[0][: (most + 1) // 2], kinds[1][:1], kinds[2][:1]]
    first = [i for kind in wanted for i in kind][:most]
    rest = [i for kind in kinds for i in kind[:most] if i not in first]
    return [*first, *rest][:most] if len(first) < most else first


def _png(image: np.ndarray) -> str:
    """A data URI of ``(h, w, 1 or 3) uint8``."""
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image[..., :3])
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
