"""The tool that draws the graph of imports, on graphs whose circles and pictures are known by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import import_graph
import pytest
from import_graph import BEGIN, END, circle, drawn, mermaid, modules, reduced, rooms


def package(folder: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        path = folder / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return "house"


def test_a_circle_is_named_in_the_order_of_its_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    late = "def f():\n    from house import c\n"  # inside a function, where it would run
    files = {"__init__.py": "from house import a\n", "a.py": "import house.b\n", "b.py": late, "c.py": "from house import a\n", "d.py": ""}
    names = circle(modules(package(tmp_path, files)))
    assert names[0] == names[-1]
    assert set(pairwise(names)) == {
        ("house.a", "house.b"),
        ("house.b", "house.c"),
        ("house.c", "house.a"),
    }


def test_the_front_door_makes_no_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    files = {"__init__.py": "from house import a\nversion = 1\n", "a.py": "from house import version, b\n", "b.py": ""}
    assert modules(package(tmp_path, files)) == {"house.a": {"house.b"}, "house.b": set()}


def test_rooms_may_form_a_circle_where_modules_do_not() -> None:
    imports = {"e.one.a": {"e.two.a"}, "e.two.a": set(), "e.two.b": {"e.one.b"}, "e.one.b": set(), "e.__main__": {"e.one.a"}}
    assert circle(imports) == []
    assert rooms(imports) == {"one": {"two"}, "two": {"one"}}
    assert circle(rooms(imports)) in (["one", "two", "one"], ["two", "one", "two"])


def test_the_picture_leaves_out_what_other_arrows_imply() -> None:
    imports = {"top": {"left", "right", "bottom"}, "left": {"bottom"}, "right": {"bottom"}, "bottom": set(), "alone": set()}
    assert reduced(imports) == {"top": {"left", "right"}, "left": {"bottom"}, "right": {"bottom"}, "bottom": set(), "alone": set()}
    assert mermaid(reduced(imports)).splitlines() == [
        "```mermaid",
        "flowchart TD",
        "  left --> bottom",
        "  right --> bottom",
        "  top --> left",
        "  top --> right",
        "  alone",
        "```",
    ]


def test_only_what_stands_between_the_markers_is_drawn_again() -> None:
    page = f"# Rooms\n{BEGIN}\nold\n{END}\nmore\n"
    assert drawn(page, "new") == f"# Rooms\n{BEGIN}\nnew\n{END}\nmore\n"
    for broken in ("# Rooms\n", f"# Rooms\n{BEGIN}\n", f"{END}\n"):
        with pytest.raises(ValueError, match="lacks"):
            drawn(broken, "new")


def test_a_picture_of_other_rooms_fails_the_check_until_it_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n```mermaid\nflowchart TD\n  core --> cli\n```\n{END}\n")
    monkeypatch.setattr(import_graph, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["import_graph.py"])
    with pytest.raises(SystemExit, match="make graph"):
        import_graph.main()
    monkeypatch.setattr("sys.argv", ["import_graph.py", "--write"])
    import_graph.main()
    assert "core --> cli" not in page.read_text()
    monkeypatch.setattr("sys.argv", ["import_graph.py"])
    import_graph.main()
