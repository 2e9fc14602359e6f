"""A run as one page: no request leaves it, no script is needed, and text from files is escaped."""

from __future__ import annotations

import json
import re
import shlex
from functools import cache
from typing import Any

from edgeq import __version__
from edgeq.core.errors import printable
from edgeq.measure.figures import Summary
from edgeq.measure.summary import summarise
from edgeq.measure.words import STATEMENT, zero_gradients
from edgeq.report import text
from edgeq.report.pictures import pictures
from edgeq.report.plot import plots
from edgeq.report.to_json import META
from edgeq.runs.reader import Reader

SERIES = 7  # colours and marks the style sheet knows; further runtimes start over


def render(run: Reader, summary: Summary | None = None) -> str:
    """The page of an open run, at most about 2 MB."""
    summary = summary or summarise(run)
    order = [t.id for t in summary.targets if t.shown]
    ships = [a.name for a in summary.artifacts if a.role == "target" and a.sha256 in {t.artifact for t in summary.targets}]
    several = list(dict.fromkeys(t.network for t in summary.targets if t.role == "target" and t.network))
    page: str = _page().render(
        s=summary,
        statement=STATEMENT,
        version=__version__,
        meta={key: run.meta(key) for key in META},
        files=(several if len(several) > 1 else ships) or [summary.run.file],
        cells=sorted(summary.cells, key=lambda c: c.kind == "noise"),
        series={id: k % SERIES for k, id in enumerate(order)},
        plots=plots(summary),
        pictures=pictures(run, summary),
    )
    return printable(page, "\n")


@cache
def _page() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgeq.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        plain=text.plain,
        share=text.share,
        number=text.number,
        p_value=text.p_value,
        compact=text.compact,
        radius=lambda cell: text.radius(cell).replace("l_inf", "l∞"),
    )
    environment.filters.update(
        crafted=text.crafted,
        zeros=zero_gradients,
        pretty=_pretty,
        flat=_flat,
        breakable=_breakable,
        moment=_moment,
        command=_command,
        kb=lambda b: f"{b / 1024:.0f} KB",
    )
    return environment.get_template("page.html.j2")


def _command(value: Any) -> str:
    """A list of arguments as a shell takes it."""
    return shlex.join(map(str, value)) if isinstance(value, list) else str(value)


def _flat(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _moment(value: Any) -> str:
    """``2026-11-20 23:47 UTC`` of an ISO time; anything else as it is."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\+00:00", str(value))
    return f"{match[1]} {match[2]} UTC" if match else text.plain(value, 40)


def _breakable(name: str) -> Any:
    """A file name that may be broken after its dots, dashes and underscores."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[._-])", name))


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
