"""What the targets and the sources of gradients of a run were when it began: rows of others would not be comparable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.runs.store import Run

Identity = Mapping[str, Any]
_GRADIENTS = "gradients"  # in the meta table: identities of what differentiates files


@dataclass(frozen=True, eq=False)
class Identities:
    """``recorded``: in a run file, by what they are called (:attr:`edgeq.targets.opener.Bench.identities`)."""

    run: Run
    recorded: Mapping[str, Identity]

    @classmethod
    def settled(cls, run: Run, now: Mapping[str, Identity]) -> Identities:
        """Those of ``run``, with ``now``, what was just opened, written down. Raises :class:`EdgeqError` where it began with others."""
        records = {t.id: t for t in run.targets(running=True)}
        gradients = run.meta(_GRADIENTS, {})
        if not (isinstance(gradients, dict) and all(isinstance(identity, dict) for identity in gradients.values())):
            raise EdgeqError(f"{run.path}: is damaged (what computed its gradients is not stated); use a copy, or start a new run")
        before = {**gradients, **{id: record.identity for id, record in records.items() if record.identity}}
        cls(run, before).check(now)
        with run.transaction():
            run.add(*(replace(records[name], identity=dict(identity)) for name, identity in now.items() if name in records))
            run.set_meta(_GRADIENTS, {name: dict(identity) for name, identity in now.items() if name not in records})
        return cls(run, {**before, **now})

    def check(self, now: Mapping[str, Identity]) -> None:
        """Raises :class:`EdgeqError` where something in ``now`` is not what the run began with. What an older edgeq did not record of it is
        not compared."""
        for name, identity in now.items():
            before = self.recorded.get(name, {})
            if identity != before and (changed := [key for key in sorted(before) if before[key] != identity.get(key)]):
                how = "; ".join(f"{key}: {before[key]} then, {identity.get(key)} now" for key in changed)
                raise EdgeqError(
                    f"{self.run.path}: {name} was another runtime when this run began ({how}), "
                    "and rows of the two would not be comparable; start a new run, or leave out the worker on which it differs"
                )
