"""``edgeq inspect``: what is in a ``.tflite`` or ``.onnx`` file, what runs it, and where it fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgeq.core.errors import EdgeqError


@click.command(epilog="\b\nExamples:\n  edgeq inspect model.tflite\n  edgeq inspect model.onnx --json")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--preprocess", metavar="SPEC", help="Mean and std, where the file does not state what a pixel means.")
@click.option("--output", type=click.Choice(["label", "probs", "logits"]), help="What the file's output is, where it does not tell.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
def command(file: Path, preprocess: str | None, output: str | None, as_json: bool) -> None:
    """Say what is in FILE: layers, scales, the weight bits really used, parameters, MACs, flash and arena, whether it is provably the
    same function on every runtime, and which runtimes and devices take it."""
    facts = gather(file, preprocess, output)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        show(facts)


def gather(file: Path, preprocess: str | None = None, output: str | None = None) -> dict[str, Any]:
    """All that is known of the file, as JSON takes it. Raises :class:`EdgeqError` for a file that cannot be read."""
    from edgeq import runtimes
    from edgeq.core import devices
    from edgeq.core.signature import Signature
    from edgeq.integer.describe import describe
    from edgeq.integer.read import read

    model = read(file)
    description = describe(model)
    facts: dict[str, Any] = description.to_json()
    found = {} if description.problem else runtimes.probe_all(runtimes.listed(f".{description.format}"), file, output)
    signature = next((s for s in found.values() if isinstance(s, Signature)), None)
    arena: int | None = None
    if isinstance(found.get("tflm"), Signature):
        arena = runtimes.arena_bytes(file)
    facts["kind"] = signature.kind if signature else facts["kind"]
    facts["pixels"] = _pixels(file, signature, preprocess) if signature else None
    facts["arena_bytes"] = arena
    facts["runtimes"] = {n: _reason(file, n, s) for n, s in found.items()}
    if description.format == "onnx" and signature:
        integer, floating = runtimes.integer_kernels(file)
        facts["kernels"] = {"integer": integer, "float": floating}
    if description.format == "tflite" and not description.problem:
        facts["portable"] = _portable(file, model, [n for n, s in found.items() if isinstance(s, Signature)])
    facts["devices"] = {
        d.name: {
            "title": d.title,
            "runtime": d.runtime,
            "runs": d.runtime in found and facts["runtimes"][d.runtime] is None,
            "flash": fit.flash,
            "ram": fit.ram,
            "sentences": fit.sentences,
        }
        for d in devices.all_devices()
        for fit in [devices.fits(d, description.bytes, arena)]
    }
    facts["layers"] = facts.pop("layers")  # the long part last
    return facts


def _pixels(file: Path, signature: Any, override: str | None) -> str:
    from edgeq.pipeline import metadata
    from edgeq.pipeline.codes import codes_for
    from edgeq.pipeline.preprocess import resolve

    h, w, c = signature.input.shape
    try:
        spec, _, where = metadata.stated(file)
        chosen, _ = resolve((h, w), c, (h, w, c), override, spec, where)
        return codes_for(signature.input, chosen, str(file)).describe()
    except EdgeqError as error:
        return _short(file, error)


def _portable(file: Path, model: Any, names: Sequence[str]) -> dict[str, Any]:
    """Whether the file is the same function on all of the runtimes that run it: a proof from the file alone, or why there is none."""
    from edgeq.integer.portable import prove
    from edgeq.integer.read_tflite import from_model

    if len(names) < 2:
        return {"holds": None, "sentence": f"not asked: {names[0] if names else 'no runtime here'} alone runs it"}
    try:
        return prove(from_model(model), names).to_json()
    except EdgeqError as error:
        return {"holds": None, "sentence": f"not known: {_short(file, error)}"}


def _reason(file: Path, name: str, found: Any) -> str | None:
    """None where the runtime runs the file, else why not."""
    return _short(file, found).removeprefix(f"{name} cannot run it: ") if isinstance(found, EdgeqError) else None


def _short(file: Path, error: EdgeqError) -> str:
    return str(error).removeprefix(f"{file}: ")


def show(facts: dict[str, Any]) -> None:
    """Prints :func:`gather`'s facts, in 80 columns."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from edgeq.cli.console import out

    def line(name: str, text: str, style: str = "") -> None:
        out.print(f"[bold]{name:<11}[/bold]" + (f"[{style}]{escape(text)}[/{style}]" if style else escape(text)))

    layers = facts["layers"]
    out.print(f"[bold]{escape(Path(facts['path']).name)}[/bold]  {facts['format']}, {len(layers)} ops, {escape(facts['producer'][:40])}")
    for name, borders in (("input", facts["inputs"]), ("output", facts["outputs"])):
        for border in borders:
            kind = f", read as {facts['kind']}" if name == "output" and facts["kind"] else ""
            line(name, _border(border) + kind)
    if facts["pixels"]:
        line("pixels", facts["pixels"])
    if facts["problem"]:
        line("problem", facts["problem"], "yellow")
    stored = sum(layer["parameters"] for layer in layers)
    line("weights", f"{stored:,} parameters; {_bits(layers)}")
    unknown = any(layer["macs"] is None for layer in layers)
    line("work", f"{facts['macs']:,} MACs an image" + (" at least" if unknown else ""))
    line("flash", f"{facts['bytes']:,} bytes (the file)")
    if facts["arena_bytes"]:
        line("RAM", f"{facts['arena_bytes']:,} bytes of TFLM arena, measured on this host: an upper estimate")
    if portable := facts.get("portable"):
        line("portable", portable["sentence"])
    if kernels := facts.get("kernels"):
        line("kernels", "; ".join(f"{k}: " + (_counts(v) or "none") for k, v in kernels.items()))

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("op", max_width=22, overflow="ellipsis", no_wrap=True)
    for column in ("output", "params", "MACs", "bits", "scale", "zero"):
        table.add_column(column, justify="left" if column == "output" else "right", no_wrap=True)
    for layer in layers:
        bits = f"{layer['bits_used']}/{layer['bits']}" if layer["bits_used"] else ""
        scale = "" if layer["scale"] is None else f"{layer['scale']:.4g}"
        zero = "" if layer["zero"] is None else str(layer["zero"])
        macs = "?" if layer["macs"] is None else _number(layer["macs"])
        table.add_row(escape(layer["op"]), _shape(layer["shape"][1:]), _number(layer["parameters"]), macs, bits, scale, zero)
    out.print(table)
    out.print("[dim]bits: really used / stored, a weight.  scale, zero: of the output.[/dim]\n")

    for runtime, reason in facts["runtimes"].items():
        out.print(f"{'[yellow]✗' if reason else '[green]✓'} {runtime}[/] {escape(reason or '')}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("device", "runtime", "flash", "arena in RAM"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for name, device in facts["devices"].items():
        if device["runtime"] in facts["runtimes"]:
            texts = [s.partition(": ")[2].partition(", estimate")[0].removeprefix("arena ") for s in device["sentences"]]
            flash, ram = (_verdict(device[k], escape(t.partition(", the device")[0])) for k, t in zip(("flash", "ram"), texts, strict=True))
            table.add_row(escape(name), _verdict(device["runs"], device["runtime"]), flash, ram)
    if table.row_count:
        out.print()
        out.print(table)
        out.print("[dim]green: runs, or fits; red: does not. Firmware and its own RAM come on top.[/dim]")


def _border(border: dict[str, Any]) -> str:
    quantised = f", scale {border['scale']:.6g}, zero {border['zero']}" if border["scale"] is not None else ""
    return f"{_shape(border['shape'][1:]) or 'one number'} {border['dtype']}{quantised} ({border['name'][:30]})"


def _bits(layers: Sequence[dict[str, Any]]) -> str:
    used = sorted({layer["bits_used"] for layer in layers if layer["bits_used"]})
    if not used:
        return "none of them integers"
    return f"{used[0]} bits really used a weight" if len(used) == 1 else f"{used[0]} to {used[-1]} bits really used a weight, by layer"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {op}" for op, n in sorted(counts.items(), key=lambda item: -item[1]))


def _shape(shape: Sequence[int]) -> str:
    return "x".join("?" if d < 0 else str(d) for d in shape)


def _number(number: int) -> str:
    for unit, size in (("M", 1_000_000), ("k", 10_000)):
        if number >= size:
            return f"{number / (size if unit == 'M' else 1000):.3g} {unit}"
    return f"{number:,}" if number else ""


def _verdict(fits: bool | None, text: str) -> str:
    style = {True: "green", False: "red", None: "dim"}[fits]
    return f"[{style}]{text}[/]"
