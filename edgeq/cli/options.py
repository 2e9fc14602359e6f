"""Options that several commands share, as decorators, and how a list in one option is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The callback of an option that takes ``A,B``: its parts; none where it is not given."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def preprocess(text: str) -> Callable[[Any], Any]:
    """``--preprocess``, whose help is ``text``."""
    return click.option("--preprocess", metavar="SPEC", help=text)


def _workers(_: click.Context, __: click.Parameter, value: str) -> int | str:
    from edgeq.runs.executors.opener import parse

    return parse(value)


workers = click.option(
    "--workers",
    default="1",
    show_default=True,
    metavar="N|tcp://HOST:PORT",
    callback=_workers,
    help="Processes that do the work here, or the scheduler of a Dask cluster. The rows are the same.",
)
seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
output_kind = click.option(
    "--output", type=click.Choice(["label", "probs", "logits"]), help="What the file's output is, where it does not tell."
)
