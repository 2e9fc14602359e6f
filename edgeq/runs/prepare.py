"""From a plan to a run file: opens the files, settles what their pixels and outputs mean, samples the rows. Nothing is attacked yet.

Whatever is wrong with the files or the options is found here, before the run file exists.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import edgeq
from edgeq import data, runtimes
from edgeq.core import plugins
from edgeq.core.answer import Kind
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.data import Images
from edgeq.integer.read import sha256, size
from edgeq.pipeline import codes as pixel_codes
from edgeq.pipeline import metadata, sidecar
from edgeq.pipeline.codes import PixelCodes
from edgeq.pipeline.preprocess import Preprocess, resolve
from edgeq.runs import access
from edgeq.runs.format import Artifact, Cell, RunTarget
from edgeq.runs.plan import Level, Plan, cells
from edgeq.runs.store import Run

KERAS = "keras"


@dataclass(frozen=True, eq=False)
class Setting:
    """A plan resolved against its files. ``notes``: sentences on what was assumed, to be printed."""

    plan: Plan
    signature: Signature
    preprocess: Preprocess
    artifacts: list[Artifact]
    targets: list[RunTarget]
    cells: list[Cell]
    dataset: Images
    index: np.ndarray  # (n,) int64: the sampled images of the data set, in the order of the rows
    classes: list[str] | None  # the model's own names, where it states them
    notes: list[str]
    access: dict[str, str] | None = None  # the level of the whole run and a sentence on it; None: each attack has what it needs

    def create(self, path: Path, command: list[str]) -> Run:
        """The run file, with every record but the rows."""
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
        }  # fmt: skip
        shape = (*self.preprocess.size, self.preprocess.channels)
        return Run.create(path, shape=shape, n=len(self.index), meta=meta, records=(*self.artifacts, *self.targets, *self.cells))


def prepare(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Setting:
    """Raises :class:`EdgeqError`. ``say`` hears what takes time."""
    target = Path(plan.target)
    _check(plan)
    if not target.exists():
        raise EdgeqError(f"{target}: there is no such file")
    if target.is_dir() and not (target / "saved_model.pb").is_file():
        raise EdgeqError(f"{target}: is a folder, and no SavedModel; pass a .tflite, .onnx, .h5 or .keras file")
    artifacts = [_artifact(target, "target")]
    if plan.float_only:
        if plan.runtimes and plan.runtimes != (KERAS,):
            raise EdgeqError(f"{target}: only the runtime keras runs a Keras network; edgeq export makes files for the others")
        found = {KERAS: target}
    else:
        found = _candidates(plan, target, artifacts)
    say(f"opening {target.name} in {len(found)} runtime{'s' * (len(found) > 1)}")
    signatures = _signatures(plan, found)
    left_out = _left_out(plan, signatures)
    signature = next((s for s in signatures.values() if isinstance(s, Signature)), None)
    if signature is None:
        raise next(error for error in signatures.values() if isinstance(error, EdgeqError))
    for name, answer in signatures.items():  # a stand-in was asked for by name: the interpreter alone would be another run
        if runtimes.real(name) != name and isinstance(answer, EdgeqError):
            raise answer

    spec, names, where = metadata.stated(target)
    names = list(data.read_names(plan.class_names)) if plan.class_names else names
    dataset = open_data(plan, signature.classes, names)
    index = data.sample(dataset, plan.n, plan.seed)
    if not len(index):
        raise EdgeqError(f"{plan.data}: holds no image to sample")
    notes = [*left_out, *dataset.notes]
    if plan.n is not None and len(index) < plan.n:
        notes.append(f"{plan.data} holds {len(index)} images; all are used (--n {plan.n})")
    h, w, c = signature.input.shape
    preprocess, sentence = resolve((h, w), c, dataset.image(int(index[0])).shape, plan.preprocess, spec, where)
    notes.append(sentence)

    targets = []
    main_codes: PixelCodes | None = None
    for name, file in found.items():
        answer = signatures[name]
        if isinstance(answer, EdgeqError):
            reason = str(answer).removeprefix(f"{file}: ").removeprefix(f"{name} cannot run it: ").removeprefix(f"{name}: ")
            targets.append(RunTarget(name, file.name, "cannot run", reason))
            continue
        codes = pixel_codes.codes_for(answer.input, preprocess, str(file))
        main_codes = main_codes or codes
        targets.append(RunTarget(name, file.name, "runs", "", answer.to_json(), codes.to_json(), {}))
    assert main_codes is not None
    notes.append(f"pixels enter as {main_codes.describe()}; the output is read as {signature.kind}")
    source = _source(plan, preprocess, main_codes, artifacts, targets, notes)
    main = next((t.name for t in targets if t.runs and t.name != KERAS), KERAS)
    plan, seen, level = _settle(plan, target, main, signature.kind)
    if level is not None:
        notes.append(level["sentence"])
    sources = (source,) if source and _lends(plan) else ()
    if plan.differentiates_the_file:
        sources = (*sources, _white_box(plan, target, main, notes))
    planned = cells(plan, sources, main, seen)
    return Setting(plan, signature, preprocess, artifacts, targets, planned, dataset, index, names, notes, level)


def _left_out(plan: Plan, signatures: dict[str, Signature | EdgeqError]) -> list[str]:
    """Sentences on runtimes before the attacked one that cannot run the file, and on those whose process was lost.

    Raises :class:`LostError` where that would choose the runtime that is attacked, or is one that was asked for: next time it may run.
    """
    main = next((name for name, answer in signatures.items() if isinstance(answer, Signature)), None)
    asked, before, notes = {n for name in plan.runtimes for n in (name, runtimes.real(name))}, True, []
    for name, answer in signatures.items():
        before = before and name != main
        if isinstance(answer, runtimes.LostError):
            if before or name in asked:
                raise runtimes.LostError(f"{answer}; no other runtime is taken in its place: try again, or name others with --runtime")
            notes.append(f"warning: {name} is left out: {answer}")
        elif before and main is not None:
            notes.append(f"{main} is attacked, as {name} does not run the file")
    return notes


def _lends(plan: Plan) -> bool:
    """Whether a Keras network lends its gradients: a source always does, a target where the attacker may have them."""
    return plan.source is not None or (plan.float_only and plan.access in (None, "gradients"))


def _check(plan: Plan) -> None:
    """What no file can make right is said first."""
    cells(plan, (*[KERAS] * _lends(plan), *["the file"] * plan.differentiates_the_file), "", plan.access or "scores")


def _settle(plan: Plan, target: Path, main: str, kind: Kind) -> tuple[Plan, Level, dict[str, str] | None]:
    """The plan with its attacks, what query attacks see, and the level of access that was asked for or found, with a sentence.

    ``main``: the runtime that is attacked; ``kind``: what it answers with.
    """
    level, why = plan.access, list[str]()
    if level is not None and (reason := access.hindrance(level, target, main, kind)):
        raise EdgeqError(f"{target}: --access {level}: {reason}")
    if level is None and not plan.attacks and plan.source is None:
        level, why = access.strongest(target, main, kind)
    attacks = plan.attacks
    if not attacks:
        transfer = ("pgd",) if plan.source else ()
        attacks = (*transfer, access.attack_for(level)) if level not in (None, "gradients") else ("pgd",)
    seen: Level = level or ("label" if kind == "label" else "scores")
    if level == "gradients":  # who holds the file sees its logits too
        queries = plan.attacks and any(plugins.load(plugins.ATTACKS, text.split(":")[0]).needs == "scores" for text in attacks)
        seen = "logits" if queries and access.hindrance("logits", target, main, kind) is None else "scores"
    stated = None
    if level is not None:
        found = "as asked" if plan.access else f"the strongest that {target.name} allows here"
        stated = {"level": level, "sentence": f"access: {level}, {found}" + (f" ({'; '.join(why)})" if why else "")}
    return replace(plan, attacks=attacks, access=level), seen, stated


def open_data(plan: Plan, classes: int | None, names: list[str] | None) -> Images:
    """The plan's data with labels that fit a model of ``classes`` classes; ``names``: the model's own names of them, where stated."""
    return data.open(plan.data, label_column=plan.label_column, classes=classes, class_map=plan.class_map, class_names=names)


def _candidates(plan: Plan, target: Path, artifacts: list[Artifact]) -> dict[str, Path]:
    """The file that each runtime in question would run: the target, or for ORT the ``.onnx`` sibling its sidecar names."""
    if target.suffix == ".onnx":
        if plan.runtimes and plan.runtimes != ("ort",):
            raise EdgeqError(f"{target}: only the runtime ort runs an .onnx file; pass the .tflite beside it for the others")
        return {"ort": target}
    sibling = _sibling(target)
    names = plan.runtimes or (*runtimes.listed(".tflite"), *(runtimes.listed(".onnx") if sibling else ()))
    names = tuple(dict.fromkeys((*names, *(runtimes.real(n) for n in names))))  # a stand-in is confirmed on what it stands in for
    for name in names:
        if name == KERAS:
            raise EdgeqError(f"{target}: keras runs Keras networks; pass one as --source and it is measured beside the others")
        if name == "ort" and sibling is None:
            raise EdgeqError(f"{target}: ort runs .onnx files, and no sidecar names a sibling; make one with edgeq export")
    if "ort" in names and sibling:
        artifacts.append(_artifact(sibling, "sibling"))
    return {name: sibling if name == "ort" and sibling else target for name in names}


def _sibling(target: Path) -> Path | None:
    """The ``.onnx`` that edgeq export wrote beside ``target``, if both are still the files it wrote."""
    files = sidecar.read(target)[0].get("files")
    entries = files.items() if isinstance(files, dict) else ()
    named = {name: entry.get("sha256") for name, entry in entries if isinstance(entry, dict)}
    other = next((target.with_name(Path(k).name) for k in named if k.endswith(".onnx")), None)
    try:
        if other is None or not other.is_file():
            return None
    except OSError:  # a name that no file system takes
        return None
    return other if named.get(target.name) == sha256(target) and named[other.name] == sha256(other) else None


def _signatures(plan: Plan, files: dict[str, Path]) -> dict[str, Signature | EdgeqError]:
    if KERAS in files:
        from edgeq.keras.load import load

        return {KERAS: load(files[KERAS]).signature}
    by_file: dict[Path, list[str]] = {}
    for name, file in files.items():
        by_file.setdefault(file, []).append(name)
    found: dict[str, Signature | EdgeqError] = {}
    for file, names in by_file.items():
        found |= runtimes.probe_all(names, file, output=plan.output)
    return {name: found[name] for name in files}


def _source(
    plan: Plan, preprocess: Preprocess, codes: PixelCodes, artifacts: list[Artifact], targets: list[RunTarget], notes: list[str]
) -> str | None:
    """Adds the float network that gradients come from, as one more target; returns its name."""
    if plan.float_only:
        return KERAS
    if plan.source is None:
        return None
    path = Path(plan.source)
    if not path.exists():
        raise EdgeqError(f"{path}: there is no such file; --source takes a .h5, .keras or SavedModel")
    from edgeq.keras.load import load

    signature = load(path).signature
    shape = (*preprocess.size, preprocess.channels)
    if signature.input.shape != shape:
        raise EdgeqError(
            f"{path}: takes images of {signature.input.shape}, the target takes {shape}; pass the network the target was made from"
        )
    classes = next(t.signature["output"]["shape"] for t in targets if t.runs)
    if classes and tuple(classes) != signature.output.shape:
        raise EdgeqError(
            f"{path}: tells {signature.output.shape} classes apart, the target {tuple(classes)}; pass the network it was made from"
        )
    real, where = codes.real, "as the target sees them"
    stated = plan.source_preprocess or metadata.stated(path)[0]
    if stated and (own := Preprocess.parse(stated, preprocess.size, preprocess.channels)).mean is not None:
        real, where = pixel_codes.codes_for(signature.input, own, str(path)).real, f"as stated: {stated}"
    low, high = float(real.min()), float(real.max())
    notes.append(f"{path.name} takes pixels as {low:.4g}..{high:.4g}, {where}; {signature.kind} are its output, its logits are attacked")
    artifacts.append(_artifact(path, "source"))
    table = PixelCodes.of_reals(real)
    targets.append(RunTarget(KERAS, artifacts[-1].name, "runs", "", signature.to_json(), table.to_json(), {}))
    return KERAS


def _white_box(plan: Plan, target: Path, runtime: str, notes: list[str]) -> str:
    """The runtime whose kernels the gradients of the file itself go through; :class:`EdgeqError` where an op has none."""
    if reason := access.hindrance("gradients", target, runtime, "logits"):
        raise EdgeqError(f"{target}: {reason}")
    runtime = runtimes.real(runtime)
    clamp = {"clipped": "a clipped clamp", "through": "a pass-through clamp"}.get(plan.clamp, "a clipped and a pass-through clamp")
    notes.append(f"gradients are {target.name}'s own, straight through the roundings of {runtime}, with {clamp}")
    if caveat := access.caveat(target, runtime):
        notes.append(caveat)
    return runtime


def _artifact(path: Path, role: str) -> Artifact:
    return Artifact(path.name, role, str(path.absolute()), sha256(path), size(path))
