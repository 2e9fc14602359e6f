"""Numbers as edgeq prints them."""

from __future__ import annotations


def number(value: float | None, digits: int = 3) -> str:
    """``.105``, ``1.00``, ``12.5`` for a narrow column: ``digits`` behind the point below 1, one fewer from 1 on; ``-`` for None."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    if text.startswith("0."):
        return text[1:]
    return f"{value:.{digits - 1}f}" if value < 10 else f"{value:.{digits - 2}f}"
