"""The files that a run attacks: each with its preprocessing and its targets, all of them of one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgeq import data
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.data import Images
from edgeq.pipeline.preprocess import Preprocess, resolve
from edgeq.runs.format import RunTarget
from edgeq.runs.plan import Plan
from edgeq.targets.probing import Probed, fitting, own_normalisation, stated
from edgeq.targets.spec import Artifact, TargetSpec


@dataclass(frozen=True, eq=False)
class Network:
    """A ``--target`` file: what it is called, its preprocessing with a sentence on it, and its records."""

    name: str
    probed: Probed
    preprocess: Preprocess
    classes: list[str] | None
    targets: list[RunTarget]
    asked: tuple[str, ...]  # runtimes; empty: all there are

    @property
    def main(self) -> TargetSpec:
        return next(t.spec for t in self.targets if t.spec.runtime == self.probed.main)

    def attacked(self, each: bool) -> list[TargetSpec]:
        """What is crafted on: its main runtime, or ``each`` that was asked for."""
        if not each:
            return [self.main]
        return [t.spec for t in self.targets if t.runs and (not self.asked or t.spec.runtime in self.asked)]


def open_data(plan: Plan, classes: int | None, names: list[str] | None, given: Images | None = None) -> Images:
    """The plan's data, or what is ``given`` in its place, with labels that fit a model of ``classes`` classes; ``names``: the model's own
    names of them, where stated."""
    if given is not None:
        return data.fitted(given, classes, plan.class_map, names)
    return data.open(plan.data, "test", plan.label_column, classes, plan.class_map, names, plan.exif)


def network_of(plan: Plan, probed: Probed, name: str, stored: tuple[int, ...], given: bool, notes: list[str]) -> Network:
    """How images reach an opened file, with ``notes`` on what was assumed, and its targets. ``stored``: the shape of an image of the data;
    ``given``: they are a caller's arrays. Raises :class:`EdgeqError`."""
    spec, classes, where = stated(probed.path, plan.output)
    h, w, c = probed.signature.input.shape
    if given and stored == (h, w, c):  # they were resized and cropped before
        parsed = Preprocess.parse(spec or "none", (h, w), c)
        spec = Preprocess((h, w), c, mean=parsed.mean, std=parsed.std).spec
    preprocess, sentence = resolve((h, w), c, stored, plan.preprocess_for(str(probed.path)), spec, where)
    several = len(set(plan.targets)) > 1
    targets = [RunTarget(spec, "cannot run" if reason else "runs", reason) for spec, reason in probed.specs(name, preprocess)]
    codes = next(t.spec.codes for t in targets if t.spec.codes is not None)
    said = [
        sentence,
        *own_normalisation(probed.path, preprocess, plan.output),
        f"pixels enter as {codes.describe()}; the output is read as {probed.signature.reading}",
    ]
    notes += [f"{name}: {line}" if several else line for line in said]
    return Network(name, probed, preprocess, classes, targets, runtimes_for(plan, probed.path))


def runtimes_for(plan: Plan, path: Path) -> tuple[str, ...]:
    """The runtimes that the plan wants for a file, whichever of its targets are that file. Raises :class:`EdgeqError` where none fits."""
    same = {file for file in plan.targets if content(Path(file)) == content(path)}
    asked, named = plan.runtimes_of(same), any("=" in text for text in plan.runtimes)
    return asked if named or same == {*plan.targets} else fitting(path, asked)


def content(path: Path) -> str:
    """What tells one file from another."""
    return Artifact.of(path).sha256 if path.is_file() else str(path)


def same_task(
    plan: Plan,
    one: Network,
    other: Network,
    classes: list[str] | None,
    labels: np.ndarray,
    index: np.ndarray,
    given: Images | None,
) -> None:
    """Both see the same images with the same labels. Raises :class:`EdgeqError`."""
    a, b = one.probed.path, other.probed.path
    if other.classes is not None and plan.class_names is None and other.classes != classes:
        theirs = open_data(plan, other.probed.signature.classes, other.classes, given)
        if not np.array_equal(theirs.labels[index], labels):
            raise EdgeqError(f"{b}: orders its classes otherwise than {a}; one run has networks of one task")
    geometry = [replace(network.preprocess, mean=None, std=None, bytes=False).spec for network in (one, other)]
    if geometry[0] != geometry[1]:
        raise EdgeqError(f"{b}: states other preprocessing ({geometry[1]}) than {a} ({geometry[0]}); pass one --preprocess for all")


def ensemble_of(agree: int, mains: Sequence[Network]) -> RunTarget:
    members = tuple(network.main.id for network in mains)
    if not 1 <= agree <= len(members) or len(members) < 2:
        raise EdgeqError(f"--agree {agree}: {len(members)} networks are given; name two or more with --target, and at most as many here")
    border = mains[0].main.signature
    assert border is not None
    label = Signature(border.input, replace(border.output, shape=(), dtype="int64", scale=1.0, zero=0), "label")
    return RunTarget(TargetSpec(f"{agree} of {len(members)} agree", derived="ensemble", members=members, agree=agree, signature=label))
