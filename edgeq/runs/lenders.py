"""What lends its gradients in a run: float networks, the attacked files themselves, and what is derived of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeq import runtimes
from edgeq.core.cell import Cell
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import read
from edgeq.pipeline import codes as pixel_codes
from edgeq.pipeline import sidecar
from edgeq.pipeline.codes import PixelCodes
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runs.format import RunTarget
from edgeq.runs.networks import Network
from edgeq.runs.plan import Plan
from edgeq.targets import access
from edgeq.targets.probing import own_normalisation, probe, stated
from edgeq.targets.spec import KERAS, Artifact, TargetSpec


def source_of(plan: Plan, path: Path, name: str, first: Network, notes: list[str]) -> RunTarget:
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


def own_of(plan: Plan, mains: Sequence[Network], notes: list[str]) -> list[TargetSpec]:
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


def mean_of(gradients_of: Sequence[str], lenders: Sequence[str], mains: Sequence[Network]) -> list[RunTarget]:
    """What an attack that is adapted to an ensemble follows: the mean of its members, or of the float networks that stand for them."""
    own = [id for id in gradients_of if id not in lenders]
    members = tuple(own if len(own) > 1 else gradients_of)
    if len(members) < 2:
        return []
    return [
        RunTarget(TargetSpec(f"mean of {len(members)}", role="source", derived="mean", members=members, signature=mains[0].main.signature))
    ]


def before_grid(planned: Sequence[Cell], targets: Sequence[RunTarget]) -> list[RunTarget]:
    """For each float network that is crafted on: the same network, shown the iterates before they are rounded to pixels."""
    crafted_on = {cell.crafted_on for cell in planned if cell.kind == "gradient"}
    floats = [t.spec for t in targets if t.spec.runtime == KERAS and t.id in crafted_on]
    beside = {"derived": "before-grid", "codes": None}
    return [RunTarget(replace(spec, id=f"{spec.id} (before the grid)", members=(spec.id,), **beside)) for spec in floats]  # type: ignore[arg-type]


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
