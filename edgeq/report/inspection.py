"""What is in a file, what runs it and where it fits, in eighty columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from edgeq.integer.describe import Border, Layer
from edgeq.measure.inspection import Inspection

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 76  # columns below which scales and zero points are left out


def render(inspection: Inspection, console: Console) -> None:
    """Prints it, in 80 columns, or in as few as 60."""
    _file(inspection, console)
    _layers(inspection.description.layers, console)
    for runtime, reason in inspection.runtimes.items():
        console.print(f"[yellow]✗ {runtime}[/] does not run it: {escape(reason)}" if reason else f"[green]✓ {runtime}[/] runs it")
    _devices(inspection, console)


def _file(inspection: Inspection, console: Console) -> None:
    def line(name: str, text: str, style: str = "") -> None:
        console.print(f"[bold]{name:<11}[/bold]" + (f"[{style}]{escape(text)}[/{style}]" if style else escape(text)))

    about = inspection.description
    console.print(f"[bold]{escape(Path(about.path).name)}[/bold]  {about.format}, {len(about.layers)} ops, {escape(about.producer[:40])}")
    for border in about.inputs:
        line("input", _border(border))
    for border in about.outputs:
        line("output", _border(border) + (f", read as {inspection.reading}" if inspection.reading else ""))
    if inspection.pixels:
        line("pixels", inspection.pixels)
    if about.problem:
        line("problem", about.problem, "yellow")
    line("weights", f"{about.parameters:,} parameters; {_bits(about.layers)}")
    unknown = any(layer.macs is None for layer in about.layers)
    line("work", f"{about.macs:,} MACs an image" + (" at least" if unknown else ""))
    line("flash", f"{about.bytes:,} bytes (the file)")
    if inspection.arena_bytes:
        line("RAM", f"{inspection.arena_bytes:,} bytes of TFLM arena, measured on this host: an upper estimate")
    if inspection.portable:
        line("portable", inspection.portable.sentence)
    if inspection.kernels:
        line("kernels", "; ".join(f"{k}: " + (_counts(v) or "none") for k, v in inspection.kernels.to_json().items()))


def _layers(layers: Sequence[Layer], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("op", max_width=22, overflow="ellipsis", no_wrap=True)
    narrow = console.width < WIDE
    for column in ("output", "params", "MACs", "bits", "scale", "zero")[: 4 if narrow else 6]:
        table.add_column(column, justify="left" if column == "output" else "right", no_wrap=True)
    for layer in layers:
        bits = f"{layer.bits_used}/{layer.bits}" if layer.bits_used else ""
        scale = "" if layer.scale is None else f"{layer.scale:.4g}"
        zero = "" if layer.zero is None else str(layer.zero)
        macs = "?" if layer.macs is None else _number(layer.macs)
        row = (escape(layer.op), _shape(layer.shape[1:]), _number(layer.parameters), macs, bits, scale, zero)
        table.add_row(*row[: 5 if narrow else 7])
    console.print(table)
    console.print(f"[dim]bits: really used / stored, a weight.{'' if narrow else '  scale, zero: of the output.'}[/dim]\n")


def _devices(inspection: Inspection, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("device", "fits", "flash", "arena in RAM"):
        table.add_column(column, overflow="fold", no_wrap=column == "device")
    for name, device in inspection.devices.items():
        if device.device.runtime in inspection.runtimes:
            style = "green" if device.verdict == "yes" else "red" if device.verdict.startswith("no") else "yellow"
            table.add_row(escape(name), f"[{style}]{escape(device.verdict)}[/]", *map(escape, device.fit.amounts))
    if table.row_count:
        console.print()
        console.print(table)
        console.print("[dim]Of the file and of TFLM's arena alone: firmware and its own RAM come on top.[/dim]")


def _border(border: Border) -> str:
    quantised = f", scale {border.scale:.6g}, zero {border.zero}" if border.scale is not None else ""
    return f"{_shape(border.shape[1:]) or 'one number'} {border.dtype}{quantised} ({border.name[:30]})"


def _bits(layers: Sequence[Layer]) -> str:
    used = sorted({layer.bits_used for layer in layers if layer.bits_used})
    if not used:
        return "none of them integers"
    return f"{used[0]} bits really used a weight" if len(used) == 1 else f"{used[0]} to {used[-1]} bits really used a weight, by layer"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {op}" for op, n in sorted(counts.items(), key=lambda item: -item[1]))


def _shape(shape: Sequence[int]) -> str:
    return "x".join("?" if d < 0 else str(d) for d in shape)


def _number(number: int) -> str:
    for unit, size in (("M", 1_000_000), ("k", 10_000)):
        if number >= size:
            return f"{number / (size if unit == 'M' else 1000):.3g} {unit}"
    return f"{number:,}" if number else ""
