"""What a run says before it begins, a sentence a line: its plan, and how long it will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from edgeq.core.reporter import Reporter
from edgeq.runs.estimate import Estimate
from edgeq.runs.prepare import Setting
from edgeq.targets.spec import short


def plan(setting: Setting, path: Path) -> Iterator[tuple[str, str]]:
    """Each sentence with its style: "yellow" for a warning, or ""."""
    asked = setting.plan
    called = short(t.spec for t in setting.targets)
    roles = {t.spec.artifact: t.spec.role for t in reversed(setting.targets)}
    for artifact in setting.artifacts:
        yield f"{roles[artifact.sha256]}: {artifact.name}, {artifact.bytes:,} bytes, sha256 {artifact.sha256[:16]}", ""
    yield f"targets: {', '.join(called[t.id] for t in setting.targets if t.runs and t.spec.derived != 'before-grid')}", ""
    for target in setting.targets:
        if not target.runs:
            yield f"  {called[target.id]} cannot run it: {target.reason}", "yellow"
    for note in setting.notes:
        yield f"  {note}", ""
    skipped = f"{len(setting.unreadable)} unreadable left out, " if setting.unreadable else ""
    yield f"data: {asked.data}, {len(setting.index)} images, {skipped}seed {asked.seed}", ""
    cells = [c for c in setting.cells if c.kind in ("gradient", "query")]
    for name in dict.fromkeys(c.attack for c in cells):
        mine = [c for c in cells if c.attack == name]
        radii = ", ".join(f"{t.eps:.4g} ({t.pixels:g} px)" for t in asked.threats)
        options = ", ".join(f"{k}={v}" for k, v in mine[0].params.items())
        on = " and of ".join(dict.fromkeys(called[c.crafted_on] for c in mine))
        yield f"{name}{f' ({options})' if options else ''} with {mine[0].access} of {on}; {asked.norm} {radii}", ""
    yield f"run: {path}", ""


def warner(reporter: Reporter) -> Callable[[str], None]:
    """What is said of answers to clean images that look wrong, while the run goes on."""
    return lambda sentence: reporter.say(f"WARNING: {sentence}", "bold red")


def duration(estimate: Estimate) -> str:
    more = f", and at most {_time(estimate.queries)} more for queries (rows that are fooled early stop)" if estimate.queries else ""
    if estimate.corrected:
        return f"estimated time left, by what is done: {_time(estimate.sure)}"
    return f"estimated time: {_time(estimate.sure)}{more}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
