"""Hooks of MkDocs (``mkdocs.yml``): the pages of the site that do not lie in docs/, the order of all, and their links.

* The top folder's pages: the README as the front page, then those in ``TOP``.
* The API reference, a page a room of ``edgeq``, made from docstrings by mkdocstrings.
* A page that lists the results.

Pages are written for the repository: a link goes to a file. On the site it goes to that file's page; where it has none, its words stay.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TOP = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "SECURITY.md": "security.md"}
FIRST = ("index", "quickstart", "python", "json", "concepts", "runtimes", "lowbit", "compare", "align")  # the others follow by name
LAST = ("extending", "plugins", "architecture", "contributing", "changelog", "security")
LEFT_OUT = ("cli", "__main__")  # `edgeq COMMAND --help` is the reference of the former
_LINK_OR_CODE = re.compile(
    r"(?<!!)\[(?P<words>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<link>[^()\s#]*)(?P<anchor>#[^()\s]*)?\)"  # [words](link#anchor)
    r"|^ *```.*?^ *```$|`[^`\n]+`",  # code, which stays
    re.MULTILINE | re.DOTALL,
)


def rooms() -> list[str]:
    """The packages and modules directly inside ``edgeq`` that the reference shows, sorted."""
    package = ROOT / "edgeq"
    return sorted(
        p.stem for p in package.iterdir() if (p.suffix == ".py" or (p / "__init__.py").is_file()) and p.stem not in (*LEFT_OUT, "__init__")
    )


def public_modules(room: str) -> list[str]:
    """The dotted names of a room's modules whose names, and those of the packages they lie in, do not begin with an underscore."""
    place = ROOT / "edgeq" / room
    if not place.is_dir():
        return [f"edgeq.{room}"]
    inside = [p.relative_to(ROOT).with_suffix("") for p in place.rglob("*.py")]
    names = [".".join(p.parts).removesuffix(".__init__") for p in inside]
    return sorted(name for name in names if not any(part.startswith("_") for part in name.split(".")))


def reference(room: str) -> str:
    """The page of one room, or of the front door (``""``)."""
    if not room:
        return "# edgeq\n\n::: edgeq\n"
    return f"# edgeq.{room}\n\n" + "\n".join(f"::: {module}\n" for module in public_modules(room))


def results() -> str:
    """The page that lists what was measured, each page by its heading."""
    pages = sorted((ROOT / "docs" / "results").glob("*.md"))
    lines = [f"- [{page.read_text().splitlines()[0].lstrip('# ')}]({page.name})" for page in pages]
    return "\n".join(["# Results", "", "What was measured, with the commands, and what was not shown.", "", *lines, ""])


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the made pages and gives the site its order. Pages that are not there yet, or no longer, are no error."""
    made = {site: (ROOT / name).read_text() for name, site in TOP.items()}
    made["results/index.md"] = results()
    made["reference/index.md"] = reference("")
    made.update({f"reference/{room}.md": reference(room) for room in rooms()})
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    config.nav = list(navigation([f.src_uri for f in files.documentation_pages()]))
    return files


def navigation(pages: list[str]) -> Iterator[str | dict[str, list[str]]]:
    """The order of the site: ``FIRST``, what is in neither list, the results, the reference, ``LAST``; folders sorted, index first."""
    top = {p.removesuffix(".md"): p for p in sorted(pages) if "/" not in p}
    yield from (top[name] for name in FIRST if name in top)
    yield from (page for name, page in top.items() if name not in (*FIRST, *LAST))
    for title, folder in (("Results", "results/"), ("Python reference", "reference/")):
        inside = [p for p in pages if p.startswith(folder)]
        yield {title: sorted(inside, key=lambda p: (p != f"{folder}index.md", p))}
    yield from (top[name] for name in LAST if name in top)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page with links between files of the repository made into links between pages of the site."""
    at = page.file.src_uri
    origin = next((name for name, site in TOP.items() if site == at), f"docs/{at}")

    def moved(match: re.Match[str]) -> str:
        link = match["link"]
        if not link or ":" in link or at.startswith("reference/"):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
        if link.endswith("/"):
            target += "/README.md" if (ROOT / target / "README.md").is_file() else "/index.md"
        on_site = TOP.get(target, target.removeprefix("docs/"))
        if on_site == target:  # neither in docs/ nor a page of the top folder
            return match["words"]
        return f"[{match['words']}]({posixpath.relpath(on_site, posixpath.dirname(at) or '.')}{match['anchor'] or ''})"

    return _LINK_OR_CODE.sub(moved, markdown)
