"""The fidelity table of an export, in at most eighty columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from edgeq.measure.fidelity import Line


def render(content: dict[str, Any], lines: list[Line], console: Console) -> None:
    """``content``: of the export's sidecar. Accuracy, score difference and ties; then who flips against whom. Fits 80 columns."""
    n, ran = content["fidelity"]["n"], [line for line in lines if not line.reason]
    rows = []
    for line in ran:
        accuracy = "{:.3f} ({:.3f}..{:.3f})".format(*line.accuracy) if line.accuracy else "-"
        lsb = "-" if line.lsb is None else f"{line.lsb:.3g}"
        rows.append([line.name, accuracy, _share((line.flips or {}).get("keras"), n), lsb, _share(line.tied, n)])
    title = f"Fidelity on {n} clean images of {content['fidelity']['data']}"
    _table(console, title, ["runtime", "accuracy (95 %)", "flips\nto keras", "LSB to\nreference", "ties"], rows)
    heads = [line.name.replace("litert-", "") for line in ran]
    rows = [[line.name, *("" if other is line else _share((line.flips or {}).get(other.name), n) for other in ran)] for line in ran]
    _table(console, "Clean flip rate: share of the images with another top class", ["", *heads], rows)
    for line in lines:
        if line.reason:
            console.print(f"{line.name}: {line.reason}", markup=False)
    for name, record in content["files"].items():
        console.print(f"{name}: {record['bytes']:,} bytes", markup=False)
    if content["arena_bytes"]:
        console.print(f"TFLM arena: {content['arena_bytes']:,} bytes on this host, an upper estimate for a 32-bit device", markup=False)


def _table(console: Console, title: str, heads: list[str], rows: list[list[str]]) -> None:
    table = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1))
    for at, head in enumerate(heads):
        table.add_column(head, justify="right" if at else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _share(count: int | None, n: int) -> str:
    return "-" if count is None or not n else f"{count / n:.3f}"
