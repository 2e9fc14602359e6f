"""The comparison in a terminal: 80 columns, whatever the names and numbers, and nothing of a file's own words obeyed."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

from rich.console import Console

from edgeq.measure.comparison import Adversarial, Clean, Comparison, Crafter, Discordant, Gate, Noise, Scores, SideFigures
from edgeq.measure.figures import share
from edgeq.measure.layers import Layers, Line
from edgeq.report.compare import render, render_layers


def table(**changes) -> Layers:
    lines = (
        Line(0, "CONV_2D", "first", 16_384, 0, 0.0, 0, 0.0, False),
        Line(1, "DEPTHWISE_CONV_2D", "a/very/long/name;of/many/parts;that/does/not/fit", 1_638_400_000, 5, 1.0, 5, 1.0, True),
        Line(137, "SOFTMAX", "\x1b[2J[red]out", 1_000, 999, 112.0, None, None, False),
        Line(138, "DEQUANTIZE", "floats", 10, 10, 1e30, 10, 12345.6, False),
    )
    return Layers("A", "B", 50, lines, {"A": "kept", "B": "simulated"}, {"A": 0, "B": 3}, 2, **changes)


def content(**changes) -> Comparison:
    nothing, all_ = share(0, 9), share(9, 9)
    both, none = {"A": all_, "B": nothing}, {"A": nothing, "B": nothing}
    clean = Clean(both, Discordant(9, 0, 0.004), both, all_, none, Scores("probs", 0.35, 0.1, {"A": 1 / 256, "B": 1 / 256}))
    made = tuple(Adversarial(side, both, both, both, Discordant(10_000, 0, 1e-9), all_, none) for side in "AB")
    sides = {side: SideFigures(f"{side}-{'long' * 30}.tflite", "ab" * 32, "litert-reference", "probs", {}) for side in "AB"}
    gates = (Gate("max_flips", 0.01, 0.5, False), Gate("max_robust_drop", 1, 0, True))
    warnings = ("A answers all 9 clean images with the same scores: it does not see the image, so its figures mean nothing.",)
    noise = Noise(both, Discordant(9, 0, 0.004), all_, none)
    found = Comparison(1, sides, "zip:" + "x" * 100, warnings, 9, "linf", 0.03, 7, 0, Crafter("pgd", {"steps": 40}, None), clean, noise,
                       made, table(), gates)  # fmt: skip
    return replace(found, **changes)


def printed(show, value) -> list[str]:
    out = io.StringIO()
    show(value, Console(file=out, width=80, highlight=False))
    return out.getvalue().splitlines()


def test_eighty_columns_and_all_that_matters() -> None:
    lines = printed(render, content())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "[red]out" in text
    assert "--max-flips 0.01: NOT MET (0.5)" in text
    assert lines[0].startswith("WARNING: A answers all 9 clean images with the same scores"), "above all figures"
    assert [line.split() for line in lines if line.startswith("crafted on A ")] == [["crafted", "on", "A", ".000", ".000"]]
    assert "--max-robust-drop 1: met (0)" in text
    assert "first diverging op: 1 DEPTHWISE_CONV_2D" in text
    assert "pgd at" in text
    assert "(7 px)" in text
    assert "<.001" in text
    assert "tensors of B: simulated, with equal answers, but not on 3 images" in text
    assert "2 ops are not shown" in text


def test_nothing_diverges_and_nothing_is_compared() -> None:
    equal = Layers("litert-xnnpack", "tflm", 4, (Line(0, "CONV_2D", "x", 10, 0, 0.0, 0, 0.0, False),), {"tflm": "kept"}, {"tflm": 0})
    text = "\n".join(printed(render_layers, equal))
    assert "every element is equal" in text
    assert "*:" not in text
    text = "\n".join(printed(render_layers, Layers("A", "B", 0, reason="not compared, ort has others")))
    assert text.strip() == "Op by op: not compared, ort has others"


def test_labels_have_no_scores() -> None:
    value = content(clean=replace(content().clean, scores=None))
    assert any("not compared, a side gives none" in line for line in printed(render, value))


def test_the_first_diverging_op_travels_in_the_json() -> None:
    found = table().to_json()
    assert found["first"] == asdict(table().lines[1])
    assert found["lines"][0]["kind"] == "CONV_2D"
