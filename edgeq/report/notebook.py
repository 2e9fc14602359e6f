"""The summary as a small table for notebooks; the whole of it is the page of :mod:`edgeq.report.html`."""

from __future__ import annotations

from html import escape

from edgeq.core.numbers import number
from edgeq.measure.figures import Share, Summary
from edgeq.measure.words import STATEMENT
from edgeq.report.text import crafted, plain, radius, share

HEAD = ("crafted", "answered by", "n", "clean acc.", "robust acc.", "95 %", "B19 acc.", "success rate")


def render(summary: Summary) -> str:
    """HTML without styles or scripts of its own; text from files is escaped."""
    lines = [
        (
            f"{plain(cell.attack, 20)} at {radius(cell)}; {crafted(cell, summary)}",
            plain(summary.name(line.target)) + " before the grid" * line.before_grid,
            str(line.n),
            share(line.clean_accuracy),
            share(line.robust_accuracy),
            _bounds(line.robust_accuracy),
            share(line.b19_acc),
            share(line.success),
        )
        for cell in sorted(summary.cells, key=lambda cell: cell.kind == "noise")
        for line in cell.targets
    ]
    files = ", ".join(plain(a.name, 60) for a in summary.artifacts if a.role == "target") or plain(summary.run.file, 60)
    said = [f"<p><b>{escape(files)}</b>: n = {summary.run.n}</p>"]
    said += [f"<p><b>Not finished:</b> {escape(sentence)}</p>" for sentence in summary.unfinished[:1]]
    said += [f"<p><b>WARNING:</b> {escape(sentence)}</p>" for sentence in summary.warnings]
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in line)}</tr>" for line in lines)
    head = "".join(f"<th>{text}</th>" for text in HEAD)
    return f"{''.join(said)}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{STATEMENT}</p>"


def _bounds(value: Share) -> str:
    return "-" if value.interval is None else " to ".join(number(v) for v in value.interval)
