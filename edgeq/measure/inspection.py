"""What is in a ``.tflite`` or ``.onnx`` file, what runs it, and which devices it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq import runtimes
from edgeq.core import devices
from edgeq.core.devices import Device, Fit
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer.describe import Description, describe
from edgeq.integer.model import Model
from edgeq.integer.read import read, sha256
from edgeq.measure.kernels import Kernels, kernels
from edgeq.measure.portability import Portability, portability
from edgeq.pipeline import metadata, sidecar
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import resolve


@dataclass(frozen=True)
class DeviceFit:
    """A ``device`` and the file: whether the device's runtime ``runs`` it here, and whether there is room for it."""

    device: Device
    runs: bool
    fit: Fit

    @property
    def verdict(self) -> str:
        """In words: yes, no with the first reason, or what is not known. What the device's runtime does not run fits nowhere."""
        if not self.runs:
            return f"no: {self.device.runtime} does not run it"
        if not self.fit.flash:
            return "no: too little flash"
        return {True: "yes", False: "no: too little RAM", None: "flash yes, RAM unknown"}[self.fit.ram]

    def to_json(self) -> dict[str, Any]:
        """As ``edgeq inspect --json`` has it."""
        about = {"title": self.device.title, "runtime": self.device.runtime, "runs": self.runs, "fits": self.verdict}
        return {**about, "flash": self.fit.flash, "ram": self.fit.ram, "sentences": self.fit.sentences}


@dataclass(frozen=True)
class Inspection:
    """All that is known of a file.

    ``description``: what is in it; ``kind``: what its output is, None where nobody knows, and ``reading`` the same in words;
    ``pixels``: how a pixel becomes an input code,
    or why that is not known; None where no runtime here runs the file. ``arena_bytes``: of TFLM on this host, where it runs the file.
    ``runtimes``: name -> None where it runs the file, else why not. ``kernels``: of an ``.onnx`` that runs; ``portable``: of a ``.tflite``
    that is a classifier; ``devices``: by name.
    """

    description: Description
    kind: str | None
    reading: str | None
    pixels: str | None
    arena_bytes: int | None
    runtimes: Mapping[str, str | None]
    kernels: Kernels | None
    portable: Portability | None
    devices: Mapping[str, DeviceFit]

    def to_json(self) -> dict[str, Any]:
        """As ``edgeq inspect --json`` has it: one level, the layers last."""
        facts = self.description.to_json() | {"kind": self.kind}
        layers = facts.pop("layers")
        facts |= {"pixels": self.pixels, "arena_bytes": self.arena_bytes, "runtimes": dict(self.runtimes)}
        if self.kernels is not None:
            facts["kernels"] = self.kernels.to_json()
        if self.portable is not None:
            facts["portable"] = self.portable.to_json()
        return {**facts, "devices": {name: fit.to_json() for name, fit in self.devices.items()}, "layers": layers}


def inspect(file: str | Path, preprocess: str | None = None, output: str | None = None) -> Inspection:
    """Reads the file, and tries it in every runtime that may run it.

    ``preprocess``: mean and std, where the file does not state what a pixel means; ``output``: "label", "probs" or "logits", where it does
    not tell. Raises :class:`EdgeqError` for a file that cannot be read.
    """
    file = Path(file)
    model = read(file)
    output = output or sidecar.output_kind(file, sha256(file))
    about = describe(model, output)
    names = runtimes.listed(f".{about.format}")
    probed = {} if about.problem else runtimes.probe_all(names, file, output)
    signatures = {name: answer for name, answer in probed.items() if isinstance(answer, Signature)}
    signature = next(iter(signatures.values()), None)
    arena = runtimes.arena_bytes(file) if "tflm" in signatures else None
    return Inspection(
        about,
        signature.kind if signature else about.kind,
        signature.reading if signature else about.kind,
        _pixels(file, signature, preprocess) if signature else None,
        arena,
        {name: _reason(file, name, answer) for name, answer in probed.items()},
        kernels(file) if about.format == "onnx" and signature else None,
        _portable(model, list(signatures)) if about.format == "tflite" and not about.problem else None,
        {d.name: DeviceFit(d, d.runtime in signatures, devices.fits(d, about.bytes, arena)) for d in devices.all_devices()},
    )


def _pixels(file: Path, signature: Signature, override: str | None) -> str:
    h, w, c = signature.input.shape
    try:
        spec, _, where = metadata.stated(file)
        prepare, _ = resolve((h, w), c, (h, w, c), override, spec, where)
        return codes_for(signature.input, prepare, str(file)).describe()
    except EdgeqError as error:
        return _short(file, error)


def _portable(model: Model, names: Sequence[str]) -> Portability:
    if len(names) < 2:
        return Portability(f"not asked: {names[0] if names else 'no runtime here'} alone runs it")
    return portability(model, names)


def _reason(file: Path, name: str, probed: Signature | EdgeqError) -> str | None:
    """None where the runtime runs the file, else why not."""
    return _short(file, probed).removeprefix(f"{name} cannot run it: ") if isinstance(probed, EdgeqError) else None


def _short(file: Path, error: EdgeqError) -> str:
    return str(error).removeprefix(f"{file}: ")
