"""What `edgeq attack`, `edgeq resume` and `edgeq demo` share: the plan in words, the run itself, its table and its gate."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.cli import console
from edgeq.core.errors import EdgeqError

if TYPE_CHECKING:
    from edgeq.core.devices import Device
    from edgeq.measure.figures import Summary
    from edgeq.runs.estimate import Estimate
    from edgeq.runs.prepare import Setting
    from edgeq.runs.store import Run


def new_path(targets: Sequence[str]) -> Path:
    """``runs/TARGET-DATE-K.sqlite``, the first that is free."""
    stem = f"{Path(targets[0]).stem}-{date.today().isoformat()}"
    return next(path for k in range(1, 10_000) if not (path := Path("runs") / f"{stem}-{k}.sqlite").exists())


def device(name: str, targets: Sequence[str]) -> Device:
    """The profile, after saying on stderr whether each of ``targets`` fits it."""
    from edgeq import runtimes
    from edgeq.core.devices import fits, load

    profile = load(name)
    for file in map(Path, targets):
        arena = None
        if profile.runtime == "tflm" and file.suffix == ".tflite" and file.is_file():
            try:
                arena = runtimes.arena_bytes(file)
            except EdgeqError:
                arena = None  # the run itself will say why TFLM does not take the file
        if file.is_file():
            for sentence in fits(profile, file.stat().st_size, arena).sentences:
                console.say(f"{profile.title}: {file.name + ': ' if len(targets) > 1 else ''}{sentence}")
    return profile


def attack(
    options: dict[str, Any], path: Path, command: list[str], as_json: bool = False, fail_under: float | None = None, workers: int | str = 1
) -> None:
    """A new run at ``path`` from the options of a :class:`~edgeq.runs.plan.Plan`, to its table. ``command``: what was typed."""
    from edgeq.runs.plan import Plan
    from edgeq.runs.prepare import prepare

    setting = prepare(Plan(**options), console.say)
    with setting.create(path, command) as run:
        announce(setting, path)
        finish(run, setting, as_json, fail_under, workers)


def announce(setting: Setting, path: Path) -> None:
    """The plan, in words, before anything is attacked."""
    from edgeq.targets.spec import short

    plan = setting.plan
    called = short(t.spec for t in setting.targets)
    roles = {t.spec.artifact: t.spec.role for t in reversed(setting.targets)}
    for artifact in setting.artifacts:
        console.say(f"{roles[artifact.sha256]}: {artifact.name}, {artifact.bytes:,} bytes, sha256 {artifact.sha256[:16]}")
    console.say(f"targets: {', '.join(called[t.id] for t in setting.targets if t.runs and t.spec.derived != 'before-grid')}")
    for target in setting.targets:
        if not target.runs:
            console.say(f"  {called[target.id]} cannot run it: {target.reason}", "yellow")
    for note in setting.notes:
        console.say(f"  {note}")
    console.say(f"data: {plan.data}, {len(setting.index)} images, seed {plan.seed}")
    cells = [c for c in setting.cells if c.kind in ("gradient", "query")]
    for name in dict.fromkeys(c.attack for c in cells):
        mine = [c for c in cells if c.attack == name]
        radii = ", ".join(f"{t.eps:.4g} ({t.pixels:g} px)" for t in plan.threats)
        options = ", ".join(f"{k}={v}" for k, v in mine[0].params.items())
        on = " and of ".join(dict.fromkeys(called[c.crafted_on] for c in mine))
        console.say(f"{name}{f' ({options})' if options else ''} with {mine[0].access} of {on}; {plan.norm} {radii}")
    console.say(f"run: {path}")


def finish(run: Run, setting: Setting | None, as_json: bool, fail_under: float | None, workers: int | str = 1) -> None:
    """Executes what is left of ``run``, prints its table (or JSON) on stdout, and exits 1 where the gate is not met."""
    from edgeq.measure.summary import summarise
    from edgeq.runs.execute import execute

    try:
        with console.progress() as show:
            execute(run, setting, show, _say_time, workers)
    except KeyboardInterrupt:
        console.say(f"\nstopped; every finished row is kept. Go on with: edgeq resume {run.path}", command=True)
        sys.exit(130)
    summary = summarise(run)
    if as_json:
        from edgeq.report.to_json import document

        print(json.dumps(document(run, summary), allow_nan=False))
    else:
        from edgeq.report.terminal import render

        render(summary, console.out)
        console.say(f"run: {run.path}; as a page: edgeq report {run.path}", command=True)
    if fail_under is not None:
        gate(summary, fail_under)


def gate(summary: Summary, fail_under: float) -> None:
    """Exits 1 where the lowest robust accuracy of the target, under any attack on any runtime, is below ``fail_under``, and where a
    runtime answers all images alike: such a file passes no gate."""
    lowest = summary.lowest
    if dead := [summary.name(c.target) for c in summary.clean if c.constant is not None and c.constant.dead]:
        console.say(f"--fail-under {fail_under:g}: not met, {dead[0]} answers all images alike", "red")
        sys.exit(1)
    if lowest is not None and lowest.robust_accuracy < fail_under:
        where = f"{lowest.attack} on {summary.name(lowest.target)}"
        console.say(f"--fail-under {fail_under:g}: the lowest robust accuracy is {lowest.robust_accuracy:.3f} ({where})", "red")
        sys.exit(1)


def _say_time(found: Estimate) -> None:
    more = f", and at most {_time(found.queries)} more for queries (rows that are fooled early stop)" if found.queries else ""
    console.say(f"estimated time: {_time(found.sure)}{more}")


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
