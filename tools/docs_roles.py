"""An extension of griffe, which reads docstrings for the API reference: references in them become links that a strict build checks.

* References as Sphinx has them (``:func:`` and its kind before a name in backticks), resolved as Python would where the docstring stands;
  ``.wrap`` is the module beside. What the reference does not show, private names and the command line, is set as code.
* ``docs/concepts.md: *Queries*`` links to that section.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:mod|class|func|meth|attr|data|exc):`(~?)([\w.]+)`")
_UNSHOWN = re.compile(r"^edgeq\.cli\b|\._")
_CITED = re.compile(r"docs/concepts\.md:\s+((?:\*[^*]+\*(?:,\s+)?)+)")


def slug(heading: str) -> str:
    """The anchor that MkDocs gives a heading of plain words, which may be broken over two lines."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def linked(text: str, place: griffe.Object) -> str:
    """A docstring with its references as links. A name that nothing answers to stays a link, so that the build fails and names it."""

    def role(match: re.Match[str]) -> str:
        name = match[2]
        path = _resolved(name, place)
        shown = name.rpartition(".")[2] if match[1] or name.startswith(".") else name
        return f"`{shown}`" if _UNSHOWN.search(path) else f"[`{shown}`][{path}]"

    def cited(match: re.Match[str]) -> str:
        return "Concepts: " + re.sub(r"\*([^*]+)\*", lambda m: f"[{m[1]}](../concepts.md#{slug(m[1])})", match[1])

    return _CITED.sub(cited, _ROLE.sub(role, text))


def _resolved(name: str, place: griffe.Object) -> str:
    if name.startswith("."):
        module = place.module
        return (module.path if module.is_init_module else module.path.rpartition(".")[0]) + name
    first, dot, rest = name.partition(".")
    try:
        return place.resolve(first) + dot + rest
    except griffe.NameResolutionError:
        return name


class Roles(griffe.Extension):
    """Rewrites each docstring once, when its module has been read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = linked(obj.docstring.value, obj)
