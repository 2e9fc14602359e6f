"""The summary as text that reads well in 80 columns, in colour or piped."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from edgeq.measure.words import STATEMENT, zero_gradients
from edgeq.report.text import Share, compact, crafted, number, p_value, plain, radius, share, warn
from edgeq.report.text import say as to

NAME = 16
HEAD = f"{'runtime':15} clean robust {'B19':>12} {'succ':>4} tie  l2 inf {'queries':>9}  differs on"
UNDER = f"{'':16} acc. acc. {'95 %':<9} acc. rate top   mean {'med/p90':>9} cl. uni adv"


def render(summary: dict[str, Any], console: Console) -> None:
    """Prints the tables of ``summary`` (:func:`edgeq.measure.summary.summarise`)."""

    def say(text: str = "", style: str = "") -> None:
        to(console, text, style)

    def sentences(title: str, lines: list[str]) -> None:
        if lines:
            say()
            say(title, "bold")
            for line in lines:
                for k, part in enumerate(Text(plain(line, 1000)).wrap(console, min(console.width, 80) - 2)):
                    say(("- " if k == 0 else "  ") + part.plain.rstrip())

    warn(console, summary["warnings"])
    run = summary["run"]
    files = ", ".join(plain(a["name"], 60) for a in summary["artifacts"] if a["role"] == "target") or plain(run["file"], 60)
    say(f"{files}: n = {run['n']}", "bold")
    sentences("NOT FINISHED: figures are over the rows that are, and `edgeq resume` goes on", summary["unfinished"])
    for c in summary["confirmed"]:
        if c["differ"]:
            say(f"{c['target']} IS NOT {c['by']} HERE: {c['differ']} of {c['rows']} rows differ; {c['by']}'s count", "bold red")
    _clean(summary, say)
    for cell in sorted(summary["cells"], key=lambda c: c["kind"] == "noise"):
        say()
        say(f"{plain(cell['attack'], 20)} at {radius(cell)}; {crafted(cell)}"[:80], "bold")
        say(HEAD, "dim")
        say(UNDER, "dim")
        for line in cell["targets"]:
            console.print(_line(line), no_wrap=True, overflow="ignore", crop=False, highlight=False)
        if not cell["targets"]:
            say("nothing is answered yet", "dim")
        for part in Text(plain(zero_gradients(cell), 1000)).wrap(console, 80) if cell["zero_gradients"] else ():
            say(part.plain.rstrip(), "dim")
    _worth(summary, say)
    _worst(summary, say)
    sentences("What the attacker knows", summary["threat_model"])
    sentences("What this does not show", summary["not_shown"])
    say()
    say(STATEMENT, "bold")


def _clean(summary: dict[str, Any], say: Any) -> None:
    say()
    say("Clean images", "bold")
    say(f"{'runtime':{NAME}} acc. {'95 %':<9} ties  acc. if ties with the truth were right", "dim")
    for line in summary["clean"]:
        right, tied, more = (share(line[key]) for key in ("accuracy", "ties", "with_ties"))
        say(f"{plain(line['target'], NAME):{NAME}} {right:>4} {_bounds(line['accuracy']):<9} {tied:>4} {more:>5}")
    say("right: argmax, the lowest index among equals; fooled: a class is strictly above", "dim")


def _bounds(value: Share) -> str:
    return "" if value["interval"] is None else " ".join(number(v) for v in value["interval"])


def _line(line: dict[str, Any]) -> Text:
    before = line["before_grid"]
    name = " before the grid" if before else plain(line["target"], NAME)
    robust, floor, queries = line["robust_accuracy"], line["floor"], line["queries"]
    interval = _bounds(robust)
    l2, linf = (None if line[key] is None else line[key]["mean"] for key in ("l2", "linf"))
    asked = "-" if queries is None else "/".join(compact((queries["successes"] or {}).get(key)) for key in ("median", "p90"))
    differs = [number((floor[key] or {}).get("share"), 2) if floor else "-" for key in ("clean", "noise", "adversarial")]
    text = Text(f"{name:{NAME}} {share(line['clean_accuracy']):>4}", style="dim" if before else "")
    text.append(f" {share(robust):>4}", style="" if before else "bold")
    text.append(f" {interval:<9} {share(line['b19_acc']):>4} {share(line['success']):>4} {number(line['ties']['share'], 2):>3}")
    text.append(f" {number(l2, 2):>3} {number(linf, 2):>3} {asked:>9} " + " ".join(f"{d:>3}" for d in differs))
    return text


def _worth(summary: dict[str, Any], say: Any) -> None:
    for pair in summary["file_worth"]:
        say()
        say(f"What holding the file is worth: {plain(pair['attack'], 20)} at {radius(pair)}, robust accuracy"[:80], "bold")
        source, file = plain(pair["source"], 16), plain(pair["file"], 16)
        say(f"{'crafted on':{NAME}} {source:>16} {file:>16}  stands only there       p", "dim")
        for line in pair["targets"]:
            only = f"{line['only_source']} / {line['only_file']}"
            numbers = f"{share(line['source']):>16} {share(line['file']):>16} {only:>17} {p_value(line['p']):>7}"
            say(f"{plain(line['target'], NAME):{NAME}} {numbers}")


def _worst(summary: dict[str, Any], say: Any) -> None:
    rows = [w for w in summary["wcar"] if w["over_n"]["of"]]
    if not rows:
        return
    say()
    say("Worst case (WCAR): right clean and under every attack; noise is none", "bold")
    say(f"{'runtime':{NAME}} {'radius':<20} over all n [95 %]   over clean-right", "dim")
    for w in rows:
        both = f"{share(w['over_n']):>4} [{' '.join(number(v) for v in w['over_n']['interval'])}]"
        right = f"{share(w['over_clean_right']):>4} of {w['over_clean_right']['of']}"
        say(f"{plain(w['target'], NAME):{NAME}} {radius(w):<20} {both:<19} {right}")
