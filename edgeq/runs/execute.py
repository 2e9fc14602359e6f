"""Does what a run file plans, a batch of rows at a time, and writes each batch down: so it can be stopped at any moment and resumed.

Order: the rows, then cell by cell its candidates and every target's answers to them. What is in the file already is skipped.
Integer runtimes answer a row alike in any batch; gradients do not, so gradient batches start at fixed rows and are redone whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import data, runtimes
from edgeq.core import plugins, scheduler
from edgeq.core.errors import EdgeqError
from edgeq.core.files import sha256
from edgeq.core.protocols import Target
from edgeq.core.rows import Rows, row_id
from edgeq.core.signature import Signature
from edgeq.core.threat import Threat
from edgeq.pipeline.codes import PixelCodes
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs.estimate import Estimate, estimate
from edgeq.runs.format import BEFORE_GRID, Cell, RunTarget
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import KERAS, Setting, open_data
from edgeq.runs.store import Run

CHUNK = 256  # rows decoded, answered and committed at once
COMMIT = 0.5  # seconds of finished rows that a kill may cost a query attack

Progress = Callable[[str, int, int], None]
"""``progress(stage, done, total)``: rows done of a stage that is named in words."""


@dataclass(frozen=True, eq=False)
class Bench:
    """The opened targets of a run, and the sources of gradients that its cells name: ``keras``, or the file as a runtime computes it."""

    targets: dict[str, Target]
    sources: dict[str, Any]


@contextmanager
def opened(run: Run, plan: Plan) -> Iterator[Bench]:
    """Opens every target that can run; refuses files that changed since the run began, and runtimes that became others."""
    files = {a.name: a for a in run.artifacts()}
    for artifact in files.values():
        if not Path(artifact.file).exists() or sha256(Path(artifact.file)) != artifact.sha256:
            raise EdgeqError(f"{artifact.file}: is gone, or not the file this run began with; put it back, or start a new run")
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
        yield Bench(targets, {name: targets[KERAS] if name == KERAS else _white_box(run, name) for name in named})


def _open(record: RunTarget, file: Path, plan: Plan) -> Target:
    codes = PixelCodes.from_json(record.codes)
    if record.name == KERAS:
        from edgeq.keras import source

        return source.open(file, codes.real)
    return runtimes.open(record.name, file, Signature.from_json(record.signature), codes, batch=CHUNK, threads=plan.threads)


def _white_box(run: Run, runtime: str) -> Any:
    """The target's file, differentiable, forwards as ``runtime`` computes it."""
    from edgeq.integer import read_tflite
    from edgeq.keras.ste.source import SteSource

    record = next(t for t in run.targets() if t.name == runtime)
    file = next(a.file for a in run.artifacts() if a.name == record.artifact)
    return SteSource(read_tflite.read(file), PixelCodes.from_json(record.codes), runtime)


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
    plan = Plan.from_json(run.meta("plan"))
    cells = run.cells()
    if not cells:
        raise EdgeqError(f"{run.path}: was stopped before its plan was written; delete it and start the run again")
    attacks = {c.cell: plugins.load("attack", c.attack)(**c.params) for c in cells if c.kind != "clean"}
    with opened(run, plan) as bench:
        if announce is not None:
            announce(estimate(bench.targets, bench.sources, cells, attacks, run.shape, run.n, plan.max_queries))
        _write_rows(run, plan, setting, progress)
        rows = Rows(run.ids(), run.labels())
        for cell in cells:
            if cell.kind == "query":
                _query(run, cell, attacks[cell.cell], bench.targets[cell.crafted_on], rows, plan, progress)
            elif cell.kind != "clean":
                _craft(run, cell, attacks[cell.cell], bench, rows, plan, progress)
            for target in bench.targets.values():
                _replay(run, cell, target, rows, progress)
    run.set_meta("finished", True)


def _write_rows(run: Run, plan: Plan, setting: Setting | None, progress: Progress) -> None:
    done = run.done(0)
    if done.all():
        return
    if setting is None:
        classes = next((s["output"]["shape"][0] for t in run.targets(True) if (s := t.signature) and s["output"]["shape"]), None)
        dataset = open_data(plan, classes, run.meta("model_classes"))
        index = data.sample(dataset, plan.n, plan.seed)
        preprocess = Preprocess.parse(run.meta("preprocess"), run.shape[:2], run.shape[2])
    else:
        dataset, index, preprocess = setting.dataset, setting.index, setting.preprocess
    ids = np.array([row_id(dataset.names[i]) for i in index])
    if len(index) != run.n or (run.ids()[done] != ids[done]).any():
        raise EdgeqError(f"{plan.data}: is not the data this run began with; put it back, or start a new run")
    for chunk in _chunks(np.flatnonzero(~done), CHUNK):
        progress("images", int(chunk[0]), run.n)
        images = data.decode(dataset, index[chunk], preprocess.apply)
        run.add_rows(chunk, ids[chunk], [dataset.names[index[i]] for i in chunk], dataset.labels[index[chunk]], images)
    progress("images", run.n, run.n)


def _craft(run: Run, cell: Cell, attack: Any, bench: Bench, rows: Rows, plan: Plan, progress: Progress) -> None:
    threat, stage = Threat(cell.norm, cell.eps), label(cell)  # type: ignore[arg-type]
    source = bench.sources[cell.crafted_on] if attack.needs == "gradients" else None
    size = CHUNK if source is None else source.batch
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
        made = attack.craft(source, clean, rows[chunk], threat, plan.seed)
        with run.transaction():
            run.add_candidates(cell.cell, chunk, made.candidates, clean, 0, made.loss)
            if before and source is not None:
                run.add_answers(cell.cell, before, chunk, source.answer_float(made.iterates), rows.labels[chunk])
            if source is not None:
                zero = {**run.meta("zero_gradients", {}), f"{cell.cell}/{chunk[0]}": int(made.zero.sum())}
                run.set_meta("zero_gradients", zero)
    progress(stage, run.n, run.n)


def _query(run: Run, cell: Cell, attack: Any, target: Target, rows: Rows, plan: Plan, progress: Progress) -> None:
    threat, stage = Threat(cell.norm, cell.eps), label(cell)  # type: ignore[arg-type]
    todo = np.flatnonzero(~run.done(cell.cell))
    held: list[scheduler.Finished] = []
    count, since = run.n - len(todo), time.monotonic()

    def write() -> None:
        with run.transaction():
            for finished in held:
                idx = todo[finished.index]
                run.add_candidates(cell.cell, idx, finished.candidates, run.images(idx), finished.queries, finished.margin)

    found = scheduler.run(attack, target, rows[todo], lambda i: run.images(todo[i]), threat, plan.seed, plan.max_queries)
    progress(stage, count, run.n)
    for finished in found:
        held.append(finished)
        count += len(finished.index)
        if time.monotonic() - since > COMMIT:
            write()
            held, since = [], time.monotonic()
            progress(stage, count, run.n)
    write()
    progress(stage, run.n, run.n)


def _replay(run: Run, cell: Cell, target: Target, rows: Rows, progress: Progress) -> None:
    stage = f"{target.name} on {label(cell)}"
    todo = np.flatnonzero(~run.done(cell.cell, target.name))
    for chunk in _chunks(todo, CHUNK):
        progress(stage, run.n - len(todo), run.n)
        run.add_answers(cell.cell, target.name, chunk, target.answer(run.candidates(cell.cell, chunk)), rows.labels[chunk])
        todo = todo[len(chunk) :]
    progress(stage, run.n, run.n)


def label(cell: Cell) -> str:
    """``pgd 8/255``: how a cell is called."""
    if cell.kind == "clean":
        return "clean images"
    radius = Threat(cell.norm, cell.eps).pixels  # type: ignore[arg-type]
    return f"{cell.attack} {radius:g}/255" if cell.norm == "linf" and radius else f"{cell.attack} {cell.norm} {cell.eps:g}"


def _chunks(index: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (index[i : i + size] for i in range(0, len(index), size))
