"""The sentences beside the numbers: what the attacker knows, and what is *not* shown (docs/concepts.md: *What a report may say*)."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

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


def radius(cell: dict[str, Any]) -> str:
    """``8/255 l_inf`` , with the pixel steps it comes to where those are not plain to see."""
    text = f"{epsilon(cell['eps'])} {NORMS.get(cell['norm'], cell['norm'])}"
    pixels = cell["pixels"]
    return text if pixels is None or text.startswith(f"{pixels:g}/") or cell["norm"] != "linf" else f"{text} ({pixels:g} px)"


def threat_model(summary: dict[str, Any]) -> list[str]:
    """What the attacker holds (abstraction level) and what is queried (physical level), kept apart as B19 section 3.3.2 does."""
    cells = [c for c in summary["cells"] if c["kind"] != "noise"]
    said = []
    if isinstance(summary["access"], dict) and "sentence" in summary["access"]:
        said.append(_sentence(str(summary["access"]["sentence"])))
    if cells:
        limits = " or ".join(dict.fromkeys(radius(c) for c in cells))
        said.append(f"After preprocessing the attacker may change every pixel in whole steps of 0..255, by at most {limits}.")
        said.append("Any wrong class counts as success.")
    groups: dict[tuple[str, str, str], list[str]] = {}
    for cell in cells:
        groups.setdefault((cell["crafted_on"], cell["access"], cell["kind"]), []).append(cell["attack"])
    for (on, access, kind), attacks in groups.items():
        others = list(
            dict.fromkeys(
                x["target"]
                for c in cells
                if (c["crafted_on"], c["access"], c["kind"]) == (on, access, kind)
                for x in c["targets"]
                if x["target"] != on and not x["before_grid"]
            )
        )
        replay = f" What it found is replayed on {_and(others)}." if others else ""
        name = _and(list(dict.fromkeys(attacks)))
        if kind == "query" and access == "logits":
            held, seen = (
                "the file, and sees it without its last softmax",
                f"logits of {on}, by queries; success is judged on its real output",
            )
        elif kind == "query":
            held, seen = "nothing of the network", f"{access or 'answers'} of {on}, by queries"
        elif on.startswith("keras"):
            held, seen = f"{on} with its {access or 'gradients'}", "no runtime is queried while crafting"
        else:
            held, seen = f"the file, differentiated straight through the roundings of {on}", "no runtime is queried while crafting"
            clamps = {z["clamp"] for c in cells if c["crafted_on"] == on for z in c["zero_gradients"]}
            if len(clamps) > 1:
                seen = f"of a clipped and a pass-through clamp's candidate the worse for the defender on {on} is kept"
        said.append(f"{name}: abstraction level: the attacker holds {held}; physical level: {seen}.{replay}")
    said += [
        f"{c['target']} computes what {c['by']} answers; every row it gives is confirmed on {c['by']}, whose own answers are shown:"
        f" {c['differ']} of {c['rows']} differ."
        for c in summary["confirmed"]
    ]
    if any(c["kind"] == "noise" for c in summary["cells"]):
        said.append("Uniform noise of the same radius is a baseline, not an attack: it is in no worst case.")
    return said


def not_shown(summary: dict[str, Any], plan: Any) -> list[str]:
    """Honest limits, read off the run."""
    n, cells = summary["run"]["n"], summary["cells"]
    attacks = [c for c in cells if c["kind"] != "noise"]
    targets = {t["name"]: t for t in summary["targets"]}
    said = ["Robust accuracy is an upper bound: a stronger, longer or adaptive attack can only lower it. It is no proof and no verdict."]
    if summary["unfinished"]:
        said.append("The run is not finished: every figure is over the rows that are, and will move.")
    said += [f"{t['name']} could not run this file: {t['reason'].rstrip('.')}." for t in summary["targets"] if t["status"] != "runs"]
    if n < 500:
        said.append(f"With n = {n} nothing here is a claim against another tool, paper or network: that takes at least 500 rows.")
    seed = f" ({plan['seed']})" if isinstance(plan, dict) and isinstance(plan.get("seed"), int) else ""
    said.append(f"One seed{seed} drew the images and the attacks' random choices.")
    said.append("One trained network was measured: nothing here is a claim about a bit-width or a quantiser.")
    gradient_on = {c["crafted_on"] for c in attacks if c["kind"] == "gradient"}
    if gradient_on and all(on.startswith("keras") for on in gradient_on):
        said.append("Gradients came from the Keras network: no white-box attack on the integer graph of the deployed file itself was run.")
    for cell in attacks:
        least = min((z["rows"] for z in cell["zero_gradients"]), key=lambda rows: rows["k"], default=None)
        if least and least["k"]:
            said.append(
                f"{cell['attack']} at {radius(cell)}: the gradient of {least['k']} of {least['of']} images was exactly zero;"
                " those were hardly attacked."
            )
    if attacks and not gradient_on:
        said.append("Only query attacks were run: an attacker who holds the network or the file has gradients, and may find more.")
    if attacks and not any(c["kind"] == "query" for c in attacks) and all(on.startswith("keras") for on in gradient_on):
        said.append("Only transferred examples were tried: none of the attacks listened to a deployed runtime.")
    if (norms := {c["norm"] for c in attacks}) and len(norms) == 1:
        name = NORMS.get(norms.copy().pop(), "one norm")
        said.append(f"Only {name} changes of the pixels: no other norm, patch, rotation, natural corruption or printed image.")
    said.append("The attack starts after decoding, resizing and cropping: camera, decoder and preprocessing are taken as they are.")
    bare = list(dict.fromkeys(radius(c) for c in attacks if any(x["floor"] and x["floor"]["noise"] is None for x in c["targets"])))
    if bare:
        said.append(f"No uniform-noise baseline was run at {_and(bare)}: the noise floor there is from clean and adversarial images alone.")
    said += [
        f"{c['target']} is NOT {c['by']} on {c['differ']} of {c['rows']} rows: {c['by']}'s answers count, and queries were spent on another"
        " function; please report the file."
        for c in summary["confirmed"]
        if c["differ"]
    ]
    identities = {name: json.dumps(t["identity"]).lower() for name, t in targets.items() if t["status"] == "runs"}
    if any("xnnpack" in name and ("x86" in text or "amd64" in text) for name, text in identities.items()):
        said.append("XNNPACK ran on x86-64: on ARM it has other kernels, and may answer some images differently.")
    if "tflm" in identities:
        said.append(
            "TFLM ran on this host: its arena size is an upper estimate for a microcontroller, and vendor kernels may round otherwise."
        )
    boards = [name for name, text in identities.items() if '"answers.csv"' in text]
    if boards:
        said.append(f"What {_and(boards)} answered was read from a CSV file and is taken as given: edgeq did not see that device run.")
    return said


def zero_gradients(cell: dict[str, Any]) -> str:
    """``first gradient exactly zero: clipped 0 of 50 rows, .013 of pixels``; empty where no gradient was followed."""
    parts = []
    for z in cell["zero_gradients"]:
        pixels = "" if z["pixels"] is None else f", {z['pixels']['share']:.3f} of pixels"
        parts.append(f"{z['clamp'] + ' ' if z['clamp'] else ''}{z['rows']['k']} of {z['rows']['of']} rows{pixels}")
    return f"first gradient exactly zero: {'; '.join(parts)}" if parts else ""


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _and(items: list[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
