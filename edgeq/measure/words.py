"""The sentences beside the numbers: what the attacker knows, and what is *not* shown (docs/concepts.md: *What a report may say*)."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, Protocol

from edgeq.core.numbers import number
from edgeq.measure.figures import CellFigures, Summary, TargetFigures
from edgeq.targets.spec import KERAS

STATEMENT = "This file, on this runtime, under these attacks: at least this weak."
RIGHT = "the runtime's own argmax, the lowest index among equal scores, is the true class"
FOOLED = "some class strictly exceeds the true one's raw score; a tie fools nobody, and proves nobody right"
NORMS = {"linf": "l_inf", "l2": "l2"}


def epsilon(eps: float | None) -> str:
    """``8/255`` where the radius is a whole number of pixel steps, else a short decimal."""
    if eps is None:
        return "?"
    steps = Fraction(eps * 255).limit_denominator(2)
    return f"{steps.numerator}/255" if steps.denominator == 1 and abs(float(steps) - eps * 255) < 1e-6 else f"{eps:.4g}"


class HasRadius(Protocol):
    """A figure of :mod:`edgeq.measure.figures` with a radius."""

    @property
    def norm(self) -> str: ...
    @property
    def eps(self) -> float | None: ...
    @property
    def pixels(self) -> float | None: ...


def radius(figure: HasRadius) -> str:
    """``8/255 l_inf`` , with the pixel steps it comes to where those are not plain to see."""
    return in_words(figure.norm, figure.eps, figure.pixels)


def in_words(norm: str, eps: float | None, pixels: float | None) -> str:
    """A radius, as :func:`radius` says it."""
    text = f"{epsilon(eps)} {NORMS.get(norm, norm)}"
    return text if pixels is None or text.startswith(f"{pixels:g}/") or norm != "linf" else f"{text} ({pixels:g} px)"


def threat_model(summary: Summary) -> list[str]:
    """What the attacker has (abstraction level) and what is queried (physical level), kept apart as B19 section 3.3.2 does."""
    cells = [c for c in summary.cells if c.kind != "noise"]
    lines = []
    if isinstance(summary.access, dict) and "sentence" in summary.access:
        lines.append(_sentence(str(summary.access["sentence"])))
    if cells:
        limits = " or ".join(dict.fromkeys(radius(c) for c in cells))
        lines.append(f"After preprocessing the attacker may change every pixel in whole steps of 0..255, by at most {limits}.")
        goals = list(dict.fromkeys(c.goal for c in cells))
        wanted = _and([f"class {g.removeprefix('class:')}" if g.startswith("class") else "the class after the true one" for g in goals])
        lines.append("Any wrong class counts as success." if goals == ["untargeted"] else f"The attacker wants {wanted} alone at the top.")
    groups: dict[tuple[str, str, str], list[CellFigures]] = {}
    for cell in cells:
        groups.setdefault((cell.crafted_on, cell.access, cell.kind), []).append(cell)
    for (on, access, kind), group in groups.items():
        answered = (x.target for c in group for x in c.targets if x.target != on and not x.before_grid)
        others = list(dict.fromkeys(map(summary.name, answered)))
        every = {t.name for t in summary.targets if t.shown and not t.before_grid} - {summary.name(on)}
        where = "every other target" if len(others) > 3 and every <= set(others) else _and(others)
        replay = f" The candidates are replayed on {where}." if others else ""
        attacks, name, target = _and(list(dict.fromkeys(c.attack for c in group))), summary.name(on), summary.target(on)
        if kind == "query" and access == "logits":
            knows = "has the file, and sees it without its last softmax"
            sees = f"logits of {name}, by queries; success is judged on its real output"
        elif kind == "query":
            knows, sees = "knows nothing of the network", f"{access or 'answers'} of {name}, by queries"
        elif target is None or target.runtime == KERAS or target.role == "source" or target.derived == "mean":
            knows, sees = f"has {name} with its {access or 'gradients'}", "no runtime is queried while crafting"
        else:
            knows, sees = f"has the file, differentiated straight through the roundings of {name}", "no runtime is queried while crafting"
            clamps = {z.clamp for c in group for z in c.zero_gradients}
            if clamps == {""}:  # a file of floats
                knows = "has the file with its gradients"
            if len(clamps) > 1:
                sees = f"of a clipped and a pass-through clamp's candidate the worse for the defender on {name} is kept"
        lines.append(f"{attacks}: abstraction level: the attacker {knows}; physical level: {sees}.{replay}")
    lines += [
        f"{summary.name(c.target)} computes what {summary.name(c.by)} answers; every row it gives is confirmed on {summary.name(c.by)},"
        f" whose own answers are shown: {c.differ} of {c.rows} differ."
        for c in summary.confirmed
    ]
    if any(c.kind == "noise" for c in summary.cells):
        lines.append("Uniform noise of the same radius is a baseline, not an attack: it is in no worst case.")
    return lines


def not_shown(summary: Summary, plan: Any) -> list[str]:
    """Honest limits, read off the run."""
    n, cells = summary.run.n, summary.cells
    attacks = [c for c in cells if c.kind != "noise"]
    lines = ["Robust accuracy is an upper bound: a stronger, longer or adaptive attack can only lower it. It is no proof and no verdict."]
    if summary.unfinished:
        lines.append("The run is not finished: every figure is over the rows that are, and will move.")
    lines += [f"{t.name} could not run this file: {t.reason.rstrip('.')}." for t in summary.targets if not t.runs]
    if n < 500:
        lines.append(f"With n = {n} nothing here is a claim against another tool, paper or network: that takes at least 500 rows.")
    seed = f" ({plan['seed']})" if isinstance(plan, dict) and isinstance(plan.get("seed"), int) else ""
    lines.append(f"One seed{seed} drew the images and the attacks' random choices.")
    networks = {t.network for t in summary.targets if t.role == "target" and t.network}
    said = "One trained network was measured" if len(networks) < 2 else "Each network was trained once"
    lines.append(f"{said}: nothing here is a claim about a bit-width or a quantiser.")
    gradient_on = {c.crafted_on for c in attacks if c.kind == "gradient"}
    floats = {t.id for t in summary.targets if t.runtime == KERAS or t.role == "source"}
    if gradient_on and gradient_on <= floats:
        lines.append("Gradients came from the float network: no white-box attack on the integer graph of the deployed file itself was run.")
    for cell in attacks:
        least = min((z.rows for z in cell.zero_gradients), key=lambda rows: rows.k, default=None)
        if least is not None and least.k:
            lines.append(
                f"{cell.attack} at {radius(cell)}: the gradient of {least.k} of {least.of} images was exactly zero;"
                " those were hardly attacked."
            )
    if attacks and not gradient_on:
        lines.append("Only query attacks were run: an attacker who holds the network or the file has gradients, and may find more.")
    if attacks and not any(c.kind == "query" for c in attacks) and gradient_on <= floats:
        lines.append("Only transferred examples were tried: none of the attacks listened to a deployed runtime.")
    if (norms := {c.norm for c in attacks}) and len(norms) == 1:
        name = NORMS.get(norms.copy().pop(), "one norm")
        lines.append(f"Only {name} changes of the pixels: no other norm, patch, rotation, natural corruption or printed image.")
    lines.append("The attack starts after decoding, resizing and cropping: camera, decoder and preprocessing are taken as they are.")
    bare = list(dict.fromkeys(radius(c) for c in attacks if any(x.floor and x.floor.noise is None for x in c.targets)))
    if bare:
        lines.append(
            f"No uniform-noise baseline was run at {_and(bare)}: the noise floor there is from clean and adversarial images alone."
        )
    lines += [
        f"{summary.name(c.target)} is NOT {summary.name(c.by)} on {c.differ} of {c.rows} rows: {summary.name(c.by)}'s answers count, and"
        " queries were spent on another function; please report the file."
        for c in summary.confirmed
        if c.differ
    ]
    running = [t for t in summary.targets if t.runs]
    if any(t.runtime == "litert-xnnpack" and _on_x86(t) for t in running):
        lines.append("XNNPACK ran on x86-64: on ARM it has other kernels, and may answer some images differently.")
    if any(t.runtime == "tflm" for t in running):
        lines.append(
            "TFLM ran on this host: its arena size is an upper estimate for a microcontroller, and vendor kernels may round otherwise."
        )
    boards = [t.name for t in running if t.derived == "board"]
    if boards:
        lines.append(f"What {_and(boards)} answered was read from a CSV file and is taken as given: edgeq did not see that device run.")
    return lines


def _on_x86(target: TargetFigures) -> bool:
    text = json.dumps(target.identity).lower()
    return "x86" in text or "amd64" in text


def zero_gradients(cell: CellFigures) -> str:
    """``first gradient exactly zero: clipped 0 of 50 rows, .013 of pixels``; empty where no gradient was followed."""
    parts = []
    for z in cell.zero_gradients:
        pixels = "" if z.pixels is None else f", {number(z.pixels.share)} of pixels"
        parts.append(f"{z.clamp + ' ' if z.clamp else ''}{z.rows.k} of {z.rows.of} rows{pixels}")
    return f"first gradient exactly zero: {'; '.join(parts)}" if parts else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _and(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
