"""What a run file says, against what is there: its plan makes sense, its files are those it began with, its targets are what they were.

A run file may have been edited, or may be a stranger's; ``resume`` runs nothing of it before these have passed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq import runtimes
from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer.read import sha256
from edgeq.pipeline.codes import PixelCodes
from edgeq.runs import access
from edgeq.runs.format import BEFORE_GRID, Cell, RunTarget
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import KERAS
from edgeq.runs.store import Run


def asked(run: Run, cells: list[Cell]) -> tuple[Plan, dict[int, Any]]:
    """The plan and the attacks of a run file, which may have been edited since."""
    needs = {"gradient": ("gradients",), "noise": ("nothing",), "query": ("scores", "label")}
    files = {a.name for a in run.artifacts()}
    able = {t.name for t in run.targets(running=True) if t.artifact in files}
    try:
        plan = Plan.from_json(run.meta("plan"))
        attacks = {c.cell: plugins.restore(plugins.ATTACKS, c.attack, c.params) for c in cells if c.kind != "clean"}
        for c in cells:
            if c.kind != "clean" and (attacks[c.cell].needs not in needs[c.kind] or c.norm not in attacks[c.cell].norms):
                raise ValueError(f"{c.attack} is no {c.kind} attack in {c.norm}")
            if c.kind in ("gradient", "query") and c.crafted_on not in able:
                raise ValueError(f"{c.crafted_on} is attacked, and does not run")
            if c.kind == "query" and c.access not in access.LEVELS:
                raise ValueError(f"there is no access {c.access}")
    except (ValueError, TypeError, AttributeError) as error:
        raise EdgeqError(f"{run.path}: is damaged ({error}); use a copy, or start a new run") from None
    return plan, attacks


def targets(run: Run, plan: Plan) -> None:
    """What a run file says of its targets is what their files are, opened again in a child process."""
    files = {a.name: Path(a.file) for a in run.artifacts()}
    artifacts(run)
    for record in run.targets(running=True):
        if record.name.endswith(BEFORE_GRID) or record.artifact not in files:
            continue
        file = files[record.artifact]
        if record.name == KERAS:
            from edgeq.keras.load import load

            signature = load(file).signature
        else:
            signature = runtimes.probe(record.name, file, output=plan.output)
        if not _fits(record, signature, run.shape):
            said = f"what it says of {record.name} is not what {file} is"
            raise EdgeqError(f"{run.path}: is damaged ({said}); use a copy, or start a new run")


def _fits(record: RunTarget, signature: Signature, shape: tuple[int, ...]) -> bool:
    try:
        recorded, codes = Signature.from_json(record.signature), PixelCodes.from_json(record.codes)
    except (ValueError, TypeError, KeyError, OverflowError):
        return False
    return (
        recorded == signature
        and signature.input.shape == shape
        and str(codes.table.dtype) == signature.input.dtype
        and codes.table.shape[1] == shape[2]
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
