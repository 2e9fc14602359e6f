"""What an export made, and what was measured of it: the content of ``NAME.edgeq.json``, which :mod:`edgeq.report.fidelity` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq import __version__
from edgeq.core.signature import Signature
from edgeq.measure.certificate import LayerCertificate
from edgeq.measure.fidelity import Fidelity
from edgeq.measure.kernels import Kernels
from edgeq.measure.layers import Layers
from edgeq.measure.levels import Levels
from edgeq.measure.portability import Portability


@dataclass(frozen=True)
class Origin:
    """The network that was exported: its file's name and SHA-256, the ``form`` of Keras file that it is, and how images are prepared for
    it (``--preprocess``), which may be otherwise than for the files."""

    file: str
    sha256: str
    form: str
    preprocess: str


@dataclass(frozen=True)
class Calibration:
    """The ``n`` images that set ranges: a sample of the ``split`` of ``data``; ``sha256``: of their shape and pixels; ``unreadable``: names
    of the images that it leaves out."""

    n: int
    sha256: str
    data: str
    split: str
    seed: int
    unreadable: Sequence[str] = ()


@dataclass(frozen=True)
class Recipe:
    """How the network came to its integers. ``calibration``: None where it brought its ranges with it."""

    method: str
    calibration: Calibration | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat record."""
        return {"method": self.method, **(asdict(self.calibration) if self.calibration else {})}


@dataclass(frozen=True)
class MadeFile:
    """A file that was written. ``made_from``, ``kernels``: of an ``.onnx``, the ``.tflite`` it was made from and what runs it."""

    sha256: str
    bytes: int
    made_from: str | None = None
    kernels: Kernels | None = None

    def to_json(self) -> dict[str, Any]:
        """One flat record."""
        record: dict[str, Any] = {"sha256": self.sha256, "bytes": self.bytes}
        if self.made_from is not None:
            record["made_from"] = self.made_from
        if self.kernels is not None:
            record |= {"integer_kernels": dict(self.kernels.integer), "float_kernels": dict(self.kernels.float)}
        return record


@dataclass(frozen=True)
class Measured:
    """One ``.tflite``, named ``file``, on every runtime.

    ``pixels``: how a pixel becomes an input code; ``arena_bytes``: of TFLM, where it runs the file. ``portable``, ``layers``: None where
    nothing was compared op by op; ``levels``: None where no levels were trained either.
    """

    file: str
    signature: Signature
    pixels: str
    arena_bytes: int | None
    fidelity: Fidelity
    portable: Portability | None = None
    levels: tuple[Levels, ...] | None = None
    layers: tuple[Layers, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The figures alone, without what is opened."""
        figures: dict[str, Any] = {"fidelity": self.fidelity.to_json()}
        if self.portable is not None:
            figures["portable"] = self.portable.to_json()
        if self.levels is not None:
            figures["levels"] = [levels.to_json() for levels in self.levels]
        if self.layers is not None:
            figures["layers"] = [layers.to_json() for layers in self.layers]
        return figures


@dataclass(frozen=True)
class Exported:
    """All that is known of an export.

    ``sidecar``: the path of its ``NAME.edgeq.json``, beside which the ``files`` lie. ``training``: what the network's own sidecar says
    of its training; ``data``: the images of the fidelity tables, None where random ones stood in. ``measured``: the ``.tflite`` the
    others are made from; ``packed``: its twin with INT4 weights; ``certificate``: of low-bit networks, layer by layer; ``unreadable``:
    names of the images that the tables leave out.
    """

    sidecar: Path
    origin: Origin
    files: Mapping[str, MadeFile]
    preprocess: str
    labels: Sequence[str] | None
    recipe: Recipe
    training: Mapping[str, Any]
    data: str | None
    measured: Measured
    packed: Measured | None
    certificate: tuple[LayerCertificate, ...] | None
    versions: Mapping[str, str]
    unreadable: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The sidecar's content."""
        signature = self.measured.signature
        return {
            "edgeq": __version__,
            "kind": "export",
            "source": asdict(self.origin),
            "signature": {"kind": signature.kind, "input": signature.input.to_json(), "output": signature.output.to_json()},
            "pixels": self.measured.pixels,
            "arena_bytes": self.measured.arena_bytes,
            "files": {name: file.to_json() for name, file in self.files.items()},
            "preprocess": self.preprocess,
            "labels": self.labels,
            "recipe": self.recipe.to_json(),
            "training": dict(self.training),
            "data": self.data,
            "unreadable": self.unreadable,
            **self.measured.to_json(),
            "packed": {**self.packed.to_json(), "file": self.packed.file} if self.packed else None,
            "certificate": None if self.certificate is None else [layer.to_json() for layer in self.certificate],
            "versions": dict(self.versions),
        }
