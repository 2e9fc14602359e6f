"""The alignment in a terminal: 80 columns, whatever the names and numbers, and nothing of a file's own words obeyed."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from edgeq.measure.alignment import Aligned, Cosine, Crafter, Differences, File, LogitVariance, Zeros
from edgeq.measure.figures import share
from edgeq.measure.value_shift import Line, Perturbed, Shift
from edgeq.report.align import render

NAMES = ("float", "file clipped", "file through", "coordinate scores", "spsa scores")


def content(**changes) -> Aligned:
    pairs = (
        Cosine("coordinate scores", "coordinate logits", -0.1234, (-0.9999, -0.1111), -0.5, 0.5, 10_000, 9_999),
        Cosine("float", "file through", None, None, None, None, 0, 10_000),
    )
    reference, rare = "file through", share(1, 1000)
    steps = Differences({"step": 127, "pixels": 64}, "litert-reference", reference, False, 100_000, None, share(999, 1000), rare, 123456.7)
    spsa = replace(steps, params={"step": 1, "pairs": 50_000}, ceiling=0.123, median_size=None, explode=None)
    control = replace(steps, reference="float", control=True)
    lines = (
        Line(0, "conv", "\x1b[2J[red]out", 10, 0, 0, 0, 0, 0, 0.0, 0.0),
        Line(137, "average_pool", "a/very/long/name/of;many/parts", 10**9, 10**9, 10**6, 10**8, 10**7, 5, 254.9, 1234.0),
    )
    changed = Perturbed(share(1, 3), share(1, 3), lines)
    found = Aligned(
        1, (), File("long" * 30, "ab"), File("float" * 30, "cd"), "litert-reference", {}, "zip:" + "x" * 100, 10_000, 0, "ce", 150_528, 10,
        dict.fromkeys(NAMES, Zeros(share(10_000, 10_000), share(1, 2), share(0, 1), 3)), pairs,
        {"coordinate scores": steps, "spsa scores": spsa, "coordinate float": control}, Crafter("pgd", {}),
        (Shift(8 / 255, 8, "the file", share(2, 3), share(0, 3), None, 7, 2, changed, changed),),
        LogitVariance(12345.678, 0.00123, 1e-7, (0, 1e-6), 5, 1), (),
    )  # fmt: skip
    return replace(found, **changes)


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
    assert "3 rows contain no number" in text
    assert "1 images are left out" in text
    assert "explode: above 10 times file through's slope" in text
    assert "float's slope" not in text  # a control's reference is said beside it


def test_what_was_not_measured_leaves_no_empty_table() -> None:
    text = "\n".join(printed(content(source=None, differences={}, shift=(), logit_variance=None)))
    for word in ("Finite differences", "Value shift", "Variance", "spsa:", "float:"):
        assert word not in text
    flat = LogitVariance(None, None, None, None, 0, 3)
    assert "not measured: the float network's logits do not vary" in "\n".join(printed(content(logit_variance=flat)))
