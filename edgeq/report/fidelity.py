"""The fidelity table of an export, in at most eighty columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from edgeq.measure.constant import sentence
from edgeq.measure.figures import Alike
from edgeq.report.text import plain, warn

if TYPE_CHECKING:
    from rich.console import Console


SHORT = {"keras-float": "float", "litert-xnnpack": "xnnpack", "litert-builtin": "builtin", "litert-reference": "refer."}


def render(content: dict[str, Any], console: Console) -> None:
    """``content``: of the export's sidecar. Accuracy, score difference and ties; who flips against whom; what of a low-bit network is
    proven, and what its packed form costs; where runtimes part first. Fits 80 columns."""
    for fidelity in (content["fidelity"], *([packed["fidelity"]] if (packed := content["packed"]) else [])):
        for line in fidelity["runtimes"]:
            warn(console, sentence(line["runtime"], Alike(**line["constant"]) if line.get("constant") else None, fidelity["n"]))
    _fidelity(content["fidelity"], console)
    if content["certificate"]:
        _certificate(content["certificate"], console)
    _inside(content, console)
    if packed:
        console.print()
        console.print(f"[bold]{escape(packed['file'])}[/bold]: INT4 weights, two a byte")
        _fidelity(packed["fidelity"], console)
        _inside(packed, console)
    for name, record in content["files"].items():
        console.print(f"{name}: {record['bytes']:,} bytes", markup=False)
    if content["arena_bytes"]:
        console.print(f"TFLM arena: {content['arena_bytes']:,} bytes on this host, an upper estimate for a 32-bit device", markup=False)


def _fidelity(fidelity: dict[str, Any], console: Console) -> None:
    n, ran = fidelity["n"], [line for line in fidelity["runtimes"] if "reason" not in line]
    rows = []
    for line in ran:
        accuracy = "{:.3f} ({:.3f}..{:.3f})".format(*line["accuracy"]) if line["accuracy"] else "-"
        lsb = "-" if line["lsb"] is None else f"{line['lsb']:.3g}"
        counted = "-" if line["with_ties"] is None else f"{line['with_ties']:.3f}"
        rows.append([line["runtime"], accuracy, _share(line["ties"], n), counted, _share(line["flips"].get("keras"), n), lsb])
    title = f"Fidelity on {n} clean images of {plain(fidelity['data'])}"
    _table(console, title, ["runtime", "accuracy (95 %)", "ties", "ties\nright", "flips\nto keras", "LSB to\nrefer."], rows)
    heads = [SHORT.get(line["runtime"], line["runtime"]) for line in ran]
    rows = [
        [SHORT.get(line["runtime"], line["runtime"]), *("" if o is line else _share(line["flips"].get(o["runtime"]), n) for o in ran)]
        for line in ran
    ]
    _table(console, "Clean flip rate: share of the images with another top class", ["", *heads], rows)
    if any(line["runtime"] == "keras-float" for line in ran):
        console.print("[dim]keras: the frozen network, its integer thresholds alone; keras-float: the same in float32.[/dim]")
    for line in fidelity["runtimes"]:
        if "reason" in line:
            console.print(f"{line['runtime']}: {line['reason']}", markup=False)


def _certificate(layers: list[dict[str, Any]], console: Console) -> None:
    """The share of channels proven on all runtimes; where it is not all, for which runtimes the rest is."""
    ways, rows = list(layers[0]["stored"]), []
    for layer in layers:
        row = [plain(layer["layer"], 17), layer["kind"], str(layer["channels"]), str(layer["levels"])]
        for way in ways:
            held = layer["stored"][way]
            rest = [f"{SHORT.get(name, name)} {share:.2f}" for name, share in held["runtimes"].items() if share]
            some = "" if held["certified"] == layer["channels"] else "\n" + ("\n".join(rest) or "none")
            row.append(f"{held['certified'] / layer['channels']:.3f} (int{held['bits']}){some}")
        rows.append(row)
    _table(
        console,
        "Certificate: channels whose levels are the trained ones for every input",
        ["layer", "op", "chan-\nnels", "levels", *ways],
        rows,
    )
    for way in ways:
        certified, channels = sum(layer["stored"][way]["certified"] for layer in layers), sum(layer["channels"] for layer in layers)
        console.print(f"{way}: {certified} of {channels} channels certified on every runtime ({certified / channels:.3f})", markup=False)
    console.print("[dim]Under a share below 1: the runtimes whose rounding gives the trained levels, and in what share of channels.[/dim]")


def _inside(content: dict[str, Any], console: Console) -> None:
    if proof := content.get("portable"):
        console.print(f"portable: {proof['sentence']}", markup=False, soft_wrap=False)
    for held in content.get("levels", ()):
        if held["reason"]:
            console.print(f"{held['runtime']}: {held['reason']}", markup=False)
            continue
        first = next((op for op in held["ops"] if op["differ"]), None)
        where = ""
        if first:
            where = f"; first in {plain(first['name'], 40)}, {first['differ']:,} by at most {first['largest']}"
            where += f"; no op by itself is off by more than {held['alone_largest']}"
        console.print(
            f"{held['runtime']}: {held['differ']:,} of {held['elements']:,} activations are not the trained level{where}", markup=False
        )
    for table in content.get("layers", ()):
        if table["reason"]:
            console.print(f"op by op, {table['other']}: {table['reason']}", markup=False)
            continue
        ahead = f"{table['other']} against {table['base']}, {table['n']} images: "
        first = table["first"]
        if first is None:
            console.print(ahead + "every element of every op is equal", markup=False)
        else:
            console.print(
                f"{ahead}first differs in op {first['index']} {first['kind']}, {first['differ']:,} of {first['elements']:,} elements by at "
                f"most {first['largest']:.3g} LSB", markup=False,
            )  # fmt: skip


def _table(console: Console, title: str, heads: list[str], rows: list[list[str]]) -> None:
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1))
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _share(count: int | None, n: int) -> str:
    return "-" if count is None or not n else f"{count / n:.3f}"
