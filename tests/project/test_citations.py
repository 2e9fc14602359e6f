"""What the code cites stands in the pages: ``docs/concepts.md: *Heading*`` names a heading of that page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CITATION = re.compile(r"docs/concepts\.md:?((?:[\s,]*\*[^*]+\*)*)")
CITING = sorted(path for room in ("edgeq", "tools") for path in (ROOT / room).rglob("*.py") if "docs/concepts.md" in path.read_text())


def test_the_definitions_are_cited() -> None:
    assert len(CITING) >= 10


@pytest.mark.parametrize("path", CITING, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_section_that_is_cited_is_there(path: Path) -> None:
    headings = set(re.findall(r"^#+ (.+)$", (ROOT / "docs" / "concepts.md").read_text(), re.MULTILINE))
    for citation in CITATION.finditer(path.read_text()):
        cited = [" ".join(name.split()) for name in re.findall(r"\*([^*]+)\*", citation[1])]
        assert cited, "a citation names its section"
        assert set(cited) <= headings


def test_no_page_is_cited_that_the_project_does_not_have() -> None:
    assert not [path for room in ("edgeq", "tools", "tests") for path in (ROOT / room).rglob("*.py") if "MEAS" + "URES" in path.read_text()]
