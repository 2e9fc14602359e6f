"""The graph of imports: whether there is a circle between modules or between rooms, and the picture of the rooms in docs/architecture.md.

    python tools/import_graph.py            # exit code 1 where there is a circle, or where the picture is not of this code
    python tools/import_graph.py --write    # draw the picture again

A room is a package or module directly inside ``edgeq``. Imports inside functions and for the type checker alone count as well. The front
door, ``edgeq/__init__.py``, is left out: it looks its names up only when they are asked for, and every module imports it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

Graph = Mapping[str, set[str]]  # each name with what it imports

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: drawn by tools/import_graph.py -->", "<!-- end of rooms -->"


def modules(package: str) -> Graph:
    """What each module of ``package`` imports from it, the front door left out. ``package`` is found on ``sys.path`` and not imported."""
    graph = grimp.build_graph(package, cache_dir=None)
    return {m: set(graph.find_modules_directly_imported_by(m)) - {package} for m in graph.modules - {package}}


def rooms(imports: Graph) -> Graph:
    """The same between rooms: ``edgeq.core.threat`` lies in ``core``. ``__main__`` is no room, as nothing can import it."""
    between: dict[str, set[str]] = {}
    for module, imported in imports.items():
        room = module.split(".")[1]
        between.setdefault(room, set()).update({name.split(".")[1] for name in imported} - {room})
    between.pop("__main__", None)
    return between


def circle(imports: Graph) -> list[str]:
    """Names of which each imports the next, the first one again at the end; empty where there is no circle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def reduced(imports: Graph) -> Graph:
    """Without the imports that others imply: of ``a -> b -> c`` and ``a -> c`` the latter goes. ``imports`` must hold no circle."""
    below: dict[str, set[str]] = {}
    for name in TopologicalSorter(imports).static_order():
        direct = imports.get(name, set())
        below[name] = direct.union(*(below[other] for other in direct))
    return {name: {n for n in direct if not any(n in below[other] for other in direct)} for name, direct in imports.items()}


def mermaid(imports: Graph) -> str:
    """The graph as a Markdown block that GitHub and the site draw."""
    arrows = [f"  {name} --> {other}" for name, others in sorted(imports.items()) for other in sorted(others)]
    alone = [f"  {name}" for name in sorted(imports) if not imports[name] and not any(name in others for others in imports.values())]
    return "\n".join(["```mermaid", "flowchart TD", *arrows, *alone, "```"])


def drawn(page: str, picture: str) -> str:
    """``page`` with ``picture`` between its two markers. Raises ValueError where a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or, behind it, {END}")
    return f"{before}{BEGIN}\n{picture}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="draw the picture in docs/architecture.md again")
    write = parser.parse_args().write
    by_module = modules("edgeq")
    by_room = rooms(by_module)
    for kind, graph in (("modules", by_module), ("rooms", by_room)):
        if names := circle(graph):
            sys.exit(f"a circle of {kind}: " + " -> ".join(names))
    page = PAGE.read_text()
    current = drawn(page, mermaid(reduced(by_room)))
    if write:
        PAGE.write_text(current)
    elif current != page:
        sys.exit("docs/architecture.md shows other rooms than edgeq/ has: run `make graph` and commit the page")
    print(f"imports: {len(by_module)} modules in {len(by_room)} rooms, no circle")


if __name__ == "__main__":
    main()
