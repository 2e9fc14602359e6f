"""From a plan to a run file: opens the files, settles what their pixels and outputs mean, samples the rows. Nothing is attacked yet.

Whatever is wrong with the files or the options is said here, before the run file exists.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

import edgeq
from edgeq import data
from edgeq.core import plugins
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.rows import row_id
from edgeq.core.threat import Threat
from edgeq.data import Images
from edgeq.pipeline import metadata
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs.format import RunTarget
from edgeq.runs.lenders import before_grid, mean_of, own_of, source_of
from edgeq.runs.networks import content, ensemble_of, network_of, open_data, runtimes_for, same_task
from edgeq.runs.plan import Plan, cells
from edgeq.runs.settle import settle
from edgeq.runs.store import NewRows, Run
from edgeq.targets.probing import Probed, probe
from edgeq.targets.spec import Artifact, is_float, networks

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
    mains = [network_of(plan, p, names[p.path], stored, given is not None, notes) for p in probed]
    for other in mains[1:]:
        same_task(plan, mains[0], other, classes, labels, index, given)
    targets = [t for network in mains for t in network.targets]
    lenders = [source_of(plan, path, names[path], mains[0], notes) for path in sources]
    targets += [t for t in lenders if t.id not in {have.id for have in targets}]
    ensemble = [] if plan.agree is None else [ensemble_of(plan.agree, mains)]

    attacked = [(network.probed.path, spec) for network in mains for spec in network.attacked(plan.each)]
    plan, seen, level = settle(plan, attacked)
    if level is not None:
        notes.append(level["sentence"])
    notes += _short_budgets(plan)
    gradients_of = list(dict.fromkeys([*(t.id for t in lenders), *(spec.id for spec in own_of(plan, mains, notes))]))
    means = mean_of(gradients_of, [t.id for t in lenders], mains) if ensemble else []
    targets += [*ensemble, *means]
    lend = (*gradients_of, *(t.id for t in means))
    queries_to = (*(t.id for t in lenders if plan.each), *(spec.id for _, spec in attacked))
    planned = cells(plan, lend, queries_to, seen, tuple(t.id for t in ensemble))
    targets += before_grid(planned, targets)
    artifacts = {a.sha256: a for a in map(Artifact.of, [*sources, *(f for p in probed for f in dict.fromkeys(p.files.values()))])}
    used = list(dict.fromkeys(t.spec.artifact for t in targets if t.spec.artifact))
    geometry = mains[0].preprocess
    records = [artifacts[h] for h in used]
    return Setting(
        plan, geometry, records, targets, planned, dataset, index, labels, classes, notes, level, given is not None, tuple(skipped)
    )


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
        other = paths.setdefault(content(path), path)
        if other != path:
            notes.append(f"{path} is the file {other} again, and is measured once")
    probed = []
    for path in paths.values():
        asked = runtimes_for(plan, path)
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
