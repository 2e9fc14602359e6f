"""All numbers of a run, once: every table, JSON and page is made from what :func:`summarise` returns (docs/concepts.md: *The figures*)."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from edgeq.core.answer import Answer
from edgeq.measure import words
from edgeq.measure.constant import Constant, sentence
from edgeq.measure.intervals import mcnemar, wilson
from edgeq.runtimes import STAND_INS, real

FORMAT = 1
BEFORE_GRID = " (before the grid)"  # ends the name of a target that saw a float source's iterates


class OpenRun(Protocol):
    """What is asked of an open run (:class:`edgeq.runs.store.Run`). Arrays are ``(n,)``, with -1 or NaN where a row is missing."""

    path: Any
    n: int
    shape: tuple[int, int, int]

    def meta(self, key: str, default: Any = None) -> Any: ...
    def artifacts(self) -> list[Any]: ...
    def targets(self, running: bool = False) -> list[Any]: ...
    def cells(self) -> list[Any]: ...
    def labels(self) -> np.ndarray: ...
    def outcomes(self, cell: int, target: str) -> Any: ...
    def queries(self, cell: int) -> np.ndarray: ...
    def norms(self, cell: int) -> tuple[np.ndarray, np.ndarray]: ...
    def scores(self, cell: int, target: str, idx: np.ndarray) -> np.ndarray | None: ...


def summarise(run: OpenRun) -> dict[str, Any]:
    """The whole run as one JSON-able dictionary with stable keys; shares in [0, 1], None for what has no rows.

    An unfinished run is measured over its finished rows: each figure's ``n`` says over how many.
    """
    cells, targets = [c for c in run.cells() if c.cell != 0], run.targets()
    answering = [t.name for t in targets if t.status == "runs"]
    running = [name for name in answering if name not in STAND_INS]  # what those find is shown as their interpreter answers it
    names = [name for name in running if not name.endswith(BEFORE_GRID)]
    clean = {name: run.outcomes(0, name) for name in running}
    # the float iterates have no clean images of their own: those are the base target's
    clean |= {name: clean[name.removesuffix(BEFORE_GRID)] for name in running if name.removesuffix(BEFORE_GRID) in names}
    classes = len(np.unique(run.labels()[run.labels() >= 0]))
    constant = {name: _constant(run, name, clean[name].label, classes) for name in names}
    seen = {c.cell: {name: run.outcomes(c.cell, name) for name in running} for c in cells}
    attacks = [c for c in cells if c.kind != "noise"]
    noise = {(c.norm, c.eps): seen[c.cell] for c in cells if c.kind == "noise"}
    queries = {c.cell: run.queries(c.cell) for c in cells}

    measured = []
    for cell in cells:
        reference = real(cell.crafted_on) if real(cell.crafted_on) in names else next(iter(names), "")
        floor = noise.get((cell.norm, cell.eps))
        norms = run.norms(cell.cell)
        lines = [
            _line(name, cell, reference, clean, seen[cell.cell], floor, norms, queries[cell.cell])
            for name in running
            if (seen[cell.cell][name].correct >= 0).any()
        ]
        crafted = int((queries[cell.cell] >= 0).sum())
        zeros = _zeros(run.meta("zero_gradients"), cell, crafted)
        about = {"reference": reference, "crafted": crafted, "zero_gradients": zeros}
        measured.append({**_head(cell), **about, "targets": lines})

    summary: dict[str, Any] = {
        "format": FORMAT,
        "run": {"file": run.path.name, "n": run.n, "shape": list(run.shape), "written": int((run.labels() >= 0).sum())},
        "warnings": [line for name in names for line in sentence(name, constant[name], int((clean[name].label >= 0).sum()))],
        "rule": {"right": words.RIGHT, "fooled": words.FOOLED},
        "artifacts": [dict(vars(a)) for a in run.artifacts()],
        "targets": [_target(t) for t in targets],
        "clean": [_clean(name, clean[name]) | {"constant": constant[name]} for name in names],
        "cells": measured,
        "wcar": [_wcar(name, group, clean, seen) for group in _by_radius(attacks) for name in names],
        "agreement": _agreement(names, clean, seen, attacks),
        "lowest": _lowest(measured, _sources(run)),
        "access": run.meta("access"),
        "file_worth": _file_worth(attacks, names, _sources(run), clean, seen),
        "confirmed": [_confirmed(run, name) for name in answering if name in STAND_INS and real(name) in names],
    }
    # what a board left out of its CSV file is no unfinished run
    ours = [t.name for t in targets if t.name in names and not (isinstance(t.identity, dict) and t.identity.get("engine") == "answers.csv")]
    summary["unfinished"] = _unfinished(run.n, clean, seen, queries, cells, ours)
    summary["threat_model"] = words.threat_model(summary)
    summary["not_shown"] = words.not_shown(summary, run.meta("plan"))
    return summary


def _sources(run: OpenRun) -> set[str]:
    files = {a.name for a in run.artifacts() if a.role == "source"}
    return {t.name for t in run.targets() if t.artifact in files}


def share(k: int, of: int) -> dict[str, Any]:
    """``k`` in ``of`` with its Wilson 95 % interval; ``share`` and ``interval`` are None where ``of`` is 0."""
    return {"k": int(k), "of": int(of), "share": k / of if of else None, "interval": list(wilson(int(k), int(of))) if of else None}


def spread(values: np.ndarray) -> dict[str, float] | None:
    """Mean, median and 90th percentile; None for an empty set."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    return {"mean": float(values.mean()), "median": float(np.median(values)), "p90": float(np.percentile(values, 90))}


def _zeros(counts: Any, cell: Any, crafted: int) -> list[dict[str, Any]]:
    """For each clamp the share of rows, and of pixels, whose first gradient was exactly zero: masked, not safe (docs/concepts.md:
    *Straight-through*). ``clamp`` is "" for a Keras network; ``pixels`` None in a run from before they were counted."""
    if cell.kind != "gradient" or not isinstance(counts, dict):
        return []
    mine = [v if isinstance(v, dict) else {"": [v, 0, 0]} for key, v in counts.items() if key.startswith(f"{cell.cell}/")]
    found = []
    for clamp in dict.fromkeys(clamp for chunk in mine for clamp in chunk):
        several = [chunk[clamp] for chunk in mine if isinstance(chunk.get(clamp), list) and len(chunk[clamp]) == 3]
        rows, pixels, of = (sum(int(v[k]) for v in several if isinstance(v[k], int) and v[k] >= 0) for k in range(3))
        share_of_pixels = share(min(pixels, of), of) if of else None
        found.append({"clamp": str(clamp), "rows": share(min(rows, crafted), crafted), "pixels": share_of_pixels})
    return found


def _file_worth(attacks: list[Any], names: list[str], sources: set[str], clean: Any, seen: Any) -> list[dict[str, Any]]:
    """What holding the file is worth: the same attack crafted on a source and on the file, on the same rows of each runtime."""
    gradient = [c for c in attacks if c.kind == "gradient"]
    key = lambda c: (c.attack, c.params, c.norm, c.eps)  # noqa: E731
    pairs = [(a, b) for a in gradient if a.crafted_on in sources for b in gradient if b.crafted_on not in sources and key(a) == key(b)]
    found = []
    for a, b in pairs:
        lines = []
        for name in names:
            if name in sources:
                continue
            before, from_source, from_file = clean[name].right, seen[a.cell][name].correct, seen[b.cell][name].correct
            done = (before >= 0) & (from_source >= 0) & (from_file >= 0)
            p, q = ((before == 1)[done] & (x == 1)[done] for x in (from_source, from_file))
            n = int(done.sum())
            line = {"target": name, "n": n, "source": share(p.sum(), n), "file": share(q.sum(), n)}
            lines.append(line | {"only_source": int((p & ~q).sum()), "only_file": int((q & ~p).sum()), "p": mcnemar(p, q)})
        head = {k: v for k, v in _head(a).items() if k in ("attack", "params", "norm", "eps", "pixels")}
        found.append({**head, "source": a.crafted_on, "file": b.crafted_on, "cells": [a.cell, b.cell], "targets": lines})
    return found


def _confirmed(run: OpenRun, name: str) -> dict[str, Any]:
    """Over how many rows of all cells the interpreter was asked for what ``name`` computes in its stead, and where the two differ."""
    by, rows, cells = real(name), 0, []
    for cell in run.cells():
        mine, its = run.outcomes(cell.cell, name), run.outcomes(cell.cell, by)
        both = np.flatnonzero((mine.label >= 0) & (its.label >= 0))
        differ = 0
        for start in range(0, len(both), 1024):
            idx = both[start : start + 1024]
            a, b = run.scores(cell.cell, name, idx), run.scores(cell.cell, by, idx)
            differ += int((mine.label != its.label)[idx].sum() if a is None or b is None else (a != b).any(axis=1).sum())
        rows += len(both)
        cells.append({"cell": cell.cell, "rows": len(both), "differ": differ})
    return {"target": name, "by": by, "rows": rows, "differ": sum(c["differ"] for c in cells), "cells": cells}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _head(cell: Any) -> dict[str, Any]:
    """What the cell is. ``pixels``: the radius in pixel steps, as :attr:`edgeq.core.threat.Threat.pixels` says it."""
    eps = _number(cell.eps)
    pixels = None if eps is None else math.floor(255 * eps + 1e-6) if cell.norm == "linf" else 255 * eps
    keys = ("cell", "attack", "params", "norm", "kind", "crafted_on", "access")
    return {**{key: getattr(cell, key) for key in keys}, "eps": eps, "pixels": pixels}


def _target(target: Any) -> dict[str, Any]:
    keys = ("name", "artifact", "status", "reason", "signature", "identity")
    stands_for = STAND_INS.get(target.name)
    return {**{key: getattr(target, key) for key in keys}, "before_grid": target.name.endswith(BEFORE_GRID), "stands_for": stands_for}


def _clean(name: str, outcome: Any) -> dict[str, Any]:
    """``with_ties``: what the accuracy would be if every tie with the true class counted as right."""
    n = int((outcome.right >= 0).sum())
    return {
        "target": name,
        "n": n,
        "accuracy": share((outcome.right == 1).sum(), n),
        "with_ties": share((outcome.correct == 1).sum(), n),
        "ties": share((outcome.tied == 1).sum(), n),
    }


def _constant(run: OpenRun, name: str, labels: np.ndarray, classes: int) -> dict[str, Any] | None:
    found, answered = Constant(), np.flatnonzero(labels >= 0)
    for start in range(0, len(answered), 256):
        idx = answered[start : start + 256]
        raw = run.scores(0, name, idx)
        found.add(Answer("label", labels[idx]) if raw is None else Answer("logits", raw))
        if not found.label:  # as nearly always in the first rows already
            break
    return found.verdict(classes)


def _line(
    name: str, cell: Any, reference: str, clean: Any, seen: Any, noise: Any, norms: tuple[np.ndarray, np.ndarray], queries: np.ndarray
) -> dict[str, Any]:
    """One target under one attack at one radius (docs/concepts.md: *Fooled*, *Robust accuracy*, *Norms*, *Noise floor*)."""
    before_grid, mine = name.endswith(BEFORE_GRID), seen[name]
    done = (clean[name].right >= 0) & (mine.correct >= 0)
    right, stands = done & (clean[name].right == 1), done & (mine.correct == 1)
    broken, n = right & ~stands, int(done.sum())
    line: dict[str, Any] = {
        "target": name,
        "n": n,
        "before_grid": before_grid,
        "clean_accuracy": share(right.sum(), n),
        "robust_accuracy": share((right & stands).sum(), n),
        "b19_acc": share((done & (mine.right == 1)).sum(), n),
        "success": share(broken.sum(), right.sum()),
        "ties": share((done & (mine.tied == 1)).sum(), n),
        "l2": None if before_grid else spread(norms[0][broken]),
        "linf": None if before_grid else spread(norms[1][broken]),
        "queries": None,
        "floor": None,
        "mcnemar": None,
    }
    if cell.kind == "query" and name == real(cell.crafted_on):
        line["queries"] = {"successes": spread(queries[broken].astype(float)), "all": spread(queries[done & (queries >= 0)].astype(float))}
    if name != reference and not before_grid and reference:
        line["floor"] = {
            "against": reference,
            "clean": _disagreement(clean[name], clean[reference]),
            "noise": None if noise is None else _disagreement(noise[name], noise[reference]),
            "adversarial": _disagreement(mine, seen[reference]),
        }
        both = done & (clean[reference].right >= 0) & (seen[reference].correct >= 0)
        other = (clean[reference].right == 1) & (seen[reference].correct == 1)
        a, b = (right & stands)[both], other[both]
        line["mcnemar"] = {
            "against": reference,
            "n": int(both.sum()),
            "only_this": int((a & ~b).sum()),
            "only_other": int((b & ~a).sum()),
            "p": mcnemar(a, b),
        }
    return line


def _disagreement(a: Any, b: Any) -> dict[str, Any]:
    """Share of rows that both answered where their labels differ."""
    both = (a.label >= 0) & (b.label >= 0)
    return share((a.label != b.label)[both].sum(), both.sum())


def _by_radius(cells: list[Any]) -> list[list[Any]]:
    radii = dict.fromkeys((c.norm, c.eps) for c in cells)
    return [[c for c in cells if (c.norm, c.eps) == radius] for radius in radii]


def _wcar(name: str, group: list[Any], clean: Any, seen: Any) -> dict[str, Any]:
    """Right clean and under every attack of this radius, the noise baseline aside; over all rows, and over the clean-right rows."""
    done, stands = clean[name].right >= 0, clean[name].right == 1
    right = stands.copy()
    for cell in group:
        done &= seen[cell.cell][name].correct >= 0
        stands &= seen[cell.cell][name].correct == 1
    return {
        "target": name,
        "norm": group[0].norm,
        "eps": _number(group[0].eps),
        "pixels": _head(group[0])["pixels"],
        "attacks": list(dict.fromkeys(c.attack for c in group)),
        "over_n": share((stands & done).sum(), done.sum()),
        "over_clean_right": share((stands & done).sum(), (right & done).sum()),
    }


def _agreement(names: list[str], clean: Any, seen: Any, attacks: list[Any]) -> dict[str, Any]:
    """Share of equal labels of every two targets: on clean images, and at each radius over the images of all its attacks."""

    def matrix(outcomes: list[Any]) -> list[list[float | None]]:
        labels = {name: np.concatenate([o[name].label for o in outcomes]) for name in names}
        return [[_agree(labels[a], labels[b]) for b in names] for a in names]

    adversarial = [
        {
            "norm": group[0].norm,
            "eps": _number(group[0].eps),
            "pixels": _head(group[0])["pixels"],
            "matrix": matrix([seen[c.cell] for c in group]),
        }
        for group in _by_radius(attacks)
    ]
    return {"targets": names, "clean": matrix([clean]), "adversarial": adversarial}


def _agree(a: np.ndarray, b: np.ndarray) -> float | None:
    both = (a >= 0) & (b >= 0)
    return float((a == b)[both].mean()) if both.any() else None


def _lowest(measured: list[dict[str, Any]], sources: set[str]) -> dict[str, Any] | None:
    """The lowest robust accuracy on the grid under an attack (noise is none): what ``--fail-under`` looks at.

    ``sources``: targets that only lent their gradients; the network that ships is another.
    """
    found = [
        {key: cell[key] for key in ("attack", "norm", "eps", "pixels", "crafted_on")}
        | {"target": line["target"], "robust_accuracy": line["robust_accuracy"]["share"]}
        for cell in measured
        for line in cell["targets"]
        if cell["kind"] != "noise" and not line["before_grid"] and line["n"] and line["target"] not in sources
    ]
    return min(found, key=lambda f: f["robust_accuracy"], default=None)


def _unfinished(n: int, clean: Any, seen: Any, queries: Any, cells: list[Any], names: list[str]) -> list[str]:
    """What is still missing, a sentence each; empty for a finished run."""
    missing = [f"{name} has answered {k} of {n} clean images" for name in names if (k := int((clean[name].correct >= 0).sum())) < n]
    for cell in cells:
        crafted = int((queries[cell.cell] >= 0).sum())
        where = f"{cell.attack} at {words.radius(_head(cell))}"
        if 0 < crafted < n or (crafted == 0 and not any((seen[cell.cell][name].correct >= 0).any() for name in seen[cell.cell])):
            missing.append(f"{where}: {crafted} of {n} images are crafted")
        missing += [
            f"{where}: {name} has answered {k} of {n}" for name in names if (k := int((seen[cell.cell][name].correct >= 0).sum())) < n
        ]
    return missing
