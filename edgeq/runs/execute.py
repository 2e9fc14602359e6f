"""Does what a run file plans, a unit at a time, and writes down what comes of it: so it can be stopped at any moment and resumed.

Order: the rows, then cell by cell its candidates and every target's answers to them. What is in the file already is skipped.
Units are done by an executor (:mod:`edgeq.runs.executors`), and this process alone writes. Integer runtimes answer a row alike in any
batch; gradients do not, so gradient batches start at fixed rows and are redone whole.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edgeq import data, runtimes
from edgeq.core import cpu
from edgeq.core.cell import Batch, Cell, Unit
from edgeq.core.errors import EdgeqError
from edgeq.core.rows import Rows, row_id
from edgeq.keras import engine
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs import check, trials
from edgeq.runs.estimate import UNIT, Clock, Estimate, Survey, survey
from edgeq.runs.executors import kit, opener
from edgeq.runs.executors.executor import Work
from edgeq.runs.executors.opener import Workers
from edgeq.runs.format import LIMIT
from edgeq.runs.identities import Identities
from edgeq.runs.networks import open_data
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import Setting
from edgeq.runs.store import Run
from edgeq.runs.unit import Task, run_unit
from edgeq.targets.opener import BATCH, GRADIENTS, gradients_of
from edgeq.targets.spec import short

CHUNK = 256  # rows decoded, answered and committed at once
COMMIT = 0.5  # seconds of finished rows that a kill may cost
_BATCH = "gradient_batch"  # in the meta table
SHARES = 4  # units of a query cell for each of several workers, so that the last one to end is not far behind the others

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``: rows done of a stage that is named in words."""


def execute(
    run: Run,
    setting: Setting | None = None,
    progress: Progress = lambda *_: None,
    announce: Callable[[Estimate], None] = lambda _: None,
    workers: Workers = 1,
    warn: Callable[[str], None] = lambda _: None,
) -> None:
    """Brings ``run`` to its end. ``setting``: what :func:`prepare` gave, where the run was just created.

    ``announce`` hears how long it will take, before it begins, and what is left whenever that proves wrong. ``workers``: how many processes
    do the work, 1 for this one alone, or the address of a Dask scheduler. ``warn`` hears what looks wrong, before any attack begins. Raises
    :class:`EdgeqError`.
    """
    cells = run.cells()
    if not cells:
        raise EdgeqError(f"{run.path}: was stopped before its plan was written; delete it and start the run again")
    plan, attacks = check.asked(run, cells)
    engine.fix_threads(float_threads := _float_threads(run))
    if setting is None:
        with _resumable(run):
            check.targets(run, plan)
    check.artifacts(run)
    specs = kit.openable(run)
    asked = [spec.id for spec in specs if spec.answers]
    timing: dict[str, Any] = {"cells": cells, "attacks": attacks, "shape": run.shape, "n": run.n, "budget": plan.max_queries}
    with _resumable(run), opener.opened(workers, kit.of(run, plan, float_threads)) as executor:
        first: Survey
        (first,) = executor.map([partial(survey, asked=asked, batch=_batch(run), **timing)])
        run.set_meta(_BATCH, first.batch)
        identities = Identities.settled(run, first.identities)
        missing = {(c.cell, t): run.n - int(run.done(c.cell, t or None).sum()) for c in cells for t in ("", *asked) if t or c.cell}
        by = {c.cell: c for c in cells}
        cost = {(k, t): first.estimate.row(by[k], t, attacks.get(k)) / executor.workers for k, t in missing}
        left: dict[str, float] = {}
        for (k, t), rows_left in missing.items():
            who = t or gradients_of(by[k].crafted_on)
            left[who] = left.get(who, 0.0) + rows_left * cost[k, t]
        announce(replace(first.estimate.shared(executor.workers), sure=sum(left.values())))
        clock = Clock(first.estimate, left, announce)
        _write_rows(run, plan, setting, progress)
        rows, called = Rows(run.ids(), run.labels()), short(specs)
        for cell in cells:
            for targets in (asked,) if cell.kind == "clean" else ([""], asked):
                stages = []
                for target in targets:
                    name = f"{called[target]} on {label(cell, called)}" if target else label(cell, called)
                    done = run.done(cell.cell, target or None)
                    pieces = _pieces(run, cell, target, done, first, attacks.get(cell.cell), executor.workers)
                    units = [Unit(cell, tuple(piece.tolist()), target) for piece in pieces]
                    stages.append(_Stage(name, units, target, done, cost.get((cell.cell, target), 0.0)))

                def works(stages: list[_Stage] = stages) -> Iterator[Work]:
                    for stage in stages:
                        progress(stage.name, int(stage.done.sum()), run.n)
                        for unit in stage.units:
                            yield partial(run_unit, _task(run, unit, rows, attacks.get(unit.cell.cell), plan, first.batch))

                _commit(run, executor.map(works()), rows, {s.target: s for s in stages}, identities, progress, clock)
            if cell.kind == "clean":
                trials.look(run, executor, asked, called, progress, warn)
    run.set_meta("finished", True)


@dataclass(frozen=True, eq=False)
class _Stage:
    """What a cell still lacks of its candidates, or of one target's answers. ``done``: ``(n,) bool``, brought up to date as it comes;
    ``cost``: seconds that a row is expected to take, 0 where nobody knows."""

    name: str
    units: list[Unit]
    target: str
    done: np.ndarray
    cost: float


def _float_threads(run: Run) -> int:
    """The threads that TensorFlow computes with: the cores of the machine that the run began on."""
    recorded = run.meta("float_threads")
    if recorded is None:
        run.set_meta("float_threads", recorded := cpu.count())
    if type(recorded) is not int or not 1 <= recorded <= 1 << 12:
        raise EdgeqError(f"{run.path}: is damaged (its number of threads makes no sense); use a copy, or start a new run")
    return recorded


def _batch(run: Run) -> int | None:
    """The rows whose gradients are taken at once, where the run has begun with a number: one of before it was kept had ``GRADIENTS``."""
    began = any(record.identity for record in run.targets(running=True))
    recorded = run.meta(_BATCH, GRADIENTS if began else None)
    if recorded is not None and (type(recorded) is not int or not 1 <= recorded <= GRADIENTS):
        raise EdgeqError(f"{run.path}: is damaged (its number of gradients at once makes no sense); use a copy, or start a new run")
    return recorded


@contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """A target that gives no answer ends this attempt, not the run."""
    try:
        yield
    except runtimes.WorkerError as error:
        raise type(error)(f"{error}; every finished row is kept, go on with: edgeq resume {run.path}") from error


def _pieces(run: Run, cell: Cell, target: str, done: np.ndarray, first: Survey, attack: Any, workers: int) -> list[np.ndarray]:
    """The rows that a cell still lacks, in units. Of answers what takes some seconds, by their rate; of a float network, whose last bits
    depend on a row's place, always as many. Of gradients the batches of their source, whole. Of queries all at once for one worker, so
    that the target's batch stays full to the end; for several in shares that fill it."""
    missing = np.flatnonzero(~done)
    share = -(-len(missing) // workers)
    if target or cell.kind == "noise":
        float_ = target in first.identities and first.identities[target].get("runtime") == "keras"
        soon = CHUNK if float_ or not target else int(UNIT * first.estimate.rates[target])
        return list(_chunks(missing, max(1, min(_at_once(run), share, soon))))
    if cell.kind == "query":
        full = max(-(-BATCH // attack.width), -(-share // SHARES))
        return list(_chunks(missing, max(1, min(full, share, _at_once(run))))) if workers > 1 else [missing][: len(missing)]
    return [chunk for chunk in _chunks(np.arange(run.n), first.batches[cell.crafted_on]) if not done[chunk].all()]


def _task(run: Run, unit: Unit, rows: Rows, attack: Any, plan: Plan, batch: int) -> Task:
    index = np.array(unit.index, np.int64)

    def images(places: np.ndarray) -> np.ndarray:
        return run.candidates(unit.cell.cell, index[places]) if unit.target else run.images(index[places])

    return Task(unit, rows[index], images, attack, plan.seed, plan.max_queries, batch)


def _commit(
    run: Run,
    batches: Iterator[Batch],
    rows: Rows,
    stages: Mapping[str, _Stage],
    identities: Identities,
    progress: Progress,
    clock: Clock,
) -> None:
    """Writes batches down as they come, several in one transaction; also those from before a target was lost, or the user had enough.
    A batch of targets that are not those of the run is refused. ``stages``: by target."""
    pending: list[Batch] = []
    since = before = time.monotonic()

    def write() -> None:
        with run.transaction():
            for batch in pending:
                run.commit(batch, rows.labels)
        touched = {"" if batch.candidates is not None else next(iter(batch.answers)): None for batch in pending}
        pending.clear()
        for target in touched:
            progress(stages[target].name, int(stages[target].done.sum()), run.n)

    try:
        for batch in batches:
            identities.check(batch.identities)
            pending.append(batch)
            stage = stages["" if batch.candidates is not None else next(iter(batch.answers))]
            stage.done[batch.index] = True
            now = time.monotonic()
            if stage.cost:
                who = stage.target or gradients_of(stage.units[0].cell.crafted_on)
                clock.passed(who, stage.cost * len(batch.index), now - before)
            before = now
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
        index = data.sample(dataset, plan.n, plan.seed, run.unreadable())
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
