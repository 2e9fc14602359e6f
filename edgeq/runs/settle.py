"""What the attacker of a run gets to see, and so what is run where no attack is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.runs.plan import Plan
from edgeq.targets import access
from edgeq.targets.access import Level
from edgeq.targets.spec import TargetSpec


def settle(plan: Plan, mains: Sequence[tuple[Path, TargetSpec]]) -> tuple[Plan, Level, dict[str, str] | None]:
    """The plan with its attacks, what query attacks see, and the level of access that was asked for or is there, with a sentence.

    ``mains``: each file with what is attacked of it.
    """
    level, why = plan.access, list[str]()
    kinds = [(path, spec.runtime, spec.signature.kind) for path, spec in mains if spec.signature is not None]
    for path, runtime, kind in kinds:
        if level is not None and (reason := access.hindrance(level, path, runtime, kind)):
            raise EdgeqError(f"{path}: --access {level}: {reason}")
    if level is None and not plan.attacks and not plan.sources:
        level, why = min((access.strongest(*facts) for facts in kinds), key=lambda answer: access.LEVELS.index(answer[0]))
    attacks = plan.attacks
    if not attacks:
        transferred = ("pgd",) if plan.sources else ()
        attacks = (*transferred, access.attack_for(level)) if level not in (None, "gradients") else ("pgd",)
    seen: Level = level or ("label" if any(kind == "label" for *_, kind in kinds) else "scores")
    if level == "gradients":  # who holds the file sees its logits too
        queries = plan.attacks and any(plugins.load(plugins.ATTACKS, text.split(":")[0]).needs == "scores" for text in attacks)
        seen = "logits" if queries and all(access.hindrance("logits", *facts) is None for facts in kinds) else "scores"
    stated = None
    if level is not None:
        files = mains[0][0].name if len(mains) == 1 else "every file"
        given = "as asked" if plan.access else f"the strongest that {files} allows here"
        stated = {"level": level, "sentence": f"access: {level}, {given}" + (f" ({'; '.join(why)})" if why else "")}
    return replace(plan, attacks=attacks, access=level), seen, stated
