"""The tool that follows the links of Markdown pages, on a small repository with every way to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_links import anchors, faults, pages

GUIDE = """# Guide
## Right, fooled, tied
## What it `costs`
## Again
## Again
```
# not a heading
[not a link](nowhere.md)
```
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "edgeq").mkdir()
    (tmp_path / "edgeq" / "real.py").touch()
    (tmp_path / "docs" / "guide.md").write_text(GUIDE)
    return tmp_path


def of(root: Path, text: str) -> list[str]:
    page = root / "README.md"
    page.write_text(text)
    return list(faults(page, root))


def test_anchors_are_githubs() -> None:
    assert anchors(GUIDE) == {"guide", "right-fooled-tied", "what-it-costs", "again", "again-1"}


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/guide.md) [b](docs/guide.md#right-fooled-tied) [c](docs/) [d](#here)\n# Here",
        "[a](https://example.org/x.md) [b](mailto:a@b.c)",
        "[two\nlines](docs/guide.md#again-1), and [ref][r]\n\n[r]: docs/guide.md",
        "`edgeq/real.py`, `edgeq/attacks/NAME.py`, `edgeq inspect x`, and `[code](nowhere.md)`",
        "```\n[fenced](nowhere.md) `edgeq/gone.py`\n```",
    ],
)
def test_what_leads_somewhere_passes(root: Path, text: str) -> None:
    assert of(root, text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](docs/gone.md)", "README.md: docs/gone.md is not there"),
        ("[a](docs/guide.md#costs)", "README.md: docs/guide.md#costs: guide.md has no such heading"),
        ("[a](#nowhere)", "README.md: #nowhere: README.md has no such heading"),
        ("[a](docs/guide.md#not-a-heading)", "README.md: docs/guide.md#not-a-heading: guide.md has no such heading"),
        ("[a](../outside.md)", "README.md: ../outside.md is not there"),
        ("[ref][r]\n\n[r]: gone.md", "README.md: gone.md is not there"),
        ("![picture](docs/gone.png)", "README.md: docs/gone.png is not there"),
        ("see `edgeq/gone.py`", "README.md: `edgeq/gone.py` is not there"),
    ],
)
def test_what_leads_nowhere_is_named(root: Path, text: str, fault: str) -> None:
    assert of(root, text) == [fault]


def test_pages_are_those_of_the_top_folder_and_of_docs(root: Path) -> None:
    (root / "README.md").touch()
    (root / "edgeq" / "inner.md").touch()
    assert pages(root) == [root / "README.md", root / "docs" / "guide.md"]
