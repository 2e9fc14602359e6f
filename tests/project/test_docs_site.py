"""The site's pages and links, made by hooks of MkDocs, and the references of docstrings. Skipped without the extra ``docs``."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mkdocs")
docs_site = pytest.importorskip("docs_site")
docs_roles = pytest.importorskip("docs_roles")
griffe = pytest.importorskip("griffe")


def moved(at: str, markdown: str) -> str:
    page: Any = SimpleNamespace(file=SimpleNamespace(src_uri=at))
    return docs_site.on_page_markdown(markdown, page, None, None)


@pytest.mark.parametrize(
    ("at", "here", "there"),
    [
        ("index.md", "[a](docs/lowbit.md#limits)", "[a](lowbit.md#limits)"),
        ("index.md", "[a](CONTRIBUTING.md)", "[a](contributing.md)"),
        ("index.md", "[`a`](docs/results/)", "[`a`](results/index.md)"),
        ("results/attack.md", "[a](../concepts.md) [b](../../SECURITY.md)", "[a](../concepts.md) [b](../security.md)"),
        ("security.md", "[a](docs/results/hostile.md)", "[a](results/hostile.md)"),
        ("index.md", "see [the licence](LICENSE) and [this](tools/fuzz_files.py)", "see the licence and this"),
        ("index.md", "[a](https://example.org/b.md) [c](#d)", "[a](https://example.org/b.md) [c](#d)"),
        ("index.md", "`[a](docs/b.md)`\n```\n[a](docs/b.md)\n```", "`[a](docs/b.md)`\n```\n[a](docs/b.md)\n```"),
    ],
)
def test_links_between_files_become_links_between_pages(at: str, here: str, there: str) -> None:
    assert moved(at, here) == there


def test_the_order_takes_pages_as_they_come_and_go() -> None:
    pages = [
        "index.md",
        "zebra.md",
        "security.md",
        "quickstart.md",
        "reference/index.md",
        "reference/core.md",
        "results/index.md",
        "results/a.md",
    ]
    assert list(docs_site.navigation(pages)) == [
        "index.md",
        "quickstart.md",
        "zebra.md",
        {"Results": ["results/index.md", "results/a.md"]},
        {"Python reference": ["reference/index.md", "reference/core.md"]},
        "security.md",
    ]
    assert "python.md" in list(docs_site.navigation([*pages, "python.md"]))


def test_every_public_module_has_its_place_in_the_reference() -> None:
    assert "::: edgeq.core.threat\n" in docs_site.reference("core")
    assert "::: edgeq.integer.ops.linear\n" in docs_site.reference("integer")
    assert "._" not in docs_site.reference("runtimes")
    assert "cli" not in docs_site.rooms()


def test_references_in_docstrings_are_links_to_what_they_mean() -> None:
    code = "from house.errors import Fault\nclass Here:\n    def method(self): ...\n"
    module = griffe.visit("house.room.module", filepath=Path("house/room/module.py"), code=code)
    text = (
        "Raises :class:`Fault`; see :meth:`Here.method`, :func:`~house.other.f`, :mod:`.beside`, :func:`._own` and "
        ":func:`edgeq.cli.main.main`."
    )
    assert docs_roles.linked(text, module) == (
        "Raises [`Fault`][house.errors.Fault]; see [`Here.method`][house.room.module.Here.method], [`f`][house.other.f], "
        "[`beside`][house.room.beside], `_own` and `edgeq.cli.main.main`."
    )
    cited = "What counts (docs/concepts.md: *Pixels and\n    the grid*, *Ties*)."
    assert "[Pixels and\n    the grid](../concepts.md#pixels-and-the-grid), [Ties](../concepts.md#ties)" in docs_roles.linked(cited, module)
