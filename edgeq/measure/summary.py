"""All figures of a run, once: every table, JSON document and page is made from what :func:`summarise` returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.core.answer import ABSTAINS
from edgeq.core.cell import Cell
from edgeq.core.doubts import Alike, Doubt
from edgeq.measure import words
from edgeq.measure.figures import (
    Agreement,
    Agreements,
    ArtifactFigures,
    CellFigures,
    CleanFigures,
    Confirmed,
    Consensus,
    Differing,
    Floor,
    Line,
    Lowest,
    Matrix,
    Pair,
    Queries,
    Rule,
    RunFacts,
    Share,
    Summary,
    TargetFigures,
    WhiteBox,
    WhiteBoxLine,
    WorstCase,
    ZeroGradient,
    share,
    spread,
)
from edgeq.measure.intervals import mcnemar
from edgeq.measure.transfer import matrices
from edgeq.runs import doubts, trials
from edgeq.runs.format import Outcomes, RunTarget
from edgeq.runs.reader import Reader
from edgeq.runs.trials import Fit
from edgeq.targets.spec import TargetSpec, short

FORMAT = 2

ByTarget = Mapping[str, Outcomes]


def summarise(run: Reader) -> Summary:
    """Everything that is measured of an open run. An unfinished run is measured over its finished rows: each figure's ``n`` says over how
    many."""
    cells, records = [c for c in run.cells() if c.cell != 0], run.targets()
    specs = {t.id: t.spec for t in records}
    answering = [t.spec for t in records if t.runs]
    # what a stand-in computes is shown as its interpreter answers it, and a mean answers nothing
    shown = [s for s in answering if s.derived not in ("stand-in", "mean")]
    names = [s.id for s in shown if s.derived != "before-grid"]
    clean = {id: run.outcomes(0, id) for id in names}
    # the float iterates have no clean images of their own: those are the base target's
    clean |= {s.id: clean[s.members[0]] for s in shown if s.derived == "before-grid" and s.members[0] in clean}
    shown = [s for s in shown if s.id in clean]
    labels = run.labels()
    classes = len(np.unique(labels[labels >= 0]))
    alike = {id: doubts.alike(run, id, classes) for id in names}
    found = {t.id: doubted for t in records if t.id in names and (doubted := doubts.of_target(run, t))}
    fits = tuple(fit for fit in trials.kept(run) if fit.target in specs)
    seen = {c.cell: {s.id: run.outcomes(c.cell, s.id) for s in shown} for c in cells}
    attacks = [c for c in cells if c.adversarial]
    noise = {(c.norm, c.eps): seen[c.cell] for c in cells if c.kind == "noise"}
    queries = {c.cell: run.queries(c.cell) for c in cells}
    called = short(specs.values())

    measured = []
    for cell in cells:
        reference = real(cell.crafted_on, specs) if real(cell.crafted_on, specs) in names else next(iter(names), "")
        floor, norms = noise.get((cell.norm, cell.eps)), run.norms(cell.cell)
        lines = tuple(
            _line(s, cell, reference, specs, clean, seen[cell.cell], floor, norms, queries[cell.cell], labels)
            for s in shown
            if (seen[cell.cell][s.id].correct >= 0).any()
        )
        crafted = int((queries[cell.cell] >= 0).sum())
        measured.append(_figures(cell, reference, crafted, _zeros(run, cell, crafted), lines))

    sources = {s.id for s in specs.values() if s.role == "source"}
    before = tuple(_clean(specs[id], clean[id], alike[id], [d.of(called[id]) for d in found.get(id, ())]) for id in names)
    # what a board left out of its CSV file is no unfinished run
    ours = [id for id in names if specs[id].derived != "board"]
    summary = Summary(
        FORMAT,
        RunFacts(run.path.name, run.n, run.shape, int((run.labels() >= 0).sum())),
        tuple(_warnings(found, fits, specs, called)),
        Rule(words.RIGHT, words.FOOLED),
        tuple(_artifacts(run, specs)),
        tuple(_target(t, called) for t in records),
        before,
        tuple(measured),
        tuple(_worst_case(id, group, clean, seen) for group in _by_radius(attacks) for id in names),
        _agreements(names, clean, seen, attacks),
        _lowest(measured, sources, {c.target for c in before if c.void}),
        run.meta("access"),
        tuple(_white_box(attacks, names, specs, clean, seen)),
        tuple(matrices(measured, names, {c.target: c.accuracy for c in before})),
        tuple(_confirmed(run, s) for s in answering if s.derived == "stand-in" and s.members[0] in names),
        fits,
        tuple(_unfinished(run.n, clean, seen, queries, measured, ours, called)),
    )
    summary = replace(summary, threat_model=tuple(words.threat_model(summary)))
    return replace(summary, not_shown=tuple(words.not_shown(summary, run.meta("plan"))))


def real(id: str, specs: Mapping[str, TargetSpec]) -> str:
    """The interpreter that a stand-in computes the answers of; any other target is itself."""
    spec = specs.get(id)
    return spec.members[0] if spec is not None and spec.derived == "stand-in" and spec.members else id


def _artifacts(run: Reader, specs: Mapping[str, TargetSpec]) -> list[ArtifactFigures]:
    ships = {s.artifact for s in specs.values() if s.role == "target"}
    return [ArtifactFigures(a.sha256, a.name, a.file, a.bytes, "target" if a.sha256 in ships else "source") for a in run.artifacts()]


def _target(t: RunTarget, called: Mapping[str, str]) -> TargetFigures:
    s = t.spec
    border = None if s.signature is None else s.signature.to_json()
    return TargetFigures(
        s.id, called[s.id], s.network, s.artifact, s.runtime, s.role, s.derived, s.members, t.status, t.reason, border, t.identity
    )


def _figures(cell: Cell, reference: str, crafted: int, zeros: tuple[ZeroGradient, ...], lines: tuple[Line, ...]) -> CellFigures:
    eps, pixels = _radius(cell)
    head = (cell.cell, cell.attack, cell.params, cell.norm, cell.kind, cell.crafted_on, cell.access, str(cell.goal))
    return CellFigures(*head, eps, pixels, reference, crafted, zeros, lines)


def _radius(cell: Cell) -> tuple[float | None, float | None]:
    """``eps``, and the radius in pixel steps, as :attr:`edgeq.core.threat.Threat.pixels` says it."""
    if not math.isfinite(cell.eps):
        return None, None
    return cell.eps, 0.0 if cell.threat is None else cell.threat.pixels


def _zeros(run: Reader, cell: Cell, crafted: int) -> tuple[ZeroGradient, ...]:
    """For each clamp what of the first gradient was exactly zero (docs/concepts.md: *Straight-through*): masked, not safe."""
    if cell.kind != "gradient":
        return ()
    return tuple(
        ZeroGradient(z.clamp, share(min(z.rows, crafted), crafted), share(min(z.components, z.of), z.of) if z.of else None)
        for z in run.zeros(cell.cell)
    )


def _white_box(
    attacks: Sequence[Cell], names: Sequence[str], specs: Mapping[str, TargetSpec], clean: ByTarget, seen: Any
) -> list[WhiteBox]:
    """The same attack crafted on a source and on the file, on the same rows of each of the file's runtimes, and of boards."""
    sources = {s.id for s in specs.values() if s.role == "source"}
    gradient = [c for c in attacks if c.kind == "gradient"]

    def key(c: Cell) -> tuple[Any, ...]:
        return c.attack, c.params, c.norm, c.eps

    pairs = [(a, b) for a in gradient if a.crafted_on in sources for b in gradient if b.crafted_on not in sources and key(a) == key(b)]
    figures = []
    for a, b in pairs:
        lines = []
        for id in names:
            if id in sources or specs[id].network not in ("", specs[b.crafted_on].network) or specs[id].derived == "ensemble":
                continue
            before, from_source, from_file = clean[id].right, seen[a.cell][id].correct, seen[b.cell][id].correct
            done = (before >= 0) & (from_source >= 0) & (from_file >= 0)
            p, q = ((before == 1)[done] & (x == 1)[done] for x in (from_source, from_file))
            n = int(done.sum())
            only = int((p & ~q).sum()), int((q & ~p).sum())
            lines.append(WhiteBoxLine(id, n, share(p.sum(), n), share(q.sum(), n), *only, mcnemar(p, q)))
        radius = (a.norm, *_radius(a))
        figures.append(WhiteBox(a.attack, a.params, *radius, a.crafted_on, b.crafted_on, (a.cell, b.cell), tuple(lines)))
    return figures


def _confirmed(run: Reader, spec: TargetSpec) -> Confirmed:
    """Over how many rows of all cells the interpreter was asked for what ``spec`` computes in its stead, and where the two differ."""
    by, cells = spec.members[0], []
    for cell in run.cells():
        mine, its = run.outcomes(cell.cell, spec.id), run.outcomes(cell.cell, by)
        both = np.flatnonzero((mine.label >= 0) & (its.label >= 0))
        differ = 0
        for start in range(0, len(both), 1024):
            idx = both[start : start + 1024]
            a, b = run.scores(cell.cell, spec.id, idx), run.scores(cell.cell, by, idx)
            differ += int((mine.label != its.label)[idx].sum() if a is None or b is None else (a != b).any(axis=1).sum())
        cells.append(Differing(cell.cell, len(both), differ))
    return Confirmed(spec.id, by, sum(c.rows for c in cells), sum(c.differ for c in cells), tuple(cells))


def _warnings(
    found: Mapping[str, tuple[Doubt, ...]], fits: Sequence[Fit], specs: Mapping[str, TargetSpec], called: Mapping[str, str]
) -> Iterator[str]:
    """What looks wrong, what would fit, and what that means."""
    yield from doubts.sentences(found, {id: specs[id].network for id in found}, called)
    for fit in fits:
        yield fit.sentence(called[fit.target])
    if any(doubt.void for several in found.values() for doubt in several):
        yield "Until that is mended, robust accuracy says nothing of attacks, and --fail-under cannot be judged."


def _clean(spec: TargetSpec, outcome: Outcomes, alike: Alike | None, found: Sequence[Doubt]) -> CleanFigures:
    n = int((outcome.right >= 0).sum())
    right, stands, tied = (share((column == 1).sum(), n) for column in (outcome.right, outcome.correct, outcome.tied))
    consensus = _consensus(spec, outcome, outcome.right >= 0)
    return CleanFigures(spec.id, n, accuracy=right, with_ties=stands, ties=tied, constant=alike, consensus=consensus, doubts=tuple(found))


def _consensus(spec: TargetSpec, outcome: Outcomes, done: np.ndarray) -> Consensus | None:
    if spec.derived != "ensemble":
        return None
    n = done.sum()
    return Consensus(share((done & (outcome.label != ABSTAINS)).sum(), n), share((done & (outcome.correct == 1)).sum(), n))


def _line(
    spec: TargetSpec,
    cell: Cell,
    reference: str,
    specs: Mapping[str, TargetSpec],
    clean: ByTarget,
    seen: ByTarget,
    noise: ByTarget | None,
    norms: tuple[np.ndarray, np.ndarray],
    queries: np.ndarray,
    labels: np.ndarray,
) -> Line:
    """One target under one attack at one radius (docs/concepts.md: *Fooled*, *Robust accuracy*, *Norms*, *Noise floor*)."""
    id, before_grid = spec.id, spec.derived == "before-grid"
    mine = seen[id]
    done = (clean[id].right >= 0) & (mine.correct >= 0)
    right, stands = done & (clean[id].right == 1), done & (mine.correct == 1)
    broken, n = right & ~stands, int(done.sum())
    asked = cell.kind == "query" and id == real(cell.crafted_on, specs)
    floor = pair = None
    if id != reference and not before_grid and reference:
        uniform = None if noise is None else _disagreement(noise[id], noise[reference])
        floor = Floor(reference, _disagreement(clean[id], clean[reference]), uniform, _disagreement(mine, seen[reference]))
        both = done & (clean[reference].right >= 0) & (seen[reference].correct >= 0)
        other = (clean[reference].right == 1) & (seen[reference].correct == 1)
        a, b = (right & stands)[both], other[both]
        pair = Pair(reference, int(both.sum()), int((a & ~b).sum()), int((b & ~a).sum()), mcnemar(a, b))
    return Line(
        id,
        n,
        before_grid,
        clean_accuracy=share(right.sum(), n),
        robust_accuracy=share((right & stands).sum(), n),
        b19_acc=share((done & (mine.right == 1)).sum(), n),
        success=share(broken.sum(), right.sum()),
        ties=share((done & (mine.tied == 1)).sum(), n),
        l2=None if before_grid else spread(norms[0][broken]),
        linf=None if before_grid else spread(norms[1][broken]),
        queries=Queries(spread(queries[broken].astype(float)), spread(queries[done & (queries >= 0)].astype(float))) if asked else None,
        floor=floor,
        mcnemar=pair,
        reached=_reached(spec, cell, mine, labels),
        consensus=_consensus(spec, mine, done),
    )


def _reached(spec: TargetSpec, cell: Cell, seen: Outcomes, labels: np.ndarray) -> Share | None:
    """The wanted class alone at the top, of the rows that can be attacked."""
    classes = None if spec.signature is None else spec.signature.classes
    if not cell.goal.targeted or (cell.goal.rule == "next" and classes is None):
        return None
    wanted = cell.goal.wanted(labels, classes)
    open_ = (seen.label != -1) & cell.goal.attackable(labels)
    return share((open_ & (seen.label == wanted) & (seen.tied == 0)).sum(), open_.sum())


def _disagreement(a: Outcomes, b: Outcomes) -> Share:
    """Share of rows that both answered where their labels differ."""
    both = (a.label != -1) & (b.label != -1)
    return share((a.label != b.label)[both].sum(), both.sum())


def _by_radius(cells: Sequence[Cell]) -> list[list[Cell]]:
    radii = dict.fromkeys((c.norm, c.eps) for c in cells)
    return [[c for c in cells if (c.norm, c.eps) == radius] for radius in radii]


def _worst_case(id: str, group: Sequence[Cell], clean: ByTarget, seen: Any) -> WorstCase:
    """Right clean and under every attack of this radius; over all rows, and over the rows that are right clean."""
    done, stands = clean[id].right >= 0, clean[id].right == 1
    right = stands.copy()
    for cell in group:
        done &= seen[cell.cell][id].correct >= 0
        stands &= seen[cell.cell][id].correct == 1
    attacks = tuple(dict.fromkeys(c.attack for c in group))
    over = share((stands & done).sum(), done.sum()), share((stands & done).sum(), (right & done).sum())
    return WorstCase(id, group[0].norm, *_radius(group[0]), attacks, *over)


def _agreements(names: Sequence[str], clean: ByTarget, seen: Any, attacks: Sequence[Cell]) -> Agreements:
    """Share of equal labels of every two targets: on clean images, and at each radius over the images of all its attacks."""

    def matrix(outcomes: Sequence[ByTarget]) -> Matrix:
        labels = {id: np.concatenate([o[id].label for o in outcomes]) for id in names}
        return tuple(tuple(_agree(labels[a], labels[b]) for b in names) for a in names)

    groups = _by_radius(attacks)
    adversarial = tuple(Agreement(g[0].norm, *_radius(g[0]), matrix([seen[c.cell] for c in g])) for g in groups)
    return Agreements(tuple(names), matrix([clean]), adversarial)


def _agree(a: np.ndarray, b: np.ndarray) -> float | None:
    both = (a != -1) & (b != -1)
    return float((a == b)[both].mean()) if both.any() else None


def _lowest(measured: Sequence[CellFigures], sources: set[str], void: set[str]) -> Lowest | None:
    """``sources``: targets that only lent their gradients; the network that ships is another. ``void``: targets by whose figures, and by
    what is crafted on them, nothing can be judged."""
    lines = [
        (line.robust_accuracy.share, cell, line)
        for cell in measured
        for line in cell.targets
        if cell.crafted_on not in void and line.target not in void
        if cell.kind != "noise" and not line.before_grid and line.robust_accuracy.share is not None and line.target not in sources
    ]
    if not lines:
        return None
    value, cell, line = min(lines, key=lambda entry: entry[0] or 0.0)
    return Lowest(cell.attack, cell.norm, cell.eps, cell.pixels, cell.crafted_on, line.target, value or 0.0)


def _unfinished(
    n: int, clean: ByTarget, seen: Any, queries: Any, cells: Sequence[CellFigures], ids: Sequence[str], called: Mapping[str, str]
) -> list[str]:
    """What is still missing, a sentence each; empty for a finished run."""
    missing = [f"{called[id]} has answered {k} of {n} clean images" for id in ids if (k := int((clean[id].correct >= 0).sum())) < n]
    for cell in cells:
        crafted = int((queries[cell.cell] >= 0).sum())
        where = f"{cell.attack} at {words.radius(cell)}"
        if 0 < crafted < n or (crafted == 0 and not any((seen[cell.cell][id].correct >= 0).any() for id in seen[cell.cell])):
            missing.append(f"{where}: {crafted} of {n} images are crafted")
        missing += [
            f"{where}: {called[id]} has answered {k} of {n}" for id in ids if (k := int((seen[cell.cell][id].correct >= 0).sum())) < n
        ]
    return missing
