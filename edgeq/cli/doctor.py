"""``edgeq doctor``: what is installed, which runtimes work here, and what of this processor changes results."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from importlib import resources
from typing import Any

import click

from edgeq import __version__
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch

PACKAGES = {
    "base": ("numpy", "click", "ai-edge-litert", "pillow", "rich", "jinja2"),
    "keras": ("tensorflow", "tf-keras", "tensorflow-model-optimization"),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
    "tflm": ("tflite-micro",),
}


@click.command(epilog="\b\nExample:\n  edgeq doctor\n  edgeq doctor --json")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(as_json: bool) -> None:
    """Say what is installed, which runtimes work here (each runs a small file), which processor flags change results, and what to
    install for the rest."""
    facts = gather()
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        show(facts)


def gather() -> dict[str, Any]:
    """All facts, as JSON takes them."""
    from edgeq.core import cpu

    packages = {extra: {p: _version(p) for p in names} for extra, names in PACKAGES.items()}
    return {
        "edgeq": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": cpu.count(),
        "packages": packages,
        "runtimes": _runtimes(packages),
        "cpu_flags": list(cpu.flags()),
        "notes": _notes(),
        "advice": _advice(packages),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _runtimes(packages: dict[str, dict[str, str | None]]) -> dict[str, str | None]:
    """None where the runtime has just run a small file in a child process, else why not."""
    from edgeq import runtimes

    found: dict[str, Any] = {}
    with scratch() as folder:
        for form in (".tflite", ".onnx"):
            small = folder / f"small{form}"
            small.write_bytes((resources.files("edgeq.runtimes") / small.name).read_bytes())
            found |= runtimes.probe_all([n for n in runtimes.listed(form) if n not in found], small)
    reasons = {n: str(found[n]).partition(": ")[2] if isinstance(found[n], EdgeqError) else None for n in runtimes.listed() if n in found}
    # importing TensorFlow takes seconds, so the Keras runtime is believed
    missing = [p for p, version in packages["keras"].items() if version is None]
    return reasons | {"keras": f"{missing[0]} is not installed" if missing else None}


def _notes() -> list[str]:
    """What of this processor changes results, and which plugins of other packages are not used."""
    from edgeq.core import cpu, plugins

    notes = ["XNNPACK and ONNX Runtime choose their kernels by the processor: their scores here are not an ARM phone's bit by bit."]
    if platform.machine() not in ("x86_64", "AMD64"):
        notes.append("TFLite Micro's wheel exists for Linux on x86-64 only; litert-reference comes nearest to it here.")
    elif cpu.u8s8_saturates():
        notes.append(
            "No VNNI here: ONNX Runtime's uint8 x int8 products may saturate at 16 bits (onnxruntime issue 14642), so ort can differ "
            "from a machine with VNNI; quantise with reduce_range, or say which machine was run."
        )
    else:
        notes.append("VNNI here: ONNX Runtime's uint8 x int8 products do not saturate, unlike on older x86 (onnxruntime issue 14642).")
    return notes + plugins.problems()


def _advice(packages: dict[str, dict[str, str | None]]) -> list[str]:
    why = {
        "keras": "for gradient attacks, training and export",
        "onnx": "for .onnx files and the runtime ort",
        "tflm": "for TFLite Micro, the interpreter of microcontrollers, and its arena size",
    }
    return [f'pip install "edgeq[{e}]"  {why[e]}' for e, have in packages.items() if e in why and None in have.values()]


def show(facts: dict[str, Any]) -> None:
    """Prints :func:`gather`'s facts."""
    from rich.markup import escape

    from edgeq.cli.console import out

    out.print(f"[bold]edgeq {facts['edgeq']}[/bold]  Python {facts['python']}, {facts['system']}, {facts['cores']} cores\n")
    for extra, packages in facts["packages"].items():
        listed = [f"{name} {version}" if version else f"[yellow]{name} missing[/yellow]" for name, version in packages.items()]
        out.print(f"[bold]{extra:<7}[/bold]" + ", ".join(listed))
    out.print()
    for name, reason in facts["runtimes"].items():
        out.print(f"{'[yellow]✗' if reason else '[green]✓'} {name}[/] {escape(reason or '')}")
    out.print(f"\n[bold]processor[/bold] {', '.join(facts['cpu_flags']) or 'flags unknown'}")
    for note in facts["notes"]:
        out.print(f"  {escape(note)}")
    if facts["advice"]:
        out.print("\n[bold]to install[/bold]")
    for advice in facts["advice"]:
        out.print(f"  {escape(advice)}")
