"""The alignment in a terminal: 80 columns, whatever the names and numbers, and nothing of a file's own words obeyed."""

from __future__ import annotations

import io

from rich.console import Console

from edgeq.measure.alignment import share
from edgeq.measure.value_shift import Line
from edgeq.report.align import render

NAMES = ("float", "file clipped", "file through", "coordinate scores", "spsa scores")


def content(**changes):
    pair = {"mean": -0.1234, "interval": [-0.9999, -0.1111], "median": -0.5, "signs": 0.5, "rows": 10_000, "apart": 9_999}
    empty = {"mean": None, "interval": None, "median": None, "signs": None, "rows": 0, "apart": 10_000}
    difference = {"params": {"step": 127, "pixels": 64}, "runtime": "litert-reference", "reference": "file through", "control": False,
                  "queries": 100_000, "ceiling": None, "zero": share(999, 1000), "explode": share(1, 1000),
                  "median_size": 123456.7}  # fmt: skip
    spsa = {**difference, "params": {"step": 1, "pairs": 50_000}, "ceiling": 0.123, "median_size": None, "explode": None}
    control = {**difference, "reference": "float", "control": True}
    gradient = {"rows": share(10_000, 10_000), "pixels": share(1, 2), "large": share(0, 1), "not_finite": 3}
    lines = [
        Line(0, "conv", "\x1b[2J[red]out", 10, 0, 0, 0, 0, 0, 0.0, 0.0),
        Line(137, "average_pool", "a/very/long/name/of;many/parts", 10**9, 10**9, 10**6, 10**8, 10**7, 5, 254.9, 1234.0),
    ]
    measured = {"robust": share(1, 3), "ties": share(1, 3), "lines": [line.to_json() for line in lines]}
    shift = {"eps": 8 / 255, "pixels": 8, "crafted_on": "the file", "clean": share(2, 3), "ties": share(0, 3), "unequal": 7, "skipped": 2,
             "adversarial": measured, "noise": measured}  # fmt: skip
    return {
        "warnings": [],
        "target": {"file": "long" * 30}, "source": {"file": "float" * 30}, "runtime": "litert-reference", "data": "zip:" + "x" * 100,
        "n": 10_000, "seed": 0, "objective": "ce", "size": 150_528, "explodes": 10, "notes": [],
        "cosines": [{"a": "coordinate scores", "b": "coordinate logits", **pair}, {"a": "float", "b": "file through", **empty}],
        "gradients": dict.fromkeys(NAMES, gradient),
        "differences": {"coordinate scores": difference, "spsa scores": spsa, "coordinate float": control},
        "attack": {"name": "pgd", "params": {}}, "shift": [shift],
        "logit_variance": {"float": 12345.678, "file": 0.00123, "ratio": 1e-7, "interval": [0, 1e-6], "rows": 5, "apart": 1}, **changes,
    }  # fmt: skip


def printed(value) -> list[str]:
    out = io.StringIO()
    render(value, Console(file=out, width=80, highlight=False))
    return out.getvalue().splitlines()


def test_eighty_columns_and_all_that_matters() -> None:
    lines = printed(content())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "\x1b" not in text
    assert "[red]out" in text
    assert "ties:  clean .000, pgd .333, uniform noise .333" in text
    assert "…ry/long/name/of" in text
    assert "-.123 [-1.00 -.111]" in text
    assert "on 7 images not with litert-reference's answer" in text
    assert "50000 pairs for 150,528 components give .123" in text
    assert "3 rows hold no number" in text
    assert "1 images are left out" in text
    assert "explode: above 10 times file through's slope" in text
    assert "float's slope" not in text  # a control's reference is said beside it


def test_what_was_not_measured_leaves_no_empty_table() -> None:
    text = "\n".join(printed(content(source=None, differences={}, shift=[], logit_variance=None)))
    for word in ("Finite differences", "Value shift", "Variance", "spsa:", "float:"):
        assert word not in text
    flat = {"float": None, "file": None, "ratio": None, "interval": None, "rows": 0, "apart": 3}
    assert "not measured: the float network's logits do not vary" in "\n".join(printed(content(logit_variance=flat)))
