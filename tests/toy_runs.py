"""Runs whose targets are toys: every cell is crafted and answered by the units that real runs are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edgeq.core import plugins
from edgeq.core.cell import Cell, Unit
from edgeq.core.rows import Rows
from edgeq.core.signature import Signature, Tensor
from edgeq.runs.plan import Plan
from edgeq.runs.store import CLEAN, Run, RunTarget
from edgeq.runs.unit import Task, run_unit
from edgeq.targets.spec import TargetSpec


def toy_run(
    path: Path,
    targets: Mapping[str, Any],
    rows: Rows,
    images: np.ndarray,
    cells: Sequence[Cell] = (),
    sources: Mapping[str, Any] = {},
    **meta: Any,
) -> Run:
    """A finished run, open for writing. ``targets``: by id what answers; ``sources``: by id what lends gradients; ``cells``: those behind
    the clean images."""
    n, plan = len(rows), Plan(("toy.tflite",), "toys", n=len(rows))
    records = [
        RunTarget(TargetSpec(id, artifact=id, runtime=id, signature=_signature(target, images)), identity={"engine": "toy"})
        for id, target in targets.items()
    ]
    run = Run.create(path, shape=images.shape[1:], n=n, meta={"plan": plan.to_json(), **meta}, records=[*records, CLEAN, *cells])
    everything = np.arange(n)
    run.add_rows(everything, rows.ids, [f"toy/{i}" for i in range(n)], rows.labels, images)
    bench: Any = SimpleNamespace(
        specs={},
        identities={},
        target=targets.__getitem__,
        seen=lambda id, access: targets[id],
        sources=lambda id, _: {"": sources[id]},
    )
    for cell in (CLEAN, *cells):
        for target in ("", *targets) if cell.cell else targets:
            attack = plugins.restore(plugins.ATTACKS, cell.attack, cell.params) if cell.cell else None
            shown = (lambda places, cell=cell: run.candidates(cell.cell, places)) if target else (lambda places: images[places])
            for batch in run_unit(Task(Unit(cell, tuple(everything.tolist()), target), rows, shown, attack), bench):
                run.commit(batch, rows.labels)
    return run


def _signature(target: Any, images: np.ndarray) -> Signature:
    answer = target.answer(images[:1])
    shape = () if answer.kind == "label" else answer.raw.shape[1:]
    return Signature(Tensor(images.shape[1:], "uint8"), Tensor(shape, str(answer.raw.dtype), answer.scale, answer.zero), answer.kind)
