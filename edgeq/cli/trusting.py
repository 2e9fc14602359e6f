"""``--trust``, of every command that loads Keras networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def _only(_: click.Context, __: click.Parameter, paths: tuple[Path, ...]) -> None:
    from edgeq.api.trusting import trust

    trust(*paths)


def option(command: Any) -> Any:
    """Adds the option to a command, which needs no parameter for it."""
    return click.option(
        "--trust",
        multiple=True,
        type=click.Path(path_type=Path),
        callback=_only,
        expose_value=False,
        metavar="FILE",
        help="A Keras network of your own whose code may run (Lambda and custom layers), or a .py file with its layers. May be repeated.",
    )(command)
