"""From a plan to a run file: opens the files, settles what their pixels and outputs mean, samples the rows. Nothing is attacked yet.

Whatever is wrong with the files or the options is said here, before the run file exists.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import edgeq
from edgeq import data, runtimes
from edgeq.core import plugins
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.rows import row_id
from edgeq.core.signature import Signature
from edgeq.core.threat import Threat
from edgeq.data import Images
from edgeq.integer import read
from edgeq.pipeline import codes as pixel_codes
from edgeq.pipeline import metadata, sidecar
from edgeq.pipeline.codes import PixelCodes
from edgeq.pipeline.preprocess import Preprocess, resolve
from edgeq.runs.format import RunTarget
from edgeq.runs.plan import Plan, cells
from edgeq.runs.settle import settle
from edgeq.runs.store import NewRows, Run
from edgeq.targets import access
from edgeq.targets.probing import Probed, fitting, own_normalisation, probe, stated
from edgeq.targets.spec import KERAS, Artifact, TargetSpec, is_float, networks

PART = 256  # images in memory at once, where rows are written with the plan


@dataclass(frozen=True, eq=False)
class Setting:
    """A plan resolved against its files. ``notes``: sentences on what was assumed, to be printed."""

    plan: Plan
    preprocess: Preprocess
    artifacts: list[Artifact]
    targets: list[RunTarget]
    cells: list[Cell]
    dataset: Images
    index: np.ndarray  # (n,) int64: the sampled images of the data set, in the order of the rows
    labels: np.ndarray  # (n,) int64
    classes: list[str] | None  # the model's own names, where it states them
    notes: list[str]
    access: dict[str, str] | None = None  # the level of the whole run and a sentence on it; None: each attack has what it needs
    given: bool = False  # the images are the caller's: nobody can read them again
    unreadable: tuple[str, ...] = ()  # names of the images that the sample leaves out, as they cannot be read

    def create(self, path: Path, command: list[str], more: Mapping[str, Any] = MappingProxyType({})) -> Run:
        """The run file, with every record but the rows; with these, too, where the images were ``given``. ``more``: JSON-able values, kept
        beside the plan."""
        meta = {
            "plan": self.plan.to_json(),
            "command": command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "environment": {"edgeq": edgeq.__version__, "python": platform.python_version(), "numpy": np.__version__,
                            "machine": platform.machine(), "system": platform.system()},
            "preprocess": self.preprocess.spec,
            "model_classes": self.classes,
            "classes": list(self.dataset.classes) if self.dataset.classes else None,
            "notes": self.notes,
            "access": self.access,
            "unreadable": list(self.unreadable),
            "data": {"spec": self.plan.data, "sha256": self.dataset.sha256()} if self.given else None,
            **more,
        }  # fmt: skip
        shape = (*self.preprocess.size, self.preprocess.channels)
        records: list[Artifact | RunTarget | Cell] = [*self.artifacts, *self.targets, *self.cells]
        rows = self._rows() if self.given else ()
        return Run.create(path, shape=shape, n=len(self.index), meta=meta, records=records, rows=rows)

    def _rows(self) -> Iterator[NewRows]:
        for start in range(0, len(self.index), PART):
            places = np.arange(start, min(start + PART, len(self.index)))
            names = [self.dataset.names[i] for i in self.index[places]]
            images = data.decode(self.dataset, self.index[places], self.preprocess.apply)
            yield places, np.array([row_id(name) for name in names]), names, self.labels[places], images


@dataclass(frozen=True, eq=False)
class _Network:
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


def prepare(plan: Plan, say: Callable[[str], None] = lambda _: None, given: Images | None = None) -> Setting:
    """Raises :class:`EdgeqError`. ``say`` hears what takes time. ``given``: images that are all shown, in their order, in the place of a
    sample of ``plan.data``; where they have the model's own shape they are neither resized nor cropped."""
    _check(plan)
    notes: list[str] = []
    probed = _probe(plan, say, notes)
    sources = [Path(s) for s in dict.fromkeys(plan.sources)]
    for path in sources:
        if not path.exists():
            raise EdgeqError(f"{path}: there is no such file; --source takes a .h5, .keras, SavedModel or float .onnx")
    files = [*(p.path for p in probed), *sources]
    names = dict(zip(files, networks([Artifact.of(path) for path in files]), strict=True))

    first = probed[0]
    _, classes, _ = metadata.stated(first.path)
    classes = list(data.read_names(plan.class_names)) if plan.class_names else classes
    dataset = open_data(plan, first.signature.classes, classes, given)
    skipped = _unreadable(plan, dataset, say) if given is None else []
    index = data.sample(dataset, plan.n, plan.seed, skipped) if given is None else np.arange(len(given))
    if not len(index):
        raise EdgeqError(f"{plan.data}: contains no image to sample")
    labels = dataset.labels[index]
    notes += [*dataset.notes, *data.left_out(dataset, skipped), *data.turned(dataset, index)]
    if plan.n is not None and len(index) < plan.n:
        notes.append(f"{plan.data} holds {len(index)} images; all are used (--n {plan.n})")
    stored = dataset.image(int(index[0])).shape
    mains = [_network(plan, p, names[p.path], stored, given is not None, notes) for p in probed]
    for other in mains[1:]:
        _same_task(plan, mains[0], other, classes, labels, index, given)
    targets = [t for network in mains for t in network.targets]
    lenders = [_source(plan, path, names[path], mains[0], notes) for path in sources]
    targets += [t for t in lenders if t.id not in {have.id for have in targets}]
    ensemble = [] if plan.agree is None else [_ensemble(plan.agree, mains)]

    attacked = [(network.probed.path, spec) for network in mains for spec in network.attacked(plan.each)]
    plan, seen, level = settle(plan, attacked)
    if level is not None:
        notes.append(level["sentence"])
    notes += _short_budgets(plan)
    gradients_of = list(dict.fromkeys([*(t.id for t in lenders), *(spec.id for spec in _own(plan, mains, notes))]))
    means = _mean(gradients_of, [t.id for t in lenders], mains) if ensemble else []
    targets += [*ensemble, *means]
    lend = (*gradients_of, *(t.id for t in means))
    queries_to = (*(t.id for t in lenders if plan.each), *(spec.id for _, spec in attacked))
    planned = cells(plan, lend, queries_to, seen, tuple(t.id for t in ensemble))
    targets += _before_grid(planned, targets)
    artifacts = {a.sha256: a for a in map(Artifact.of, [*sources, *(f for p in probed for f in dict.fromkeys(p.files.values()))])}
    used = list(dict.fromkeys(t.spec.artifact for t in targets if t.spec.artifact))
    geometry = mains[0].preprocess
    records = [artifacts[h] for h in used]
    return Setting(
        plan, geometry, records, targets, planned, dataset, index, labels, classes, notes, level, given is not None, tuple(skipped)
    )


def open_data(plan: Plan, classes: int | None, names: list[str] | None, given: Images | None = None) -> Images:
    """The plan's data, or what is ``given`` in its place, with labels that fit a model of ``classes`` classes; ``names``: the model's own
    names of them, where stated."""
    if given is not None:
        return data.fitted(given, classes, plan.class_map, names)
    return data.open(plan.data, "test", plan.label_column, classes, plan.class_map, names, plan.exif)


def _unreadable(plan: Plan, dataset: Images, say: Callable[[str], None]) -> list[str]:
    if not plan.skip_unreadable:
        return []
    say("looking for images that cannot be read")
    return data.unreadable(dataset, plan.n, plan.seed)


def _check(plan: Plan) -> None:
    """What no file can make right is said first."""
    for text in plan.eps:
        Threat.parse(plan.norm, text)
    lends = bool(plan.sources) or (plan.own_gradients and any(map(is_float, plan.targets)))
    cells(plan, ("the source",) * lends or ("the file",) * plan.own_gradients, (), plan.access or "scores")


def _short_budgets(plan: Plan) -> list[str]:
    """A note on each query attack that cannot take one step within ``--max-queries``."""
    notes = []
    for text in plan.attacks:
        name, attack = plugins.build(plugins.ATTACKS, text)
        width = getattr(attack, "width", None)  # of query attacks alone
        if width is not None and plan.max_queries is not None and plan.max_queries < 1 + width:
            step = f"the clean check and one step of {name} take {1 + width}"
            notes.append(f"--max-queries {plan.max_queries} is too few: {step} queries, so the attack ends before its first step is made")
    return notes


def _probe(plan: Plan, say: Callable[[str], None], notes: list[str]) -> list[Probed]:
    """Each ``--target`` file once, in its runtimes; all take one shape of image and tell one number of classes apart."""
    paths: dict[str, Path] = {}
    for path in map(Path, dict.fromkeys(plan.targets)):
        if not path.exists():
            raise EdgeqError(f"{path}: there is no such file")
        other = paths.setdefault(_content(path), path)
        if other != path:
            notes.append(f"{path} is the file {other} again, and is measured once")
    probed = []
    for path in paths.values():
        asked = _asked(plan, path)
        say(f"opening {path.name}" + (f" in {', '.join(asked)}" if asked else " in every runtime that runs it"))
        one = probe(path, asked, plan.output_of(path))
        notes += one.notes(asked) if len(paths) == 1 else [f"{path.name}: {note}" for note in one.notes(asked)]
        probed.append(one)
    for one in probed[1:]:
        a, b = probed[0].signature, one.signature
        if a.input.shape != b.input.shape:
            raise EdgeqError(
                f"{one.path}: takes images of {b.input.shape}, and {probed[0].path} of {a.input.shape}; "
                "the same examples cannot be shown to both, so attack them in two runs"
            )
        if None not in (a.classes, b.classes) and a.classes != b.classes:
            raise EdgeqError(
                f"{one.path}: tells {b.classes} classes apart, and {probed[0].path} {a.classes}; one run has networks of one task"
            )
    return probed


def _asked(plan: Plan, path: Path) -> tuple[str, ...]:
    """The runtimes that the plan wants for a file, whichever of its targets are that file. Raises :class:`EdgeqError` where none fits."""
    same = {file for file in plan.targets if _content(Path(file)) == _content(path)}
    asked, named = plan.runtimes_of(same), any("=" in text for text in plan.runtimes)
    return asked if named or same == {*plan.targets} else fitting(path, asked)


def _content(path: Path) -> str:
    """What tells one file from another."""
    return Artifact.of(path).sha256 if path.is_file() else str(path)


def _network(plan: Plan, probed: Probed, name: str, stored: tuple[int, ...], given: bool, notes: list[str]) -> _Network:
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
    return _Network(name, probed, preprocess, classes, targets, _asked(plan, probed.path))


def _same_task(
    plan: Plan,
    one: _Network,
    other: _Network,
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


def _source(plan: Plan, path: Path, name: str, first: _Network, notes: list[str]) -> RunTarget:
    """The float network that gradients come from, as one more target."""
    signature, runtime = _lending(plan, path)
    shape = first.probed.signature.input.shape
    if signature.input.shape != shape:
        raise EdgeqError(
            f"{path}: takes images of {signature.input.shape}, the target takes {shape}; pass the network the target was made from"
        )
    classes = first.probed.signature.classes
    if classes and classes != signature.classes:
        raise EdgeqError(f"{path}: tells {signature.classes} classes apart, the target {classes}; pass the network it was made from")
    assert first.main.codes is not None
    real, where = first.main.codes.real, "as the target sees them"
    artifact = Artifact.of(path)
    said = (plan.source_preprocess, sidecar.source_preprocess(first.probed.path, artifact.sha256), stated(path, plan.output)[0])
    spec = next((spec for spec in said if spec and "mean=" in spec), None)
    if spec and (own := Preprocess.parse(spec, first.preprocess.size, first.preprocess.channels)).mean is not None:
        real, where = pixel_codes.codes_for(signature.input, own, str(path)).real, f"as stated: {spec}"
        notes += own_normalisation(path, own, plan.output)
    low, high = float(real.min()), float(real.max())
    notes.append(f"{path.name} takes pixels as {low:.4g}..{high:.4g}, {where}; {signature.kind} are its output, its logits are attacked")
    if runtime != KERAS:  # a target may be called the same, and run there as well
        name = f"{name.removesuffix(path.suffix)}{path.suffix}"
    codes = PixelCodes.of_reals(real)
    return RunTarget(TargetSpec(f"{name}/{runtime}", name, artifact.sha256, runtime, "source", signature=signature, codes=codes))


def _lending(plan: Plan, path: Path) -> tuple[Signature, str]:
    """What a float network takes and gives, and the runtime that it is. Raises :class:`EdgeqError` where it has no gradients."""
    if path.suffix != ".onnx":
        from edgeq.keras.load import load

        return load(path, plan.output).signature, KERAS
    probed = probe(path, (), plan.output_of(path))
    if reason := access.hindrance("gradients", path, probed.main, probed.signature.kind):
        raise EdgeqError(f"{path}: {reason}")
    if probed.signature.input.dtype != "float32" or not read.graph(path).floating:
        raise EdgeqError(f"{path}: is quantised, and --source takes a float network; pass it as another --target, with --transfer")
    return probed.signature, probed.main


def _own(plan: Plan, mains: Sequence[_Network], notes: list[str]) -> list[TargetSpec]:
    """The targets that are differentiated themselves; :class:`EdgeqError` where an op of one has no gradient."""
    if not plan.own_gradients:
        return []
    clamp = {"clipped": "a clipped clamp", "through": "a pass-through clamp"}.get(plan.clamp, "a clipped and a pass-through clamp")
    own = []
    for network, attacked in ((one, spec) for one in mains for spec in one.attacked(plan.each)):
        path, real = network.probed.path, runtimes.real(attacked.runtime)
        spec = next(t.spec for t in network.targets if t.spec.runtime == real)
        own.append(spec)
        if spec.runtime == KERAS:
            continue
        if reason := access.hindrance("gradients", path, spec.runtime, "logits"):
            raise EdgeqError(f"{path}: {reason}")
        floats = read.differentiable(path)[0].floating
        through = "" if floats else f", straight through the roundings of {spec.runtime}, with {clamp}"
        notes.append(f"gradients are {path.name}'s own{through}")
        if caveat := access.caveat(path, spec.runtime):
            notes.append(caveat)
    return own


def _ensemble(agree: int, mains: Sequence[_Network]) -> RunTarget:
    members = tuple(network.main.id for network in mains)
    if not 1 <= agree <= len(members) or len(members) < 2:
        raise EdgeqError(f"--agree {agree}: {len(members)} networks are given; name two or more with --target, and at most as many here")
    border = mains[0].main.signature
    assert border is not None
    label = Signature(border.input, replace(border.output, shape=(), dtype="int64", scale=1.0, zero=0), "label")
    return RunTarget(TargetSpec(f"{agree} of {len(members)} agree", derived="ensemble", members=members, agree=agree, signature=label))


def _mean(gradients_of: Sequence[str], lenders: Sequence[str], mains: Sequence[_Network]) -> list[RunTarget]:
    """What an attack that is adapted to an ensemble follows: the mean of its members, or of the float networks that stand for them."""
    own = [id for id in gradients_of if id not in lenders]
    members = tuple(own if len(own) > 1 else gradients_of)
    if len(members) < 2:
        return []
    return [
        RunTarget(TargetSpec(f"mean of {len(members)}", role="source", derived="mean", members=members, signature=mains[0].main.signature))
    ]


def _before_grid(planned: Sequence[Cell], targets: Sequence[RunTarget]) -> list[RunTarget]:
    """For each float network that is crafted on: the same network, shown the iterates before they are rounded to pixels."""
    crafted_on = {cell.crafted_on for cell in planned if cell.kind == "gradient"}
    floats = [t.spec for t in targets if t.spec.runtime == KERAS and t.id in crafted_on]
    beside = {"derived": "before-grid", "codes": None}
    return [RunTarget(replace(spec, id=f"{spec.id} (before the grid)", members=(spec.id,), **beside)) for spec in floats]  # type: ignore[arg-type]
