"""What a target is, as a value: enough to name it, to compare it, to send it elsewhere and to open it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeq.core.signature import Signature
from edgeq.integer.read import sha256, size
from edgeq.pipeline.codes import PixelCodes

Role = Literal["target", "source"]
Derived = Literal["", "before-grid", "stand-in", "ensemble", "mean", "board"]

KERAS = "keras"
"""The runtime of float networks."""


@dataclass(frozen=True)
class Artifact:
    """A file, known by its SHA-256 (of a SavedModel: of its parts). ``file``: where it was, for people and for opening it again."""

    sha256: str
    name: str
    file: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> Artifact:
        return cls(sha256(path), path.name, str(path.absolute()), size(path))


@dataclass(frozen=True)
class TargetSpec:
    """An artifact in a runtime, or what is derived from other targets.

    ``id``: short, readable, unique in a run, and never parsed (``resnet8-w2a2/tflm``); ``network``: what the file is called in it;
    ``artifact``: the file's SHA-256, "" where there is no file;
    ``role``: "target" for what ships, "source" for what only lends its gradients.

    ``derived``: "before-grid" is a float source shown the iterates that were not rounded to pixels; "stand-in" computes what its one member
    answers; "ensemble" answers what at least ``agree`` of its members answer, and else abstains; "mean" lends the gradients of its members'
    mean logits; a "board" answered through a file. ``members``: ids of what it is derived from.
    """

    id: str
    network: str = ""
    artifact: str = ""
    runtime: str = ""
    role: Role = "target"
    derived: Derived = ""
    members: tuple[str, ...] = ()
    agree: int = 0
    signature: Signature | None = None
    codes: PixelCodes | None = None

    @property
    def answers(self) -> bool:
        """Whether images are shown to it: a board has answered through a file, iterates before the grid are shown while they are made, and
        a mean only lends its gradients."""
        return self.derived not in ("board", "before-grid", "mean")


def networks(artifacts: Sequence[Artifact]) -> list[str]:
    """What to call each file in ids: its name without the suffix. Where the same runtimes run another file of that name, with the suffix,
    and with part of the hash where that is the same too."""

    def called(artifact: Artifact) -> str:
        name, others = Path(artifact.name), [Path(a.name) for a in artifacts if a.sha256 != artifact.sha256]
        if any(other.name == name.name for other in others):
            return f"{name.stem}~{artifact.sha256[:6]}"
        alike = [other for other in others if other.stem == name.stem and is_float(other) and is_float(name)]
        return name.name if alike else name.stem

    return [called(artifact) for artifact in artifacts]


def is_float(file: str | Path) -> bool:
    """Whether a file is taken for a float network: the formats of integer files have suffixes of their own."""
    return Path(file).suffix not in (".tflite", ".onnx")


def short(specs: Iterable[TargetSpec]) -> dict[str, str]:
    """What to call each target in a table: its runtime where that tells all of them apart, as it does for one network; else its id."""
    specs = tuple(specs)
    plain = [s.runtime or s.id for s in specs if s.derived != "before-grid"]
    apart = len(set(plain)) == len(plain)
    return {s.id: (s.runtime or s.id) if apart and s.derived != "before-grid" else s.id for s in specs}
