"""What a plan says before anything is attacked."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_tflite

from edgeq.core.errors import EdgeqError
from edgeq.runs.plan import Plan
from edgeq.runs.prepare import prepare

ASKED = {"data": "digits", "n": 4, "runtimes": ("litert-reference",), "threads": 1}


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.classifier())
    return str(file)


@pytest.mark.parametrize(("budget", "said"), [(9, True), (10, False), (None, False)])
def test_a_budget_below_one_step_is_said(model: str, budget: int | None, said: bool) -> None:
    notes = prepare(Plan((model,), **ASKED, attacks=("spsa:batch=8", "noise"), max_queries=budget)).notes
    short = [note for note in notes if "--max-queries" in note]
    want = (
        "--max-queries 9 is too few: the clean check and one step of spsa take 10 queries, so the attack ends before its first step is made"
    )
    assert short == [want] * said


def test_a_number_of_pixels_is_not_taken_for_a_share_of_their_range(model: str) -> None:
    with pytest.raises(EdgeqError, match="for 8 pixel steps write 8/255 or 8px"):
        prepare(Plan((model,), **ASKED, attacks=("noise",), eps=("8",)))
