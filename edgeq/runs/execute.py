"""Does what a run file plans, a batch of rows at a time, and writes each batch down: so it can be stopped at any moment and resumed.

Order: the rows, then cell by cell its candidates and every target's answers to them. What is in the file already is skipped.
Integer runtimes answer a row alike in any batch; gradients do not, so gradient batches start at fixed rows and are redone whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import data, runtimes
from edgeq.core import scheduler
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Crafted, Target
from edgeq.core.rows import Rows, row_id
from edgeq.core.signature import Signature
from edgeq.core.threat import Threat
from edgeq.core.worst import worst
from edgeq.pipeline.codes import PixelCodes
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs import access, check
from edgeq.runs.estimate import Estimate, estimate
from edgeq.runs.format import BEFORE_GRID, LIMIT, Cell, RunTarget
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import KERAS, Setting, open_data
from edgeq.runs.store import Run

CHUNK = 256  # rows decoded, answered and committed at once
COMMIT = 0.5  # seconds of finished rows that a kill may cost a query attack

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``: rows done of a stage that is named in words."""


@dataclass(frozen=True, eq=False)
class Bench:
    """The opened targets of a run; what its query cells see, by target and access; and the sources of gradients that its cells name,
    each by clamp: ``keras`` has none (""), the file as a runtime computes it one or both."""

    targets: dict[str, Target]
    views: dict[tuple[str, str], Target]
    sources: dict[str, dict[str, Any]]


@contextmanager
def opened(run: Run, plan: Plan) -> Iterator[Bench]:
    """Opens every target that can run; refuses files that changed since the run began, and runtimes that became others."""
    files = {a.name: a for a in run.artifacts()}
    check.artifacts(run)
    with ExitStack() as stack:
        targets = {}
        for record in run.targets(running=True):
            if record.name.endswith(BEFORE_GRID) or record.artifact not in files:
                continue  # a view of the source, and boards that answered through a file
            target = _open(record, Path(files[record.artifact].file), plan)
            stack.callback(target.close)
            if record.identity and (changed := _difference(record.identity, target.identity())):
                raise EdgeqError(
                    f"{run.path}: {record.name} was another runtime when this run began ({changed}), "
                    "and rows of the two would not be comparable; start a new run"
                )
            run.add(replace(record, identity=target.identity()))
            targets[record.name] = target
        named = {c.crafted_on for c in run.cells() if c.kind == "gradient"}
        sources = {name: {"": targets[KERAS]} if name == KERAS else _white_box(run, name, plan) for name in named}
        seen = {(c.crafted_on, c.access) for c in run.cells() if c.kind == "query"}
        yield Bench(targets, {key: _view(run, targets, *key, plan, stack) for key in seen}, sources)


def _open(record: RunTarget, file: Path, plan: Plan) -> Target:
    codes = PixelCodes.from_json(record.codes)
    if record.name == KERAS:
        from edgeq.keras import source

        return source.open(file, codes.real)
    return runtimes.open(record.name, file, Signature.from_json(record.signature), codes, batch=CHUNK, threads=plan.threads)


def _white_box(run: Run, runtime: str, plan: Plan) -> dict[str, Any]:
    """The target's file, differentiable, forwards as ``runtime`` computes it, with each clamp of the plan."""
    from edgeq.integer import read
    from edgeq.keras.ste.source import SteSource

    record, file = _record(run, runtime)
    graph = read.graph(file)
    return {clamp: SteSource(graph, PixelCodes.from_json(record.codes), runtime, clamp) for clamp in plan.clamps}


def _view(run: Run, targets: dict[str, Target], name: str, seen: str, plan: Plan, stack: ExitStack) -> Target:
    """What a query attack gets of the target ``name`` when it sees ``seen``: its labels, its scores, or its logits."""
    record, file = _record(run, name)
    if seen == "label":
        return access.labels(targets[name])
    if seen == "scores" or name == KERAS or Signature.from_json(record.signature).kind == "logits":
        return targets[name]
    bare_file = stack.enter_context(access.stripped(file))
    signature = runtimes.probe(name, bare_file, output="logits")
    bare = runtimes.open(name, bare_file, signature, PixelCodes.from_json(record.codes), batch=CHUNK, threads=plan.threads)
    stack.callback(bare.close)
    return access.logits(targets[name], bare, signature.input.shape)


def _record(run: Run, name: str) -> tuple[RunTarget, Path]:
    """A target of the run, and its file."""
    record = next(t for t in run.targets() if t.name == name)
    return record, Path(next(a.file for a in run.artifacts() if a.name == record.artifact))


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    return "; ".join(f"{k}: {before.get(k)} then, {now.get(k)} now" for k in sorted({*before, *now}) if before.get(k) != now.get(k))


def execute(
    run: Run,
    setting: Setting | None = None,
    progress: Progress = lambda *_: None,
    announce: Callable[[Estimate], None] | None = None,
) -> None:
    """Brings ``run`` to its end. ``setting``: what :func:`prepare` gave, where the run was just created.

    ``announce`` hears how long it will take, before it begins.
    """
    cells = run.cells()
    if not cells:
        raise EdgeqError(f"{run.path}: was stopped before its plan was written; delete it and start the run again")
    plan, attacks = check.asked(run, cells)
    if setting is None:
        with _resumable(run):
            check.targets(run, plan)
    with _resumable(run), opened(run, plan) as bench:
        if announce is not None:
            announce(estimate(bench.targets, bench.sources, cells, attacks, run.shape, run.n, plan.max_queries))
        _write_rows(run, plan, setting, progress)
        rows = Rows(run.ids(), run.labels())
        for cell in cells:
            if cell.kind == "query":
                _query(run, cell, attacks[cell.cell], bench.views[cell.crafted_on, cell.access], rows, plan, progress)
            elif cell.kind != "clean":
                _craft(run, cell, attacks[cell.cell], bench, rows, plan, progress)
            for target in bench.targets.values():
                _replay(run, cell, target, rows, progress)
    run.set_meta("finished", True)


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """A target that gives no answer ends this attempt, not the run."""
    try:
        yield
    except runtimes.WorkerError as error:
        raise type(error)(f"{error}; every finished row is kept, go on with: edgeq resume {run.path}") from error


def _write_rows(run: Run, plan: Plan, setting: Setting | None, progress: Progress) -> None:
    done = run.done(0)
    if done.all():
        return
    if setting is None:
        classes = next((s["output"]["shape"][0] for t in run.targets(True) if (s := t.signature) and s["output"]["shape"]), None)
        asked = replace(plan, data=plan.data.removesuffix(":download"))  # asked for once: a run file alone fetches nothing
        dataset = open_data(asked, classes, _names(run))
        index = data.sample(dataset, plan.n, plan.seed)
        preprocess = Preprocess.parse(str(run.meta("preprocess")), run.shape[:2], run.shape[2])
    else:
        dataset, index, preprocess = setting.dataset, setting.index, setting.preprocess
    ids = np.array([row_id(dataset.names[i]) for i in index])
    if len(index) != run.n or (run.ids()[done] != ids[done]).any():
        raise EdgeqError(f"{plan.data}: is not the data this run began with; put it back, or start a new run")
    for chunk in _chunks(np.flatnonzero(~done), _at_once(run)):
        progress("images", int(chunk[0]), run.n)
        images = data.decode(dataset, index[chunk], preprocess.apply)
        run.add_rows(chunk, ids[chunk], [dataset.names[index[i]] for i in chunk], dataset.labels[index[chunk]], images)
    progress("images", run.n, run.n)


def _names(run: Run) -> list[str] | None:
    found = run.meta("model_classes")
    if found is not None and not (isinstance(found, list) and all(isinstance(name, str) for name in found)):
        raise EdgeqError(f"{run.path}: is damaged (its class names are no texts); use a copy, or start a new run")
    return found


def _craft(run: Run, cell: Cell, attack: Any, bench: Bench, rows: Rows, plan: Plan, progress: Progress) -> None:
    threat, stage = Threat(cell.norm, cell.eps), label(cell)  # type: ignore[arg-type]
    sources = bench.sources[cell.crafted_on] if attack.needs == "gradients" else {}
    size = next((s.batch for s in sources.values()), _at_once(run))
    done = run.done(cell.cell)
    before = KERAS + BEFORE_GRID if cell.crafted_on == KERAS else None
    if before and not any(t.name == before for t in run.targets()):
        keras = next(t for t in run.targets() if t.name == KERAS)
        run.add(replace(keras, name=before))
    for chunk in _chunks(np.arange(run.n), size):
        progress(stage, int(chunk[0]), run.n)
        if done[chunk].all():
            continue
        clean = run.images(chunk)
        made = [attack.craft(source, clean, rows[chunk], threat, plan.seed) for source in sources.values() or (None,)]
        kept = worst(made, bench.targets.get(cell.crafted_on), rows.labels[chunk])
        with run.transaction():
            run.add_candidates(cell.cell, chunk, kept.candidates, clean, 0, kept.loss)
            if before:
                float_answer = sources[""].answer_float(made[0].iterates)
                run.add_answers(cell.cell, before, chunk, float_answer, rows.labels[chunk])
            if counts := {clamp: zeros for clamp, one in zip(sources, made, strict=False) if (zeros := _zeros(one, clean))}:
                run.set_meta("zero_gradients", {**dict(run.meta("zero_gradients", {})), f"{cell.cell}/{chunk[0]}": counts})
    progress(stage, run.n, run.n)


def _zeros(made: Crafted, clean: np.ndarray) -> list[int] | None:
    """Of the first gradient: rows that are zero everywhere, pixels that are zero, and pixels in all; None where there was no gradient."""
    told = made.diagnostics
    if told.zero is None or told.zero_pixels is None:
        return None
    return [int(told.zero.sum()), int(told.zero_pixels.sum()), clean.size]


def _query(run: Run, cell: Cell, attack: Any, target: Target, rows: Rows, plan: Plan, progress: Progress) -> None:
    threat, stage = Threat(cell.norm, cell.eps), label(cell)  # type: ignore[arg-type]
    todo = np.flatnonzero(~run.done(cell.cell))
    held: list[scheduler.Finished] = []
    count, since = run.n - len(todo), time.monotonic()

    def write() -> None:
        finished_rows, held[:] = held[:], []
        with run.transaction():
            for finished in finished_rows:
                idx = todo[finished.index]
                run.add_candidates(cell.cell, idx, finished.candidates, run.images(idx), finished.queries, finished.margin)

    found = scheduler.run(attack, target, rows[todo], lambda i: run.images(todo[i]), threat, plan.seed, plan.max_queries)
    progress(stage, count, run.n)
    try:
        for finished in found:
            held.append(finished)
            count += len(finished.index)
            if time.monotonic() - since > COMMIT:
                write()
                since = time.monotonic()
                progress(stage, count, run.n)
    finally:  # also when the target is gone, or the user had enough
        write()
    progress(stage, run.n, run.n)


def _replay(run: Run, cell: Cell, target: Target, rows: Rows, progress: Progress) -> None:
    stage = f"{target.name} on {label(cell)}"
    todo = np.flatnonzero(~run.done(cell.cell, target.name))
    for chunk in _chunks(todo, _at_once(run)):
        progress(stage, run.n - len(todo), run.n)
        run.add_answers(cell.cell, target.name, chunk, target.answer(run.candidates(cell.cell, chunk)), rows.labels[chunk])
        todo = todo[len(chunk) :]
    progress(stage, run.n, run.n)


def label(cell: Cell) -> str:
    """``pgd 8/255 from keras``, ``spsa 8/255``: how a cell is called."""
    if cell.kind == "clean":
        return "clean images"
    radius = Threat(cell.norm, cell.eps).pixels  # type: ignore[arg-type]
    size = f"{radius:g}/255" if cell.norm == "linf" and radius else f"{cell.norm} {cell.eps:g}"
    return f"{cell.attack} {size} from {cell.crafted_on}" if cell.kind == "gradient" else f"{cell.attack} {size}"


def _at_once(run: Run) -> int:
    """Rows, no more than fit a bounded memory."""
    return max(1, min(CHUNK, LIMIT // math.prod(run.shape)))


def _chunks(index: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (index[i : i + size] for i in range(0, len(index), size))
