"""Does what a run file plans, a unit at a time, and writes down what comes of it: so it can be stopped at any moment and resumed.

Order: the rows, then cell by cell its candidates and every target's answers to them. What is in the file already is skipped.
Integer runtimes answer a row alike in any batch; gradients do not, so gradient batches start at fixed rows and are redone whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import data, runtimes
from edgeq.core.cell import Batch, Cell, Unit
from edgeq.core.errors import EdgeqError
from edgeq.core.rows import Rows, row_id
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs import check
from edgeq.runs.estimate import Estimate, estimate
from edgeq.runs.format import LIMIT
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import Setting, open_data
from edgeq.runs.store import Run
from edgeq.runs.unit import Task, run_unit
from edgeq.targets.opener import Bench
from edgeq.targets.spec import short

CHUNK = 256  # rows decoded, answered and committed at once
COMMIT = 0.5  # seconds of finished rows that a kill may cost

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``: rows done of a stage that is named in words."""

Executor = Callable[[Iterable[Task]], Iterator[Batch]]
"""Does tasks, in any order, and gives what comes of them. It may be stopped in between."""


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
        asked = [t.id for t in run.targets(running=True) if t.spec.answers and t.id in bench.specs]
        if announce is not None:
            announce(estimate(bench, asked, cells, attacks, run.shape, run.n, plan.max_queries))
        _write_rows(run, plan, setting, progress)
        rows, called = Rows(run.ids(), run.labels()), short(bench.specs.values())

        def here(tasks: Iterable[Task]) -> Iterator[Batch]:
            return (batch for task in tasks for batch in run_unit(task, bench))

        for cell in cells:
            for target in ("", *asked) if cell.kind != "clean" else asked:
                done = run.done(cell.cell, target or None)
                stage = f"{called[target]} on {label(cell, called)}" if target else label(cell, called)
                units = [Unit(cell, tuple(chunk.tolist()), target) for chunk in _pieces(run, cell, target, done, bench)]
                tasks = (_task(run, unit, rows, attacks.get(cell.cell), plan) for unit in units)
                _commit(run, here(tasks), rows, done, lambda k, stage=stage: progress(stage, k, run.n))  # type: ignore[misc]
    run.set_meta("finished", True)


@contextmanager
def opened(run: Run, plan: Plan) -> Iterator[Bench]:
    """Opens every target that can run; refuses files that changed since the run began, and runtimes that became others."""
    check.artifacts(run)
    files = {a.sha256: Path(a.file) for a in run.artifacts()}
    records = run.targets(running=True)
    known = [t.spec for t in records if not t.spec.artifact or t.spec.artifact in files]
    with Bench(known, files.__getitem__, plan.threads, plan.clamps) as bench:
        for record in records:
            if not record.spec.answers or record.id not in bench.specs:
                continue
            identity = bench.target(record.id).identity()
            if record.identity and (changed := _difference(record.identity, identity)):
                raise EdgeqError(
                    f"{run.path}: {record.id} was another runtime when this run began ({changed}), "
                    "and rows of the two would not be comparable; start a new run"
                )
            run.add(replace(record, identity=identity))
        yield bench


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    return "; ".join(f"{k}: {before.get(k)} then, {now.get(k)} now" for k in sorted({*before, *now}) if before.get(k) != now.get(k))


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """A target that gives no answer ends this attempt, not the run."""
    try:
        yield
    except runtimes.WorkerError as error:
        raise type(error)(f"{error}; every finished row is kept, go on with: edgeq resume {run.path}") from error


def _pieces(run: Run, cell: Cell, target: str, done: np.ndarray, bench: Bench) -> list[np.ndarray]:
    """The rows that a cell still lacks, in units: of queries all at once, so that the target's batch stays full to the end; of gradients
    the batches of their source, whole."""
    missing = np.flatnonzero(~done)
    if target or cell.kind == "noise":
        return list(_chunks(missing, _at_once(run)))
    if cell.kind == "query":
        return [missing] if len(missing) else []
    size = next(iter(bench.sources(cell.crafted_on).values())).batch
    return [chunk for chunk in _chunks(np.arange(run.n), size) if not done[chunk].all()]


def _task(run: Run, unit: Unit, rows: Rows, attack: Any, plan: Plan) -> Task:
    index = np.array(unit.index, np.int64)

    def images(places: np.ndarray) -> np.ndarray:
        return run.candidates(unit.cell.cell, index[places]) if unit.target else run.images(index[places])

    return Task(unit, rows[index], images, attack, plan.seed, plan.max_queries)


def _commit(run: Run, batches: Iterator[Batch], rows: Rows, done: np.ndarray, progress: Callable[[int], None]) -> None:
    """Writes batches down as they come, several in one transaction; also those from before a target was lost, or the user had enough."""
    pending: list[Batch] = []
    done, since = done.copy(), time.monotonic()

    def write() -> None:
        with run.transaction():
            for batch in pending:
                run.commit(batch, rows.labels)
        pending.clear()
        progress(int(done.sum()))

    progress(int(done.sum()))
    try:
        for batch in batches:
            pending.append(batch)
            done[batch.index] = True
            if time.monotonic() - since > COMMIT:
                write()
                since = time.monotonic()
    finally:
        write()


def _write_rows(run: Run, plan: Plan, setting: Setting | None, progress: Progress) -> None:
    done = run.done(0)
    if done.all():
        return
    if setting is None:
        classes = next((t.spec.signature.classes for t in run.targets(True) if t.spec.signature and t.spec.signature.classes), None)
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
    names = run.meta("model_classes")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise EdgeqError(f"{run.path}: is damaged (its class names are no texts); use a copy, or start a new run")
    return names


def label(cell: Cell, called: Mapping[str, str]) -> str:
    """``pgd 8/255 from keras``, ``spsa 8/255``: how a cell is called. ``called``: what to call targets."""
    if cell.threat is None:
        return "clean images"
    radius = cell.threat.pixels
    size = f"{radius:g}/255" if cell.norm == "linf" and radius else f"{cell.norm} {cell.eps:g}"
    return f"{cell.attack} {size} from {called[cell.crafted_on]}" if cell.kind == "gradient" else f"{cell.attack} {size}"


def _at_once(run: Run) -> int:
    """Rows, no more than fit a bounded memory."""
    return max(1, min(CHUNK, LIMIT // math.prod(run.shape)))


def _chunks(index: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (index[i : i + size] for i in range(0, len(index), size))
