"""What a run file says, against what is there: its plan makes sense, its files are those it began with, its targets are what they were.

A run file may have been edited, or may be a stranger's; ``resume`` runs nothing of it before these have passed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq.core import plugins
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer.read import sha256
from edgeq.runs.plan import Plan
from edgeq.runs.store import Run
from edgeq.targets import access
from edgeq.targets.probing import probe
from edgeq.targets.spec import TargetSpec


def asked(run: Run, cells: list[Cell]) -> tuple[Plan, dict[int, Any]]:
    """The plan and the attacks of a run file, which may have been edited since."""
    needs = {"gradient": ("gradients",), "noise": ("nothing",), "query": ("scores", "label")}
    files = {a.sha256 for a in run.artifacts()}
    records = {t.id: t.spec for t in run.targets(running=True)}
    able = {id for id, spec in records.items() if spec.artifact in files or spec.derived in ("ensemble", "mean")}
    try:
        plan = Plan.from_json(run.meta("plan"))
        attacks = {c.cell: plugins.restore(plugins.ATTACKS, c.attack, c.params) for c in cells if c.kind != "clean"}
        for c in cells:
            if c.kind != "clean" and (attacks[c.cell].needs not in needs[c.kind] or c.norm not in attacks[c.cell].norms):
                raise ValueError(f"{c.attack} is no {c.kind} attack in {c.norm}")
            if c.kind in needs and attacks[c.cell].needs != "nothing":
                c.goal.check(attacks[c.cell])
            if c.adversarial and c.crafted_on not in able:
                raise ValueError(f"{c.crafted_on} is attacked, and does not run")
            if c.kind == "query" and c.access not in access.LEVELS:
                raise ValueError(f"there is no access {c.access}")
        for spec in records.values():
            _derivable(spec, records)
    except (ValueError, TypeError, AttributeError) as error:
        raise EdgeqError(f"{run.path}: is damaged ({error}); use a copy, or start a new run") from None
    return plan, attacks


def _derivable(spec: TargetSpec, records: dict[str, TargetSpec]) -> None:
    """What it is derived from is there, and answers by itself."""
    for member in spec.members:
        if member not in records or not records[member].artifact:
            raise ValueError(f"{spec.id} is derived from {member}, which does not run")
    if spec.derived in ("ensemble", "mean") and not (spec.members and 0 <= spec.agree <= len(spec.members)):
        raise ValueError(f"{spec.id} has no members")


def targets(run: Run, plan: Plan) -> None:
    """What a run file says of its targets is what their files are, opened again in a child process."""
    files = {a.sha256: Path(a.file) for a in run.artifacts()}
    artifacts(run)
    for record in run.targets(running=True):
        spec = record.spec
        if not spec.answers or spec.artifact not in files:
            continue
        file = files[spec.artifact]
        answer = probe(file, (spec.runtime,), plan.output_of(file)).answers[spec.runtime]
        if isinstance(answer, EdgeqError):
            raise answer
        if not _fits(spec, answer, run.shape):
            said = f"what it says of {spec.id} is not what {file} is"
            raise EdgeqError(f"{run.path}: is damaged ({said}); use a copy, or start a new run")


def _fits(spec: TargetSpec, signature: Signature, shape: tuple[int, ...]) -> bool:
    return (
        spec.codes is not None
        and spec.signature in (signature, replace(signature, layout=""))  # runs did not always record a layout
        and signature.input.shape == shape
        and str(spec.codes.table.dtype) == signature.input.dtype
        and spec.codes.table.shape[1] == shape[2]
    )


def artifacts(run: Run) -> None:
    """Raises :class:`EdgeqError` for a file that is gone, or is another one."""
    for artifact in run.artifacts():
        try:
            same = sha256(Path(artifact.file)) == artifact.sha256
        except (EdgeqError, ValueError):
            same = False
        if not same:
            raise EdgeqError(f"{artifact.file}: is gone, or not the file this run began with; put it back, or start a new run")
