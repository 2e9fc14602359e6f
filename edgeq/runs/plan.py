"""What a run is asked to do, as one value: written into the run file, so that `edgeq resume` needs nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.threat import Norm, Threat, parse_eps
from edgeq.runs.format import CLEAN, Cell


@dataclass(frozen=True)
class Plan:
    """The options of `edgeq attack`, checked but not yet resolved against the files."""

    target: str
    data: str
    source: str | None = None
    runtimes: tuple[str, ...] = ()  # empty: every runtime that can run the file
    attacks: tuple[str, ...] = ()  # "pgd" or "pgd:steps=20"
    eps: tuple[str, ...] = ("8/255",)
    norm: Norm = "linf"
    n: int | None = 500
    seed: int = 0
    max_queries: int | None = None
    preprocess: str | None = None
    source_preprocess: str | None = None
    output: str | None = None  # label | probs | logits, where the file does not tell
    label_column: str | None = None
    class_map: str | None = None
    class_names: str | None = None  # a file with the model's names, a line a class
    threads: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        known = {f.name for f in fields(cls)}
        fitting: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k in known}
        return cls(**fitting)

    @property
    def threats(self) -> list[Threat]:
        return [Threat(self.norm, parse_eps(text)) for text in dict.fromkeys(self.eps)]

    @property
    def white_box(self) -> str | None:
        """``"the file"`` where gradients have to come from the file alone: an attack follows them, and no source is given."""
        asked = any(plugins.load("attack", text.split(":")[0]).needs == "gradients" for text in self.attacks)
        return "the file" if asked and self.source is None and self.target.endswith(".tflite") else None

    @property
    def float_only(self) -> bool:
        """The target is a Keras network: no integer input stands between an iterate and it."""
        return not self.target.endswith((".tflite", ".onnx"))


def cells(plan: Plan, gradients_from: str | None, queries_to: str) -> list[Cell]:
    """The clean images, then for every radius the noise baseline and each attack. Raises :class:`EdgeqError` for what cannot be asked.

    ``gradients_from``: the source's name, None where there is none; ``queries_to``: the target that query attacks run on.
    """
    attacks = [plugins.build("attack", text) for text in dict.fromkeys(plan.attacks)]
    for name, attack in attacks:
        if attack.needs == "gradients" and gradients_from is None:
            file = Path(plan.target).name
            raise EdgeqError(f"{name} follows gradients, which {file} alone does not give; add --source FLOAT.h5, or use --attack spsa")
        if plan.norm not in attack.norms:
            raise EdgeqError(f"{name} has no {plan.norm} form; choose --norm {' or '.join(attack.norms)}")
    for text, threat in zip(dict.fromkeys(plan.eps), plan.threats, strict=True):
        if threat.norm == "linf" and not threat.reaches_integers and not plan.float_only:
            raise EdgeqError(
                f"--eps {text}: below one pixel no integer input differs from the clean one; use 1/255 or more, "
                "or make the float network the --target"
            )
    found = [CLEAN]
    for threat in plan.threats:
        if threat.reaches_integers:
            found.append(Cell(len(found), "noise", {}, threat.norm, threat.eps, kind="noise"))
        for name, attack in attacks:
            if name == "noise":
                continue
            query = attack.needs != "gradients"
            if query and not threat.reaches_integers:
                raise EdgeqError(f"{name} shows whole pixels to the target, and none fits into eps = {threat.eps:.3g}; use 1/255 or more")
            on, kind = (queries_to, "query") if query else (str(gradients_from), "gradient")
            found.append(Cell(len(found), name, asdict(attack), threat.norm, threat.eps, on, attack.needs, kind))
    return found
