"""The comparison of two sides, and the layer table, as text that reads well in 80 columns."""

from __future__ import annotations

from rich.console import Console

from edgeq.measure.comparison import Clean, Comparison, Discordant, Noise, Scores, Shares
from edgeq.measure.figures import Share
from edgeq.measure.layers import Layers, Line
from edgeq.measure.words import in_words
from edgeq.report.text import compact, number, p_value, plain, share, warn
from edgeq.report.text import say as _say

HOW = {"kept": "kept by the interpreter, with equal answers", "simulated": "simulated, with equal answers"}


def render(comparison: Comparison, console: Console) -> None:
    """All of a comparison, to the verdicts of its gates."""
    warn(console, comparison.warnings)
    for name, side in comparison.sides.items():
        _say(console, f"{name}  {plain(side.file, 50)} on {side.runtime}", "bold")
    _say(console, f"{comparison.n} images of {plain(comparison.data, 50)}, seed {comparison.seed}")
    _say(console)
    clean = comparison.clean
    rows: tuple[tuple[str, Clean | Noise], ...] = (
        ("clean", clean),
        (f"noise of {comparison.pixels:.4g} px" + " l2" * (comparison.norm == "l2"), comparison.noise),
    )
    _say(console, f"{'accuracy':18} {'A [95 %]':17} {'B [95 %]':17} right only: A    B      p", "dim")
    for name, figures in rows:
        _say(console, f"{name:18} {_pair(figures.accuracy, figures.mcnemar)}")
    _say(console)
    _say(console, f"{'labels that differ':18} [95 %]", "dim")
    for name, figures in rows:
        _say(console, f"{name:18} {_interval(figures.flips)}  {figures.flips.k} of {figures.flips.of} images")
    _say(console)
    _say(console, _scores(clean.scores))
    _say(console)
    crafted = [(f"crafted on {made.crafted_on}", made.ties) for made in comparison.adversarial]
    _say(console, f"{'ties at the top':18} {'A':17} B", "dim")
    for name, ties in (*((name, figures.ties) for name, figures in rows), *crafted):
        _say(console, f"{name:18} {share(ties['A']):17} {share(ties['B'])}")
    counted = clean.with_ties
    _say(console, f"clean accuracy if each tie with the true class were right: {share(counted['A'])}, {share(counted['B'])}", "dim")
    if comparison.adversarial:
        _adversarial(comparison, console)
    render_layers(comparison.layers, console)
    if comparison.gates:
        _say(console)
    for gate in comparison.gates:
        verdict = "met" if gate.met else "NOT MET"
        text = f"--{gate.gate.replace('_', '-')} {gate.limit:g}: {verdict} ({gate.value:.4g})"
        _say(console, text, "" if gate.met else "bold red")


def _adversarial(comparison: Comparison, console: Console) -> None:
    _say(console)
    radius = in_words(comparison.norm, comparison.eps, comparison.pixels)
    title = f"Adversarial examples of each, shown to both: {comparison.attack.name if comparison.attack else ''} at {radius}"
    _say(console, title[:80], "bold")
    _say(console, f"{'crafted on':11}{'robust on A':17} {'robust on B':17} stands only: A    B      p differ", "dim")
    for made in comparison.adversarial:
        line = _pair(made.robust_accuracy, made.mcnemar)
        _say(console, f"{made.crafted_on:11}{line}   {share(made.flips):>4}")


def render_layers(layers: Layers, console: Console) -> None:
    """The table op by op, or why there is none."""
    a, b = plain(layers.base, 16), plain(layers.other, 16)
    _say(console)
    if layers.reason:
        _say(console, f"Op by op: {plain(layers.reason)}", "dim")
        return
    _say(console, f"Op by op, {b} against {a}, on {layers.n} images", "bold")
    _say(console, f"{'':3} {'op':18} {'output':22} {'elems':>6} {'as it runs':>12} {'alone':>12}", "dim")
    _say(console, f"{'':52} {'differ  LSB':>12} {'differ  LSB':>12}", "dim")
    for line in layers.lines:
        _say(console, _op(line))
    for text in first_op(layers):
        _say(console, text)
    if any(line.changed for line in layers.lines):
        _say(console, "*: weights, quantisation or options of the two files differ here", "dim")
    if layers.missing:
        _say(console, f"{layers.missing} ops are not shown: a runtime folds their output away", "dim")
    for name, how in (layers.origin or {}).items():
        apart = (layers.unequal or {}).get(name, 0)
        _say(console, f"tensors of {plain(name, 16)}: {HOW[how]}" + (f", but not on {apart} images" if apart else ""), "dim")


def _op(line: Line) -> str:
    ran = f"{_rate(line.differ, line.elements)} {_steps(line.largest)}"
    known = line.alone is not None and line.alone_largest is not None
    alone = f"{_rate(line.alone or 0, line.elements)} {_steps(line.alone_largest or 0)}" if known else "-"
    kind = _short(plain(line.kind), 17) + ("*" if line.changed else " ")
    output = _short(plain(line.output), 22)
    return f"{line.index:>3} {kind:18} {output:22} {compact(line.elements):>6} {ran:>12} {alone:>12}"


def first_op(layers: Layers) -> list[str]:
    """Where the two diverge first, in one or two lines: all that a summary has room for."""
    first = layers.first
    if first is None:
        return ["first diverging op: none; every element is equal"]
    where = f"first diverging op: {first.index} {plain(first.kind, 24)} ({_short(plain(first.output), 34)})"
    return [where, f"  {first.differ:,} of {first.elements:,} elements, at most {first.largest:.3g} LSB apart"]


def _interval(value: Share) -> str:
    bounds = "" if value.interval is None else " [" + " ".join(number(v) for v in value.interval) + "]"
    return f"{share(value)}{bounds}"


def _pair(values: Shares, test: Discordant) -> str:
    return f"{_interval(values['A']):17} {_interval(values['B']):17} {test.only_a:>13} {test.only_b:>4} {p_value(test.p):>6}"


def _scores(scores: Scores | None) -> str:
    if scores is None:
        return "scores: not compared, a side gives none"
    step = scores.lsb["A"]
    steps = f" ({scores.largest / step:.3g} LSB)" if step and step == scores.lsb["B"] else ""
    what = {"probs": "probabilities", "logits": "logits"}[scores.kind]
    return f"scores ({what}): at most {scores.largest:.3g}{steps} apart, {scores.mean:.2g} on average"


def _rate(count: int, of: int) -> str:
    percent = 100 * count / max(of, 1)
    return "0 %" if not count else "<.01 %" if percent < 0.01 else f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.2g} %"


def _steps(value: float) -> str:
    return f"{value:4.3g}" if value < 1000 else f"{value:4.0e}"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
