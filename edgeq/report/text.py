"""Numbers and names as a report writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from edgeq.core.errors import printable
from edgeq.core.numbers import number
from edgeq.measure.figures import CellFigures, Share, Summary
from edgeq.measure.words import epsilon, radius

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["compact", "crafted", "epsilon", "name", "number", "plain", "radius", "say", "share", "warn"]


def plain(text: object, most: int = 200) -> str:
    """Text from a file, made safe to print: no control characters (a terminal obeys those), no more than ``most`` characters."""
    clean = printable(str(text)[: most + 1])
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def say(console: Console, text: str = "", style: str = "") -> None:
    """One line as it is: never wrapped, never read as markup."""
    console.print(Text(text, style=style), no_wrap=True, overflow="ignore", crop=False, highlight=False)


def warn(console: Console, warnings: Iterable[str]) -> None:
    """Above all figures: sentences that invalidate them."""
    for sentence in warnings:
        for part in Text(plain("WARNING: " + sentence, 1000)).wrap(console, min(console.width, 80)):
            say(console, part.plain.rstrip(), "bold red")


def p_value(p: float) -> str:
    """``.625``, and ``<.001`` for what would read as impossible."""
    return "<.001" if p < 0.001 else number(p)


def share(value: Share | Mapping[str, Any] | None) -> str:
    """Of a :class:`~edgeq.measure.figures.Share`, or of one that was read from JSON."""
    if value is None:
        return "-"
    return number(value.share if isinstance(value, Share) else value["share"])


def compact(value: float | None) -> str:
    """A count in at most four characters: ``128``, ``1.5k``, ``23k``, ``1.2M``; ``-`` for None."""
    if value is None:
        return "-"
    for unit, size in (("", 1), ("k", 1e3), ("M", 1e6), ("G", 1e9)):
        scaled = value / size
        if scaled < 9.95 and unit:
            return f"{scaled:.1f}{unit}"
        if scaled < 999.5:
            return f"{scaled:.0f}{unit}"
    return "lots"


def crafted(cell: CellFigures, summary: Summary) -> str:
    """How the candidates of a cell were made, in a few words."""
    on, access = plain(summary.name(cell.crafted_on)), plain(cell.access)
    if cell.kind == "noise":
        return "baseline: uniform noise, no attack"
    return f"queries {on}: {access}" if cell.kind == "query" else f"crafted on {on}: {access}"


def name(label: int, classes: Any) -> str:
    """The class name of ``label``, or its number where there is no name."""
    if isinstance(classes, list) and 0 <= label < len(classes):
        return plain(classes[label], 40)
    return str(label)
