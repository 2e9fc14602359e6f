"""The summary as text that reads well in 80 columns, in colour or piped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from edgeq.measure.figures import CleanFigures, Line, Share, Summary, Transfer
from edgeq.measure.words import STATEMENT, zero_gradients
from edgeq.report.text import compact, crafted, number, p_value, plain, radius, share, warn
from edgeq.report.text import say as to

NAME, WHOLE = 16, 80  # width of a first column; columns that every table fits in
CUTS = (80, 68, 58, 50, 36)  # where an attack's table may end: after what differs, queries, norms, ties, the interval
Say = Callable[..., Any]
LEFT_OUT = ("what differs", "queries", "norms", "ties and success")
HEAD = f"{'runtime':15} clean robust {'B19':>12} {'succ':>4} tie  l2 inf {'queries':>9}  differs on"
UNDER = f"{'':16} acc. acc. {'95 %':<9} acc. rate top   mean {'med/p90':>9} cl. uni adv"


def render(summary: Summary, console: Console) -> None:
    """Prints the tables of ``summary``, in 80 columns; in as few as 60 without what has no room."""
    width = min(console.width, WHOLE)
    cut = next((end for end in CUTS if end <= width), CUTS[-1])

    def say(text: str = "", style: str = "") -> None:
        parts = Text(text).wrap(console, width) if width < WHOLE and len(text) > width and "\n" not in text else [Text(text)]
        for part in parts:
            to(console, part.plain.rstrip() if len(parts) > 1 else text, style)

    def sentences(title: str, lines: Sequence[str]) -> None:
        if lines:
            say()
            say(title, "bold")
            for line in lines:
                for k, part in enumerate(Text(plain(line, 1000)).wrap(console, width - 2)):
                    say(("- " if k == 0 else "  ") + part.plain.rstrip())

    warn(console, summary.warnings)
    run = summary.run
    several = list(dict.fromkeys(t.network for t in summary.targets if t.role == "target" and t.network))
    named = several if len(several) > 1 else [a.name for a in summary.artifacts if a.role == "target"]
    files = ", ".join(plain(name, 60) for name in named) or plain(run.file, 60)
    for part in Text(f"{files}: n = {run.n}").wrap(console, width):
        say(part.plain.rstrip(), "bold")
    sentences("NOT FINISHED: figures are over the rows that are, and `edgeq resume` goes on", summary.unfinished)
    for c in summary.confirmed:
        if c.differ:
            by = summary.name(c.by)
            say(f"{summary.name(c.target)} IS NOT {by} HERE: {c.differ} of {c.rows} rows differ; {by}'s count", "bold red")
    _clean(summary, say, width)
    for transfer in summary.transfer:
        _transfer(summary, transfer, say, width)
    for cell in sorted(summary.cells, key=lambda c: c.kind == "noise"):
        say()
        say(f"{plain(cell.attack, 20)} at {radius(cell)}; {crafted(cell, summary)}"[:WHOLE], "bold")
        say(HEAD[:cut], "dim")
        say(UNDER[:cut], "dim")
        for line in cell.targets:
            *name, figures = _line(summary, line).split("\n")
            figures.truncate(cut)
            console.print(*name, figures, sep="\n", no_wrap=True, overflow="ignore", crop=False, highlight=False)
        if not cell.targets:
            say("nothing is answered yet", "dim")
        for line in cell.targets:
            _consensus(summary, line, say)
            if line.reached is not None:
                rows = f"{line.reached.k} of {line.reached.of} rows"
                say(f"{plain(summary.name(line.target), 50)}: {cell.goal} reached on {rows} ({share(line.reached)})")
        for part in Text(plain(zero_gradients(cell), 1000)).wrap(console, width) if cell.zero_gradients else ():
            say(part.plain.rstrip(), "dim")
    if cut < WHOLE and summary.cells:
        say(f"in {width} columns without {' and '.join(LEFT_OUT[: CUTS.index(cut)])}: edgeq report shows all", "dim")
    _white_box(summary, say, width)
    _worst(summary, say, width)
    sentences("What the attacker knows", summary.threat_model)
    sentences("What this does not show", summary.not_shown)
    say()
    say(STATEMENT, "bold")


def _clean(summary: Summary, say: Say, width: int) -> None:
    say()
    say("Clean images", "bold")
    last = "acc. if ties with the truth were right" if width == WHOLE else "acc. were ties right"
    say(f"{'runtime':{NAME}} acc. {'95 %':<9} ties  {last}", "dim")
    for line in summary.clean:
        right, tied, more = (share(value) for value in (line.accuracy, line.ties, line.with_ties))
        say(f"{_named(summary, line.target)} {right:>4} {_bounds(line.accuracy):<9} {tied:>4} {more:>5}")
    for line in summary.clean:
        _consensus(summary, line, say)
    say("right: argmax, the lowest index among equals; fooled: a class is strictly above", "dim")


def _consensus(summary: Summary, line: CleanFigures | Line, say: Say) -> None:
    if line.consensus is not None:
        predicted, d_acc = line.consensus.predicted, line.consensus.d_acc
        both = f"predicts {share(predicted)} [{_bounds(predicted)}] of the rows, d_acc {share(d_acc)} [{_bounds(d_acc)}]"
        say(f"{plain(summary.name(line.target), 30)}: {both}", "dim")


def _named(summary: Summary, id: str) -> str:
    """A target's name, as wide as the first column; a longer one stands on a line of its own, so that figures stay in their columns."""
    name = plain(summary.name(id), 80)
    return f"{name:{NAME}}" if len(name) <= NAME else f"{name}\n{'':{NAME}}"


def _bounds(value: Share) -> str:
    return "" if value.interval is None else " ".join(number(v) for v in value.interval)


def _line(summary: Summary, line: Line) -> Text:
    name = f"{' before the grid':{NAME}}" if line.before_grid else _named(summary, line.target)
    floor, queries = line.floor, line.queries
    l2, linf = (None if value is None else value.mean for value in (line.l2, line.linf))
    successes = None if queries is None else queries.successes
    asked = "-" if queries is None else "-/-" if successes is None else f"{compact(successes.median)}/{compact(successes.p90)}"
    differs = (
        [number(None if value is None else value.share, 2) for value in (floor.clean, floor.noise, floor.adversarial)]
        if floor
        else 3 * ["-"]
    )
    style = "dim" if line.before_grid else ""
    text = Text(name, style=style)
    text.append(f" {share(line.clean_accuracy):>4}", style)
    void = any(c.void for c in summary.clean if c.target == line.target)
    text.append(f" {share(line.robust_accuracy):>4}", style or ("dim" if void else "bold"))
    text.append(f" {_bounds(line.robust_accuracy):<9} {share(line.b19_acc):>4} {share(line.success):>4} {number(line.ties.share, 2):>3}")
    text.append(f" {number(l2, 2):>3} {number(linf, 2):>3} {asked:>9} " + " ".join(f"{d:>3}" for d in differs))
    return text


def _transfer(summary: Summary, transfer: Transfer, say: Say, width: int) -> None:
    """A block of columns after the other; under each robust accuracy its interval, and under that how often the labels of the two
    networks differ anyway."""
    say()
    say(f"Transfer of {plain(transfer.attack, 20)} at {radius(transfer)}: robust accuracy, 95 %, and labels that differ", "bold")
    say("rows: crafted on; columns: answered by; differ: on clean images / under noise", "dim")
    letters = {id: _letters(k) for k, id in enumerate(transfer.targets)}
    for id, letter in letters.items():
        say(f"  {letter:>2} = {plain(summary.name(id), 70)}", "dim")
    side_by_side = max(1, (width - 14) // 10)
    for start in range(0, len(transfer.targets), side_by_side):
        part = slice(start, start + side_by_side)

        def cells(values: Iterable[str]) -> str:
            return "".join(f"{value:>10}" for value in values)

        say()
        say(f"{'':14}{cells(letters[id] for id in transfer.targets[part])}", "dim")
        say(f"{'clean':14}{cells(share(v) for v in transfer.clean[part])}", "dim")
        say(f"{'uniform noise':14}{cells(share(v) for v in transfer.noise[part])}", "dim")
        for row in transfer.rows:
            lines = row.lines[part]
            on = letters.get(row.crafted_on) or plain(summary.name(row.crafted_on), 13)
            say(f"{on:14}{cells(_robust(line, row.crafted_on) for line in lines)}")
            say(f"{'  95 %':14}{cells('-' if line is None else _bounds(line.robust_accuracy) for line in lines)}", "dim")
            say(f"{'  differ':14}{cells(_differ(line) for line in lines)}", "dim")
    say("*: white-box, crafted on that very target", "dim")


def _letters(k: int) -> str:
    return (chr(64 + k // 26) if k >= 26 else "") + chr(65 + k % 26)


def _robust(line: Line | None, crafted_on: str) -> str:
    return "-" if line is None else share(line.robust_accuracy) + "*" * (line.target == crafted_on)


def _differ(line: Line | None) -> str:
    if line is None or line.floor is None:
        return "-"
    return f"{number(line.floor.clean.share, 2)}/{number(None if line.floor.noise is None else line.floor.noise.share, 2)}"


def _white_box(summary: Summary, say: Say, width: int) -> None:
    wide, only_wide = (16, 17) if width == WHOLE else (10, 11)
    for pair in summary.white_box:
        say()
        say(f"White-box versus transfer: {plain(pair.attack, 20)} at {radius(pair)}, robust accuracy"[:80], "bold")
        source, file = plain(summary.name(pair.source), wide), plain(summary.name(pair.file), wide)
        there = "stands only there" if width == WHOLE else "only there"
        say(f"{'crafted on':{NAME}} {source:>{wide}} {file:>{wide}} {there:>{only_wide}} {'p':>7}", "dim")
        for line in pair.targets:
            only = f"{line.only_source} / {line.only_file}"
            numbers = f"{share(line.source):>{wide}} {share(line.file):>{wide}} {only:>{only_wide}} {p_value(line.p):>7}"
            say(f"{_named(summary, line.target)} {numbers}")


def _worst(summary: Summary, say: Say, width: int) -> None:
    rows = [w for w in summary.wcar if w.over_n.of]
    if not rows:
        return
    say()
    say("Worst case (WCAR): right clean and under every attack; noise is none", "bold")
    say(f"{'runtime':{NAME}} {'radius':<20} over all n [95 %]" + "   over clean-right" * (width == WHOLE), "dim")
    for w in rows:
        both = f"{share(w.over_n):>4} [{_bounds(w.over_n)}]"
        right = f"{share(w.over_clean_right):>4} of {w.over_clean_right.of}" if width == WHOLE else ""
        say(f"{_named(summary, w.target)} {radius(w):<20} {both:<19} {right}".rstrip())
