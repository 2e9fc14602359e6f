"""The examples of docs/python.md and the cells of docs/tour.ipynb run as they stand."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # whole runs in real interpreters
DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"(<!-- needs TensorFlow -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the file that the examples are about."""
    shutil.copy(DOCS / "digits.tflite", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(blocks: list[str]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, block, "exec"), names)
    return names


def test_the_examples_of_the_page_run_in_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall((DOCS / "python.md").read_text())
    assert len(blocks) >= 6
    before = "tensorflow" in sys.modules
    names = run([code for heavy, code in blocks if not heavy])
    assert ("tensorflow" in sys.modules) == before
    assert names["accuracy"] > 0.9
    assert (place / "r.html").read_text().startswith("<!doctype html>")
    assert len(names["rows"]) == 2 * 5 * 100
    assert "below one pixel" in capsys.readouterr().out


@pytest.mark.tensorflow
def test_the_examples_with_gradients_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall((DOCS / "python.md").read_text())
    first = blocks.index(next(block for block in blocks if block[0]))
    names = run([blocks[0][1], *(code for heavy, code in blocks if heavy)])
    assert first > 0
    assert names["result"].summary.cells[-1].kind == "gradient"
    assert "of the white box" in capsys.readouterr().out


def test_the_cells_of_the_notebook_run_and_hold_no_output(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((DOCS / "tour.ipynb").read_text())
    assert (notebook["nbformat"], len({cell["id"] for cell in notebook["cells"]})) == (4, len(notebook["cells"]))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    names = run(["".join(cell["source"]) for cell in code])
    assert "under SPSA" in capsys.readouterr().out
    assert names["broken"]
    assert names["right"].mean() < 1
