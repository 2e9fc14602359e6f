"""The comparison in a terminal: 80 columns, whatever the names and numbers, and nothing of a file's own words obeyed."""

from __future__ import annotations

import io
from dataclasses import asdict

import numpy as np
from rich.console import Console

from edgeq.core.answer import Answer
from edgeq.core.rows import Rows
from edgeq.core.threat import Threat
from edgeq.measure.comparison import compare
from edgeq.measure.layers import Layers, Line
from edgeq.report.compare import render, render_layers


class Fixed:
    batch = 8

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def answer(self, images: np.ndarray) -> Answer:
        return Answer("probs", np.tile(np.array([[100 - self.shift, 27, 5]], np.int8), (len(images), 1)), 1 / 256, -128)


def table(**changes) -> Layers:
    lines = (
        Line(0, "CONV_2D", "first", 16_384, 0, 0.0, 0, 0.0, False),
        Line(1, "DEPTHWISE_CONV_2D", "a/very/long/name;of/many/parts;that/does/not/fit", 1_638_400_000, 5, 1.0, 5, 1.0, True),
        Line(137, "SOFTMAX", "\x1b[2J[red]out", 1_000, 999, 112.0, None, None, False),
        Line(138, "DEQUANTIZE", "floats", 10, 10, 1e30, 10, 12345.6, False),
    )
    return Layers("A", "B", 50, lines, {"A": "kept", "B": "simulated"}, {"A": 0, "B": 3}, 2, **changes)


def content(**changes):
    rows = Rows(np.arange(9), np.zeros(9, np.int64))
    shape = np.zeros((9, 2, 2, 1), np.uint8)
    figures = compare((Fixed(0), Fixed(90)), lambda part: shape[part], rows, Threat("linf", 0.03), 0)
    robust = {"robust_accuracy": figures["clean"]["accuracy"], "mcnemar": {"only_a": 10_000, "only_b": 0, "p": 1e-9}}
    made = [{"crafted_on": side, "flips": figures["clean"]["flips"], "ties": figures["clean"]["ties"], **robust} for side in "AB"]
    attack = {"name": "pgd", "params": {"steps": 40}, "max_queries": None}
    sides = {side: {"file": f"{side}-{'long' * 30}.tflite", "runtime": "litert-reference"} for side in "AB"}
    gates = [
        {"gate": "max_flips", "limit": 0.01, "value": 0.5, "met": False},
        {"gate": "max_robust_drop", "limit": 1, "value": 0, "met": True},
    ]
    return {
        "format": 1, "sides": sides, "data": "zip:" + "x" * 100, **figures, "adversarial": made, "attack": attack,
        "layers": table().to_json(), "gates": gates, **changes,
    }  # fmt: skip


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
    text = "\n".join(printed(render_layers, equal.to_json()))
    assert "every element is equal" in text
    assert "*:" not in text
    text = "\n".join(printed(render_layers, Layers("A", "B", 0, reason="not compared, ort has others").to_json()))
    assert text.strip() == "Op by op: not compared, ort has others"


def test_labels_have_no_scores() -> None:
    value = content()
    value["clean"] = {**value["clean"], "scores": None}
    assert any("not compared, a side gives none" in line for line in printed(render, value))


def test_the_first_diverging_op_travels_in_the_json() -> None:
    found = table().to_json()
    assert found["first"] == asdict(table().lines[1])
    assert found["lines"][0]["kind"] == "CONV_2D"
