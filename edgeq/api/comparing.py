"""Two runtimes of one file, or two files, compared: a run with two sides, and op by op where they part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.api import stated
from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import SILENT, Reporter
from edgeq.core.threat import Norm, Threat
from edgeq.integer.read import sha256
from edgeq.measure import comparison, layers
from edgeq.runs.execute import execute
from edgeq.runs.format import RunTarget
from edgeq.runs.kept import kept
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import Setting, prepare
from edgeq.runs.store import Run
from edgeq.targets.opener import Bench
from edgeq.targets.spec import KERAS, TargetSpec, is_float

Sides = tuple[tuple[Path, str], tuple[Path, str]]
"""The file and the runtime of A, and of B."""


def compare(
    a: str | Path,
    b: str | Path | None = None,
    *,
    runtimes: Sequence[str] = (),
    data: str | None = None,
    n: int = 500,
    seed: int = 0,
    attack: str | None = None,
    eps: str = "8/255",
    norm: Norm = "linf",
    max_queries: int | None = None,
    inside: int = 50,
    limits: Mapping[str, float | None] = MappingProxyType({}),
    preprocess: str | None = None,
    preprocess_b: str | None = None,
    run: str | Path | None = None,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
    **options: Any,
) -> comparison.Comparison:
    """The file ``a`` in two runtimes, or ``a`` and ``b`` each in one: ``.tflite``, ``.onnx`` or Keras networks of one task.

    ``runtimes``: of A and of B; by default litert-xnnpack and tflm for one file, for two litert-xnnpack (an ``.onnx``: ort) both times.
    ``data``: by default what the files' sidecars name. ``eps``: the radius of the noise, and of the ``attack`` ("pgd:steps=20") that is
    crafted on each side; ``inside``: images of which all inner tensors are compared; ``limits``: ``max_flips``, ``max_accuracy_drop``,
    ``max_robust_drop``, each a share in [0, 1].

    ``preprocess``: how the device prepares an image, for both; ``preprocess_b``: for B, where it is another; size and crop are the same.

    ``run``: a file that keeps the run; asked again with the same, it goes on where it was stopped. ``options``: further fields of
    :class:`~edgeq.runs.plan.Plan` (``output``, ``label_column``, ``class_map``, ``class_names``, ``exif``, ``threads``).
    Raises :class:`~edgeq.core.errors.EdgeqError`.
    """
    if limits.get("max_robust_drop") is not None and attack is None:
        raise EdgeqError("--max-robust-drop: needs an attack to measure by; add --attack pgd or --attack spsa")
    if attack is not None and plugins.build(plugins.ATTACKS, attack)[1].needs == "nothing":
        raise EdgeqError(f"--attack {attack}: is no attack; noise of the radius --eps is shown in any case")
    threat = Threat.parse(norm, eps)
    if threat.norm == "linf" and not threat.reaches_integers:
        raise EdgeqError(f"--eps {eps}: below one pixel no integer input differs from the clean one; use 1/255 or more")
    two = _sides(Path(a), None if b is None else Path(b), tuple(runtimes))
    data = data or stated.data_of(dict(two), reporter)
    asked: dict[str, Any] = {"data": data, "n": n, "seed": seed, "eps": (eps,), "norm": norm, "max_queries": max_queries, "exif": True}
    asked["attacks"] = (attack or "noise",)
    plan = _plan(two, {**asked, **options, **_preprocessing(two, preprocess, preprocess_b)})
    key = {"compare": [[str(file.absolute()), runtime] for file, runtime in two], "plan": plan.to_json()}
    with kept(None if run is None else Path(run), key, lambda: _prepare(plan, two, reporter), command) as (open_run, setting):
        with reporter.progress() as show:
            execute(open_run, setting, show)
            table = _inside(open_run, inside, plan, lambda done, of: show("every op", done, of))
        return comparison.compare(open_run, table, limits)


def _sides(a: Path, b: Path | None, asked: tuple[str, ...]) -> Sides:
    if b is None:
        if a.suffix != ".tflite":
            raise EdgeqError(f"{a}: has one runtime; name a second file to compare it with")
        names = asked or ("litert-xnnpack", "tflm")
        if len(names) != 2 or names[0] == names[1]:
            raise EdgeqError(f"--runtime {','.join(names)}: one file is compared on two runtimes, so name two; or name two files")
        return (a, names[0]), (a, names[1])
    if len(asked) > 2:
        raise EdgeqError(f"--runtime {','.join(asked)}: two files run on two runtimes at most; name one for each, or one for both")
    return (a, _runtime(a, asked[:1])), (b, _runtime(b, asked[-1:]))


def _runtime(file: Path, asked: tuple[str, ...]) -> str:
    """What runs ``file``: Keras networks and ``.onnx`` files have one runtime each."""
    if is_float(file):
        return KERAS
    return "ort" if file.suffix == ".onnx" else next(iter(asked), "litert-xnnpack")


def _plan(two: Sides, asked: Mapping[str, Any]) -> Plan:
    """The run that shows all its cells to both. A Keras network beside a file is a source, so that it takes pixels as the file does."""
    files = [pair for pair in two if pair[1] != KERAS] or list(two)
    networks = tuple(str(file) for file, runtime in two if runtime == KERAS and (file, runtime) not in files)
    targets, names = tuple(dict.fromkeys(str(file) for file, _ in files)), tuple(dict.fromkeys(f"{file}={name}" for file, name in files))
    return Plan(targets, sources=networks, runtimes=names, each=True, **asked)


def _preprocessing(two: Sides, of_a: str | None, of_b: str | None) -> dict[str, Any]:
    """The fields of a plan. A Keras network beside a file takes what its own side states as a source does: mean and std."""
    if of_b is None:
        return {"preprocess": of_a}
    (a, on_a), (b, on_b) = two
    if a == b or (a.is_file() and b.is_file() and sha256(a) == sha256(b)):
        raise EdgeqError(f"--preprocess-b {of_b}: {b} is one file on both sides, and takes its pixels in one way; name two files")
    if (on_a == KERAS) != (on_b == KERAS):
        own, lent = (of_b, of_a) if on_a == KERAS else (of_a, of_b)
        return {"preprocess": own, "source_preprocess": lent}
    return {"preprocess": of_a, "preprocess_of": (of_a or "", of_b)}


def _prepare(plan: Plan, two: Sides, reporter: Reporter) -> tuple[Setting, dict[str, Any]]:
    setting = prepare(plan, reporter.say)
    for note in setting.notes:
        reporter.say(f"  {note}")
    sides = {name: _side(setting, at, file, runtime) for at, (name, (file, runtime)) in enumerate(zip(comparison.NAMES, two, strict=True))}
    return setting, {"sides": sides}


def _side(setting: Setting, at: int, file: Path, runtime: str) -> dict[str, str]:
    """What the run keeps of a side: its target, and what its file is called."""
    record: RunTarget = [t for t in setting.targets if t.spec.runtime == runtime and t.spec.answers][-at]  # in the order of the files
    if not record.runs:
        raise EdgeqError(f"{file.name}: {runtime} cannot run it: {record.reason}")
    name = next(a.name for a in setting.artifacts if a.sha256 == record.spec.artifact)
    return {"target": record.id, "file": file.name if sha256(file) == record.spec.artifact else name}


def _inside(run: Run, n: int, plan: Plan, progress: Callable[[int, int], None]) -> layers.Layers:
    """Op by op, on the first ``n`` images of the run."""
    if not n:
        return layers.Layers("A", "B", 0, reason="not asked for (--layers 0)")
    images = run.images(np.arange(min(n, run.n)))
    files = {artifact.sha256: Path(artifact.file) for artifact in run.artifacts()}
    records = comparison.sides(run)
    if any(r.spec.artifact not in files or r.spec.signature is None for r in records.values()):
        raise EdgeqError(f"{run.path}: is damaged (a side has no file); start a new run")
    with Bench([r.spec for r in records.values()], files.__getitem__, plan.threads) as bench:
        a, b = (_opened(name, files[record.spec.artifact], record.spec, bench) for name, record in records.items())
        (table,) = layers.compare(a, [b], images, lambda done: progress(done, len(images)))
    return table


def _opened(name: str, file: Path, spec: TargetSpec, bench: Bench) -> layers.Side:
    assert spec.signature is not None
    assert spec.codes is not None
    return layers.Side(name, file, spec.runtime, spec.signature, spec.codes, bench.target(spec.id))
