"""What a run is asked to do, as one value: written into the run file, so that `edgeq resume` needs nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.threat import Norm, Threat, parse_eps
from edgeq.runs.format import CLEAN, Cell

Level = Literal["label", "scores", "logits", "gradients"]
Clamp = Literal["clipped", "through", "both"]


@dataclass(frozen=True)
class Plan:
    """The options of `edgeq attack`, checked but not yet resolved against the files."""

    target: str
    data: str
    source: str | None = None
    runtimes: tuple[str, ...] = ()  # empty: every runtime that can run the file
    attacks: tuple[str, ...] = ()  # "pgd" or "pgd:steps=20"; empty: what suits the access
    access: Level | None = None  # None: what each attack needs; without attacks the strongest that the file allows
    clamp: Clamp = "both"  # of the file's own gradients: what a clamp lets pass backwards
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
        """What :meth:`to_json` gave. Raises ValueError or TypeError for anything else."""
        value = {"clamp": "clipped", **value}  # a run from before there was a choice
        fitting: dict[str, Any] = {}
        for name, kind in get_type_hints(cls).items():
            if name in value:
                fitting[name] = tuple(value[name]) if isinstance(value[name], list) else value[name]
                if not _is(fitting[name], kind):
                    raise ValueError(f"its plan has no such {name}: {str(value[name])[:40]}")
        return cls(**fitting)

    def __post_init__(self) -> None:
        for name, most in (("n", 1 << 26), ("threads", 1 << 10), ("max_queries", 1 << 40), ("seed", (1 << 63) - 1)):
            number = getattr(self, name)
            if number is not None and not (name != "seed") <= number <= most:
                raise EdgeqError(f"--{name.replace('_', '-')} {str(number)[:40]}: goes from {int(name != 'seed')} to {most}")

    @property
    def threats(self) -> list[Threat]:
        return [Threat(self.norm, parse_eps(text)) for text in dict.fromkeys(self.eps)]

    @property
    def clamps(self) -> tuple[str, ...]:
        return ("clipped", "through") if self.clamp == "both" else (self.clamp,)

    @property
    def follows_gradients(self) -> bool:
        return any(plugins.load(plugins.ATTACKS, text.split(":")[0]).needs == "gradients" for text in self.attacks)

    @property
    def differentiates_the_file(self) -> bool:
        """Gradients are to come from the file itself: they were asked for, or an attack follows them and no source is given."""
        if self.float_only or not self.follows_gradients:
            return False
        return self.access == "gradients" or (self.access is None and self.source is None)

    @property
    def float_only(self) -> bool:
        """The target is a Keras network: no integer input stands between an iterate and it."""
        return not self.target.endswith((".tflite", ".onnx"))


def cells(plan: Plan, sources: tuple[str, ...], queries_to: str, seen: str = "scores") -> list[Cell]:
    """The clean images, then for every radius the noise baseline and each attack. Raises :class:`EdgeqError` for what cannot be asked.

    ``sources``: the names of what lends gradients; an attack that follows them has a cell on each. ``queries_to``: the target that query
    attacks run on; ``seen``: what they see of it, a level of the access ladder.
    """
    attacks = [plugins.build(plugins.ATTACKS, text) for text in dict.fromkeys(plan.attacks)]
    for name, attack in attacks:
        if attack.needs == "gradients" and not sources:
            raise EdgeqError(f"{name} follows gradients, {_why_none(plan)}")
        if attack.needs == "scores" and seen == "label":
            raise EdgeqError(f"{name} needs scores, and only the label is seen; use --attack {' or '.join(needing('label'))}")
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
            access, kind = (seen if attack.needs == "scores" else attack.needs, "query") if query else ("gradients", "gradient")
            for on in (queries_to,) if query else sources:
                found.append(Cell(len(found), name, asdict(attack), threat.norm, threat.eps, on, access, kind))
    return found


def _is(value: Any, kind: Any) -> bool:
    """Whether a value out of JSON is of the type of a field of :class:`Plan`; a tuple stands for a list."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(isinstance(v, str) for v in value)
    if get_args(kind):
        return any(_is(value, part) for part in get_args(kind))
    return type(value) is kind


def _why_none(plan: Plan) -> str:
    file = Path(plan.target).name
    if plan.access not in (None, "gradients"):
        return f"and --access {plan.access} gives none; add --source FLOAT.h5, or use --access gradients"
    return f"which {file} alone does not give; add --source FLOAT.h5, or use --attack spsa"


def needing(level: str) -> list[str]:
    """The attacks that are made for ``level`` of the access ladder."""
    return [name for name, attack in plugins.working(plugins.ATTACKS).items() if attack.needs == level]
