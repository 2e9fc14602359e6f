"""Gradients of a file compared with each other, and what its buckets do to a change of the image: a run, and measurements of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import runtimes
from edgeq.api import stated
from edgeq.core import plugins
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.estimate import Estimator
from edgeq.core.reporter import SILENT, Progress, Reporter
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.integer import read
from edgeq.integer.graph import Graph
from edgeq.measure import alignment, gradients, value_shift
from edgeq.measure.alignment import Aligned, Crafter, File
from edgeq.measure.gradients import Asked, Subjects
from edgeq.runs import doubts, trials
from edgeq.runs.execute import execute
from edgeq.runs.kept import kept
from edgeq.runs.plan import Plan, cells
from edgeq.runs.prepare import Setting, prepare
from edgeq.runs.reader import Reader
from edgeq.runs.store import Run
from edgeq.targets import access as ladder
from edgeq.targets.opener import Bench
from edgeq.targets.spec import KERAS, TargetSpec

FLOAT, CLIPPED, THROUGH, WHOLE = "float", "file clipped", "file through", "file"
OWN = {"clipped": CLIPPED, "through": THROUGH, "": WHOLE}
"""What to call the file's own gradients, by clamp; one that computes in floats has no other."""
Methods = Sequence[tuple[str, Estimator]]


@dataclass(frozen=True)
class Parts:
    """What an alignment consists of, as the run keeps it. ``target``, ``source``: ids, "" where there is no source; ``seen``: levels of the
    access ladder, at which estimates see the target; ``own``: the file lends its own gradients; ``inside``: its value shift is measured;
    ``notes``: what was left out, and why."""

    target: str
    source: str
    seen: tuple[str, ...]
    own: bool
    inside: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, run: Reader) -> Parts:
        """Raises :class:`EdgeqError` for a run that aligns nothing."""
        value, known = run.meta("align"), {a.sha256 for a in run.artifacts()}
        try:
            ids, switches = (str(value["target"]), str(value["source"])), (bool(value["own"]), bool(value["inside"]))
            parts = cls(*ids, tuple(map(str, value["seen"])), *switches, tuple(map(str, value["notes"])))
        except (TypeError, KeyError):
            raise EdgeqError(f"{run.path}: is no run of edgeq align") from None
        able = {t.id for t in run.targets(running=True) if t.spec.artifact in known and t.spec.codes is not None}
        if parts.target not in able or parts.source not in {"", *able} or not {*parts.seen} <= {"scores", "logits"}:
            raise EdgeqError(f"{run.path}: is damaged (its alignment is of targets that do not run); start a new run")
        return parts


def align(
    target: str | Path,
    *,
    source: str | Path | None = None,
    runtime: str | None = None,
    data: str | None = None,
    n: int = 100,
    seed: int = 0,
    estimates: Sequence[str] = ("spsa", "coordinate"),
    access: str = "both",
    objective: str = "ce",
    attack: str = "pgd",
    eps: Sequence[str] = ("1/255", "8/255"),
    run: str | Path | None = None,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
    **options: Any,
) -> Aligned:
    """Gradients of ``target``, a ``.tflite`` or ``.onnx`` in a ``runtime`` (by default litert-xnnpack, of an ``.onnx`` ort): the float
    network's (``source``), the file's own with both clamps, and estimates from queries; and the value shift under ``attack`` at each radius
    of ``eps``, crafted on the float network or else the file.

    ``data``: by default what the files' sidecars name. ``estimates``: estimators with options ("spsa:pairs=256"); ``access``: what they
    see, "scores", "logits" or "both"; ``objective``: a name of :mod:`edgeq.objectives`. ``run``: a file that keeps the run; asked again
    with the same, it goes on where it was stopped. ``options``: further fields of :class:`~edgeq.runs.plan.Plan` (``preprocess``,
    ``source_preprocess``, ``output``, ``label_column``, ``class_map``, ``class_names``, ``exif``, ``threads``). Raises
    :class:`~edgeq.core.errors.EdgeqError`.
    """
    methods = _methods(estimates)
    crafter = _crafter(attack)
    _radii(eps)
    if Path(target).suffix not in (".tflite", ".onnx"):
        raise EdgeqError(f"{target}: is no .tflite or .onnx; gradients and inner values of other files are not taken here")
    runtime = runtime or ("ort" if Path(target).suffix == ".onnx" else "litert-xnnpack")
    data = data or stated.data_of([target] if source is None else [target, source], reporter)
    asked: dict[str, Any] = {"data": data, "n": n, "seed": seed, "exif": True, "attacks": (attack,), "runtimes": (runtime,)}
    asked["eps"] = tuple(dict.fromkeys(eps))
    plan = Plan((str(target),), sources=() if source is None else (str(source),), **{**asked, **options})
    file = Path(target)
    key = {"align": str(file.absolute()), "estimates": list(estimates), "access": access, "objective": objective, "plan": plan.to_json()}
    path = None if run is None else Path(run)
    with (
        kept(path, key, lambda: _prepare(plan, access, methods, reporter), command) as (open_run, setting),
        reporter.progress() as show,
    ):
        execute(open_run, setting, show)
        aligned = _measured(open_run, plan, methods, objective, crafter, show)
    for note in aligned.notes:
        reporter.say(f"  {note}")
    return aligned


def _methods(estimates: Sequence[str]) -> Methods:
    methods = [plugins.build(plugins.ESTIMATORS, text) for text in dict.fromkeys(estimates)]
    if twice := {name for name, _ in methods if [n for n, _ in methods].count(name) > 1}:
        raise EdgeqError(f"--estimates {','.join(estimates)}: names {min(twice)} twice; run once for each")
    return methods


def _crafter(text: str) -> Crafter:
    name, value = plugins.build(plugins.ATTACKS, text)
    if value.needs != "gradients" or "linf" not in value.norms:
        raise EdgeqError(f"--attack {text}: crafts without gradients or has no linf form; take pgd, bim or fgsm")
    return Crafter(name, asdict(value))


def _radii(eps: Sequence[str]) -> None:
    for text in eps:
        if not Threat.parse("linf", text).reaches_integers:
            raise EdgeqError(f"--eps {text}: below one pixel no integer input differs from the clean one; use 1/255 or more")


def _prepare(plan: Plan, access: str, methods: Methods, reporter: Reporter) -> tuple[Setting, dict[str, Any]]:
    """The clean images, and where the file can be looked into noise and the attack at each radius: cells of what lends its gradients."""
    setting = prepare(replace(plan, attacks=("noise",), eps=()), reporter.say)
    for note in setting.notes:
        reporter.say(f"  {note}")
    file, runtime = Path(plan.targets[0]), plan.runtimes_of(plan.targets)[0]
    record = next(t for t in setting.targets if t.spec.runtime == runtime)
    if not record.runs:
        raise EdgeqError(f"{file}: {runtime} cannot run it: {record.reason}")
    if record.spec.signature is not None and record.spec.signature.kind == "label":
        raise EdgeqError(f"{file}: answers with a bare label, of which no gradient can be estimated; export it with its scores")
    source, notes = next((t.id for t in setting.targets if t.spec.role == "source"), ""), list[str]()
    seen = _seen(file, record.spec, access, notes) if methods else ()
    graph = _graph(file, record.spec, notes)
    own = graph is not None and _differentiable(file, runtime, notes)
    if (source != "") + (1 if graph is not None and graph.floating else 2) * own + len(methods) * len(seen) < 2:
        raise EdgeqError(f"{file}: gives one gradient only here, and it takes two to compare; add --source or --estimates")
    rounds = graph is not None and any(graph.tensors[op.output].quantised for op in graph.ops)
    inside = rounds and bool(source or own)
    if graph is not None and not rounds:
        notes.append("value shift is left out: nothing in the file is rounded to steps that are alike for all images")
    elif graph is not None and not inside:
        notes.append("value shift is left out: nothing here gives gradients to craft with; add --source FLOAT.h5")
    lends = source or next(t.id for t in setting.targets if t.spec.runtime == runtimes.real(runtime))
    setting = replace(setting, plan=plan, cells=cells(plan if inside else replace(plan, eps=()), (lends,), ()))
    return setting, {"align": asdict(Parts(record.id, source, seen, own, inside, tuple(notes)))}


def _seen(file: Path, spec: TargetSpec, access: str, notes: list[str]) -> tuple[str, ...]:
    """What estimates see: what the file returns, and its logits before a last softmax."""
    assert spec.signature is not None
    if spec.signature.kind == "logits":
        return ("logits",)
    levels = ("scores", "logits") if access == "both" else (access,)
    if "logits" not in levels or not (reason := ladder.hindrance("logits", file, spec.runtime, spec.signature.kind)):
        return levels
    if access == "logits":
        raise EdgeqError(f"{file}: --access logits: {reason}")
    notes.append(f"no logits are seen: {reason}")
    return ("scores",)


def _graph(file: Path, spec: TargetSpec, notes: list[str]) -> Graph | None:
    try:
        graph = read.graph(file)
    except EdgeqError as error:
        notes.append(f"no look inside the file: {error}")
        return None
    assert spec.signature is not None
    given, shape = graph.tensors[graph.input].shape, spec.signature.input.shape
    if given == shape:
        return graph
    notes.append(f"no look inside the file: it takes an image as {given}, not as {shape}")
    return None


def _differentiable(file: Path, runtime: str, notes: list[str]) -> bool:
    if reason := ladder.hindrance("gradients", file, runtime, "logits"):
        notes.append(f"the file's own gradients are left out: {reason}")
    return not reason


def _measured(run: Run, plan: Plan, methods: Methods, objective: str, crafter: Crafter, show: Progress) -> Aligned:
    """Measures what the run still lacks, and makes the figures."""
    parts = Parts.of(run)
    records, artifacts = {t.id: t for t in run.targets()}, {a.sha256: a for a in run.artifacts()}
    spec = records[parts.target].spec
    file = Path(artifacts[spec.artifact].file)
    with Bench([t.spec for t in records.values()], lambda sha256: Path(artifacts[sha256].file), plan.threads) as bench:
        subjects = _subjects(bench, parts, methods, objective)
        _measure_gradients(run, subjects, plan.seed, show)
        figures = alignment.gradients(run, subjects, plan.seed)
    assert spec.codes is not None
    network = value_shift.Network(read.graph(file), runtimes.real(spec.runtime), spec.codes) if parts.inside else None
    ids = [id for id in (parts.target, parts.source) if id]
    called = {parts.target: spec.runtime, parts.source: "the float network"}
    found = {id: doubts.of_target(run, records[id]) for id in ids}
    fits = [fit.sentence(called[fit.target]) for fit in trials.kept(run) if fit.target in called]
    source = records.get(parts.source)
    return Aligned(
        format=alignment.FORMAT,
        warnings=(*doubts.sentences(found, dict(zip(ids, ids, strict=True)), called), *fits),
        target=File(file.name, spec.artifact),
        source=None if source is None else File(artifacts[source.spec.artifact].name, source.spec.artifact),
        runtime=spec.runtime,
        identity=records[parts.target].identity,
        data=plan.data,
        n=run.n,
        seed=plan.seed,
        attack=crafter,
        shift=() if network is None else tuple(_shifts(run, parts, network, show)),
        notes=parts.notes,
        unreadable=run.unreadable(),
        **figures,
    )


def _subjects(bench: Bench, parts: Parts, methods: Methods, objective: str) -> Subjects:
    sources: dict[str, Any] = {FLOAT: bench.sources(parts.source)[""]} if parts.source else {}
    if parts.own:
        sources |= {OWN[clamp]: source for clamp, source in bench.sources(parts.target).items()}
    reference = next((name for name in (THROUGH, WHOLE, FLOAT) if name in sources), None)
    seen = {level: bench.seen(parts.target, level) for level in parts.seen}
    estimators = {f"{name} {level}": Asked(value, target, reference) for name, value in methods for level, target in seen.items()}
    if not parts.source:
        return Subjects(sources, estimators, objective)
    # the same questions to the float network: what the method does without any quantisation
    smooth = bench.target(parts.source)
    estimators |= {f"{name} {FLOAT}": Asked(value, smooth, FLOAT, control=True) for name, value in methods}

    def of_file(images: np.ndarray) -> np.ndarray:
        own = seen["logits"].answer(images) if "logits" in seen else sources[reference or FLOAT].answer_float(images / np.float32(255))
        return own.logits()

    def of_float(images: np.ndarray) -> np.ndarray:
        if bench.specs[parts.source].runtime == KERAS:  # which answers before its softmax
            return smooth.answer(images).logits()
        logits: np.ndarray = sources[FLOAT].answer_float(images / np.float32(255)).logits()
        return logits

    return Subjects(sources, estimators, objective, (of_float, of_file) if "logits" in seen or parts.own else None)


def _measure_gradients(run: Run, subjects: Subjects, seed: int, show: Progress) -> None:
    rows, done = Rows(run.ids(), run.labels()), run.measured(0)
    show("gradients", int(done.sum()), run.n)
    for chunk in gradients.slices(run.n, gradients.CHUNK):
        index = np.arange(chunk.start, chunk.stop)
        if done[chunk].all():
            continue
        for part, values in gradients.measure(subjects, run.images(index), rows[index], seed, done[chunk]):
            run.add_measurements(0, index[part], values)
            done[index[part]] = True
            show("gradients", int(done.sum()), run.n)


def _shifts(run: Run, parts: Parts, network: value_shift.Network, show: Progress) -> list[value_shift.Shift]:
    """Of each radius, which has its noise and its adversarial cell."""
    planned = [cell for cell in run.cells() if cell.threat is not None]
    for cell in planned:
        _measure_shift(run, parts.target, network, cell, show)
    crafted_on = FLOAT if parts.source else "the file"
    noise = {cell.eps: cell for cell in planned if cell.kind == "noise"}
    return [
        value_shift.shift(run, parts.target, network, crafted_on, cell, noise[cell.eps])
        for cell in planned
        if cell.kind == "gradient" and cell.eps in noise
    ]


def _measure_shift(run: Run, target: str, network: value_shift.Network, of: Cell, show: Progress) -> None:
    cell, done = of.cell, run.measured(of.cell)
    missing = np.flatnonzero(~done)
    for part in gradients.slices(len(missing), network.at_once):
        index = missing[part]
        clean, changed = run.scores(0, target, index), run.scores(cell, target, index)
        assert clean is not None
        assert changed is not None
        values = value_shift.measure(network, run.images(index), run.candidates(cell, index), (clean, changed))
        run.add_measurements(cell, index, values)
        show(f"value shift under {of.attack}, {of.eps:.3g}", run.n - len(missing) + part.stop, run.n)
