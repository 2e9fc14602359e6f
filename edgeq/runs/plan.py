"""What a run is asked to do, as one value: written into the run file, so that `edgeq resume` needs nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edgeq.core import plugins
from edgeq.core.answer import Kind
from edgeq.core.cell import CLEAN, Cell, CellKind
from edgeq.core.errors import EdgeqError
from edgeq.core.goal import Goal
from edgeq.core.threat import Norm, Threat, parse_eps
from edgeq.targets.access import Level
from edgeq.targets.spec import is_float

Clamp = Literal["clipped", "through", "both"]


@dataclass(frozen=True)
class Plan:
    """The options of `edgeq attack`, checked but not yet resolved against the files."""

    targets: tuple[str, ...]  # files
    data: str
    sources: tuple[str, ...] = ()  # float networks that lend their gradients
    transfer: bool = False  # craft on every target's own gradients too, not on the sources alone
    each: bool = False  # craft on every runtime of every target and on the sources, by gradients and by queries: what a comparison needs
    agree: int | None = None  # measure the targets as an ensemble too, of which so many must agree
    runtimes: tuple[str, ...] = ()  # of every file, or of one: "a.tflite=tflm"; empty: every runtime that can run a file
    attacks: tuple[str, ...] = ()  # "pgd" or "pgd:steps=20"; empty: what suits the access
    access: Level | None = None  # None: what each attack needs; without attacks the strongest that the file allows
    clamp: Clamp = "both"  # of the file's own gradients: what a clamp lets pass backwards
    eps: tuple[str, ...] = ("8/255",)
    norm: Norm = "linf"
    goal: str = "untargeted"  # or a wanted class: class:3, next
    n: int | None = 500
    seed: int = 0
    max_queries: int | None = None
    preprocess: str | None = None
    preprocess_of: tuple[str, ...] = ()  # of each target, where they differ
    source_preprocess: str | None = None
    output: str | None = None  # label | probs | logits, where the file does not tell; or the name of one output of a Keras network
    label_column: str | None = None
    class_map: str | None = None
    class_names: str | None = None  # a file with the model's names, a line a class
    threads: int | None = None
    exif: bool = False  # turn photographs upright as their EXIF orientation says; runs of a plan without it left them as stored
    skip_unreadable: bool = False  # images that cannot be read are left out of the sample, and those that come next take their places

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """What :meth:`to_json` gave. Raises ValueError or TypeError for anything else: a plan with more in it is another plan."""
        kinds = get_type_hints(cls)
        if unknown := sorted({*value} - {*kinds}):
            raise ValueError(f"its plan asks for {unknown[0][:40]}, which this edgeq does not know; a newer one may")
        fitting: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
        for name, v in fitting.items():
            if not _is(v, kinds[name]):
                raise ValueError(f"its plan has no such {name}: {str(v)[:40]}")
        return cls(**fitting)

    def __post_init__(self) -> None:
        limits = (("n", 1 << 26), ("threads", 1 << 10), ("max_queries", 1 << 40), ("seed", (1 << 63) - 1), ("agree", 1 << 10))
        for name, most in limits:
            number = getattr(self, name)
            if number is not None and not (name != "seed") <= number <= most:
                raise EdgeqError(f"--{name.replace('_', '-')} {str(number)[:40]}: goes from {int(name != 'seed')} to {most}")
        named = [text.rpartition("=")[0] for text in self.runtimes if "=" in text]
        if named and (len(named) < len(self.runtimes) or {*named} != {*self.targets}):
            raise EdgeqError(
                f"--runtime {','.join(self.runtimes)}: name a runtime for each --target file, as in a.tflite=tflm,b.tflite=litert-xnnpack, "
                "or name runtimes alone, for all files"
            )

    def runtimes_of(self, files: Collection[str]) -> tuple[str, ...]:
        """The runtimes that ``files``, paths to one file, are to be measured on; none where none was named."""
        parts = [text.rpartition("=") for text in self.runtimes]
        return tuple(dict.fromkeys(runtime for file, named, runtime in parts if not named or file in files))

    def output_of(self, file: str | Path) -> str | None:
        """What ``output`` says of a file: a name is that of Keras networks alone, where the run has one."""
        named = self.output is not None and self.output not in get_args(Kind)
        return None if named and not is_float(file) and any(map(is_float, (*self.targets, *self.sources))) else self.output

    def preprocess_for(self, file: str) -> str | None:
        """What was stated of a target file."""
        return dict(zip(self.targets, self.preprocess_of, strict=False)).get(file) or self.preprocess

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
    def own_gradients(self) -> bool:
        """Targets are differentiated themselves: that was asked for, or an attack follows gradients and no source is given."""
        if not self.follows_gradients or self.access not in (None, "gradients"):
            return False
        return self.transfer or self.each or self.access == "gradients" or not self.sources

    @property
    def floats_only(self) -> bool:
        """All targets are Keras networks: no integer input stands between an iterate and them."""
        return all(map(is_float, self.targets))


def cells(
    plan: Plan, gradients_of: Sequence[str], queries_to: Sequence[str], seen: str = "scores", labels_of: Sequence[str] = ()
) -> list[Cell]:
    """The clean images, then for every radius the noise baseline and each attack. Raises :class:`EdgeqError` for what cannot be asked.

    ``gradients_of``: the ids of what lends gradients; an attack that follows them has a cell on each. ``queries_to``: the ids of the
    targets that query attacks run on, a cell each; ``seen``: what they see of it, a level of the access ladder; ``labels_of``: further
    targets, for attacks that need labels alone.
    """
    attacks = [plugins.build(plugins.ATTACKS, text) for text in dict.fromkeys(plan.attacks)]
    for name, attack in attacks:
        if attack.needs == "gradients" and not gradients_of:
            raise EdgeqError(f"{name} follows gradients, {_why_none(plan)}")
        if attack.needs == "scores" and seen == "label":
            raise EdgeqError(f"{name} needs scores, and only the label is seen; use --attack {' or '.join(needing('label'))}")
        if plan.norm not in attack.norms:
            raise EdgeqError(f"{name} has no {plan.norm} form; choose --norm {' or '.join(attack.norms)}")
    for text, threat in zip(dict.fromkeys(plan.eps), plan.threats, strict=True):
        if threat.norm == "linf" and not threat.reaches_integers and not plan.floats_only:
            raise EdgeqError(
                f"--eps {text}: below one pixel no integer input differs from the clean one; use 1/255 or more, "
                "or make the float network the --target"
            )
    goal = Goal.parse(plan.goal)
    for _, attack in attacks:
        try:
            if attack.needs != "nothing":
                goal.check(attack)
        except ValueError as error:
            raise EdgeqError(f"--goal {plan.goal}: {error}") from None
    planned = [CLEAN]
    for threat in plan.threats:
        if threat.reaches_integers:
            planned.append(Cell(len(planned), "noise", {}, threat.norm, threat.eps, kind="noise"))
        for name, attack in attacks:
            if name == "noise":
                continue
            query = attack.needs != "gradients"
            if query and not threat.reaches_integers:
                raise EdgeqError(f"{name} shows whole pixels to the target, and none fits into eps = {threat.eps:.3g}; use 1/255 or more")
            access = (seen if attack.needs == "scores" else attack.needs) if query else "gradients"
            queried = (*queries_to, *labels_of) if attack.needs == "label" else queries_to
            for on in queried if query else gradients_of:
                kind: CellKind = "query" if query else "gradient"
                planned.append(Cell(len(planned), name, asdict(attack), threat.norm, threat.eps, on, access, kind, goal))
    return planned


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
    file = Path(plan.targets[0]).name
    if plan.access not in (None, "gradients"):
        return f"and --access {plan.access} gives none; add --source FLOAT.h5, or use --access gradients"
    return f"which {file} alone does not give; add --source FLOAT.h5, or use --attack spsa"


def needing(level: str) -> list[str]:
    """The attacks that are made for ``level`` of the access ladder."""
    return [name for name, attack in plugins.working(plugins.ATTACKS).items() if attack.needs == level]
