"""What is installed, which runtimes work here, and what of this processor changes results."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from edgeq import __version__, runtimes
from edgeq.core import cpu, plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.core.signature import Signature
from edgeq.integer.engines import PROCESSORS

PACKAGES = {
    "base": ("numpy", "click", "ai-edge-litert", "pillow", "rich", "jinja2"),
    "keras": ("tensorflow", "tf-keras", "tensorflow-model-optimization"),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "tflm": ("tflite-micro",),
    "dask": ("distributed",),
}
"""Extra -> what it installs."""
WHY = {
    "keras": "for gradient attacks, training and export",
    "onnx": "for .onnx files and the runtime ort",
    "tflm": "for TFLite Micro, the interpreter of microcontrollers, and its arena size",
    "dask": "for --workers on a Dask cluster",
}

Packages = Mapping[str, Mapping[str, str | None]]
"""Extra -> package -> its version, None where it is missing."""


@dataclass(frozen=True)
class Installation:
    """``runtimes``: name -> None where it works here, else why not; ``cpu_flags``: the instruction sets that kernels are chosen by;
    ``avx2``: whether the processor is one that proofs of portability speak of, None where the system does not say; ``notes``: what of
    the processor changes results; ``advice``: what to install for the rest."""

    edgeq: str
    python: str
    system: str
    cores: int
    packages: Packages
    runtimes: Mapping[str, str | None]
    cpu_flags: tuple[str, ...]
    avx2: bool | None
    notes: tuple[str, ...]
    advice: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As ``edgeq doctor --json`` has it."""
        return asdict(self)


def installation() -> Installation:
    """Looks it all up, and runs a small file in each runtime."""
    packages = {extra: {package: _version(package) for package in names} for extra, names in PACKAGES.items()}
    return Installation(
        __version__,
        platform.python_version(),
        f"{platform.system()} {platform.machine()}",
        cpu.count(),
        packages,
        _runtimes(packages),
        cpu.flags(),
        _avx2(),
        tuple(_notes()),
        tuple(f'pip install "edgeq[{extra}]"  {why}' for extra, why in WHY.items() if None in packages[extra].values()),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _runtimes(packages: Packages) -> dict[str, str | None]:
    """None where the runtime has just run a small file in a child process, else why not."""
    probed: dict[str, Signature | EdgeqError] = {}
    with scratch() as folder:
        for form in (".tflite", ".onnx"):
            small = folder / f"small{form}"
            small.write_bytes((resources.files("edgeq.runtimes") / small.name).read_bytes())
            probed |= runtimes.probe_all([name for name in runtimes.listed(form) if name not in probed], small)
    reasons = {name: str(a).partition(": ")[2] if isinstance(a := probed[name], EdgeqError) else None for name in runtimes.listed()}
    # importing TensorFlow takes seconds, so the Keras runtime is believed
    missing = [package for package, version in packages["keras"].items() if version is None]
    return reasons | {"keras": f"{missing[0]} is not installed" if missing else None}


def _x86() -> bool:
    return platform.machine() in ("x86_64", "AMD64")


def _avx2() -> bool | None:
    flags = cpu.flags()
    return None if _x86() and not flags else "avx2" in flags


def _notes() -> list[str]:
    """What of this processor changes results, and which plugins of other packages are not used."""
    notes = ["XNNPACK and ONNX Runtime choose their kernels by the processor: their scores here are not an ARM phone's bit by bit."]
    if not _x86():
        notes.append("TFLite Micro's wheel exists for Linux on x86-64 only; litert-reference comes nearest to it here.")
    elif cpu.u8s8_saturates():
        notes.append(
            "No VNNI here: ONNX Runtime's uint8 x int8 products may saturate at 16 bits (onnxruntime issue 14642), so ort can differ "
            "from a machine with VNNI; quantise with reduce_range, or say which machine was run."
        )
    else:
        notes.append("VNNI here: ONNX Runtime's uint8 x int8 products do not saturate, unlike on older x86 (onnxruntime issue 14642).")
    here = {
        True: ", as this processor is.",
        False: ", which this processor is not: they say nothing of its kernels.",
        None: "; this system does not say whether its processor is one.",
    }
    return [*notes, f"Proofs of portability and certificates speak of {PROCESSORS}{here[_avx2()]}", *plugins.problems()]
