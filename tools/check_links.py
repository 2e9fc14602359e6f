"""Whether what the Markdown pages point at is there: links to files, anchors in pages, and paths of this repository in code spans.

    python tools/check_links.py    # exit code 1, and a line for each link that leads nowhere

Looks at the pages in the top folder and in docs/ as GitHub shows them; `make docs` checks the site made from them in its own way. Addresses
on the web are not asked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

_FENCE = re.compile(r"^( *)(```+|~~~+).*?^\1\2[`~]*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
_WEB = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_PATH = re.compile(r"(?:edgeq|docs|tools|tests|targets)/[a-z0-9_./-]*")  # with capitals it is a placeholder: edgeq/attacks/NAME.py


def pages(root: Path) -> list[Path]:
    """The Markdown files of the top folder and of docs/, sorted."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def anchors(text: str) -> set[str]:
    """What a page's headings can be linked by: small letters, hyphens for spaces, no punctuation; a second equal one ends in ``-1``."""
    seen: dict[str, int] = {}
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        if seen[slug]:
            seen[f"{slug}-{seen[slug]}"] = 0
    return set(seen)


def faults(page: Path, root: Path) -> Iterator[str]:
    """A sentence for each link, anchor and path of ``page`` that leads nowhere, or out of ``root``."""
    text = _FENCE.sub("", page.read_text())
    name = page.relative_to(root)
    for match in _LINK.finditer(_SPAN.sub("", text)):
        link = match[1] or match[2]
        if _WEB.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(root) or not target.exists():
            yield f"{name}: {link} is not there"
        elif anchor and (target.suffix != ".md" or anchor not in anchors(target.read_text())):
            yield f"{name}: {link}: {target.name} has no such heading"
    for span in _SPAN.findall(text):
        if _PATH.fullmatch(span) and not (root / span).exists():
            yield f"{name}: `{span}` is not there"


def main() -> None:
    root = Path(__file__).resolve().parents[1]
    found = [fault for page in pages(root) for fault in faults(page, root)]
    if found:
        sys.exit("\n".join(found))
    print(f"links: {len(pages(root))} pages, every link leads somewhere")


if __name__ == "__main__":
    main()
