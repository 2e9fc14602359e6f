"""The fidelity table of an export, in at most eighty columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from edgeq.core.doubts import constant
from edgeq.measure.certificate import LayerCertificate
from edgeq.measure.exported import Exported, Measured
from edgeq.measure.fidelity import Fidelity
from edgeq.report.text import number, plain, warn

if TYPE_CHECKING:
    from rich.console import Console


SHORT = {"keras-float": "float", "litert-xnnpack": "xnnpack", "litert-builtin": "builtin", "litert-reference": "refer."}


def render(exported: Exported, console: Console) -> None:
    """Accuracy, score difference and ties; who flips against whom; what of a low-bit network is proven, and what its packed form costs;
    where runtimes part first. Fits 80 columns."""
    measured, packed = exported.measured, exported.packed
    for fidelity in (measured.fidelity, *([packed.fidelity] if packed else [])):
        for line in fidelity.runtimes:
            warn(console, (doubt.of(line.name).sentence for doubt in constant(line.constant, fidelity.n)))
    _fidelity(measured.fidelity, console)
    if exported.certificate:
        _certificate(exported.certificate, console)
    _inside(measured, console)
    if packed:
        console.print()
        console.print(f"[bold]{escape(packed.file)}[/bold]: INT4 weights, two a byte")
        _fidelity(packed.fidelity, console)
        _inside(packed, console)
    for name, file in exported.files.items():
        console.print(f"{name}: {file.bytes:,} bytes", markup=False)
    if measured.arena_bytes:
        console.print(f"TFLM arena: {measured.arena_bytes:,} bytes on this host, an upper estimate for a 32-bit device", markup=False)


def _fidelity(fidelity: Fidelity, console: Console) -> None:
    n, ran = fidelity.n, [line for line in fidelity.runtimes if not line.reason]
    network = next((line.name for line in ran if line.name == "ort-float"), "keras")
    rows = []
    for line in ran:
        accuracy = "{} ({} {})".format(*map(number, line.accuracy)) if line.accuracy else "-"
        lsb = "-" if line.lsb is None else f"{line.lsb:.3g}"
        flips = line.flips or {}
        rows.append([line.name, accuracy, _share(line.tied, n), _share(line.with_ties, n), _share(flips.get(network), n), lsb])
    title = f"Fidelity on {n} clean images of {plain(fidelity.data)}"
    _table(console, title, ["runtime", "accuracy (95 %)", "ties", "ties\nright", f"flips to\n{network}", "LSB to\nrefer."], rows)
    heads = [SHORT.get(line.name, line.name) for line in ran]
    rows = [
        [SHORT.get(line.name, line.name), *("" if o is line else _share((line.flips or {}).get(o.name), n) for o in ran)] for line in ran
    ]
    _table(console, "Clean flip rate: share of the images with another top class", ["", *heads], rows)
    if any(line.name == "keras-float" for line in ran):
        console.print("[dim]keras: the frozen network, its integer thresholds alone; keras-float: the same in float32.[/dim]")
    for line in fidelity.runtimes:
        if line.reason:
            console.print(f"{line.name}: {line.reason}", markup=False)


def _certificate(layers: Sequence[LayerCertificate], console: Console) -> None:
    """The share of channels proven on all runtimes; where it is not all, for which runtimes the rest is."""
    ways, rows = list(layers[0].stored), []
    for layer in layers:
        row = [plain(layer.layer, 17), layer.kind, str(layer.channels), str(layer.levels)]
        for way in ways:
            stored = layer.stored[way]
            rest = [f"{SHORT.get(name, name)} {number(share, 2)}" for name, share in stored.runtimes.items() if share]
            some = "" if stored.certified == layer.channels else "\n" + ("\n".join(rest) or "none")
            row.append(f"{number(stored.certified / layer.channels)} (int{stored.bits}){some}")
        rows.append(row)
    _table(
        console,
        "Certificate: channels whose levels are the trained ones for every input",
        ["layer", "op", "chan-\nnels", "levels", *ways],
        rows,
    )
    for way in ways:
        certified, channels = sum(layer.stored[way].certified for layer in layers), sum(layer.channels for layer in layers)
        share = number(certified / channels)
        console.print(f"{way}: {certified} of {channels} channels certified on every runtime ({share})", markup=False)
    console.print("[dim]Under a share below 1: the runtimes whose rounding gives the trained levels, and in what share of channels.[/dim]")


def _inside(measured: Measured, console: Console) -> None:
    if measured.portable:
        console.print(f"portable: {measured.portable.sentence}", markup=False, soft_wrap=False)
    for levels in measured.levels or ():
        if levels.reason:
            console.print(f"{levels.runtime}: {levels.reason}", markup=False)
            continue
        where = ""
        if op := levels.first:
            where = f"; first in {plain(op.name, 40)}, {op.differ:,} by at most {op.largest}"
            where += f"; no op by itself is off by more than {levels.alone_largest}"
        console.print(
            f"{levels.runtime}: {levels.differ:,} of {levels.elements:,} activations are not the trained level{where}", markup=False
        )
    for table in measured.layers or ():
        if table.reason:
            console.print(f"op by op, {table.other}: {table.reason}", markup=False)
            continue
        ahead = f"{table.other} against {table.base}, {table.n} images: "
        if (first := table.first) is None:
            console.print(ahead + "every element of every op is equal", markup=False)
        else:
            console.print(
                f"{ahead}first differs in op {first.index} {first.kind}, {first.differ:,} of {first.elements:,} elements by at "
                f"most {first.largest:.3g} LSB", markup=False,
            )  # fmt: skip


def _table(console: Console, title: str, heads: list[str], rows: list[list[str]]) -> None:
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1))
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _share(count: int | None, n: int) -> str:
    return "-" if count is None or not n else number(count / n)
