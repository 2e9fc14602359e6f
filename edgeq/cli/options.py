"""Options that several commands share, as decorators, and how a list in one option is read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edgeq.cli import console


def names(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The callback of an option that takes ``A,B``: its parts; none where it is not given."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


@contextmanager
def stoppable(run: Path | None) -> Iterator[None]:
    """Ctrl-C ends the command with a sentence on how to go on with ``run``, where one is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if run is None:
            raise
        console.say(f"\nstopped; every finished row is kept in {run}. The same command goes on with it")
        sys.exit(130)


def preprocess(text: str) -> Callable[[Any], Any]:
    """``--preprocess``, whose help is ``text``."""
    return click.option("--preprocess", metavar="SPEC", help=text)


def photographs(command: Any) -> Any:
    """What is done with photographs as people have them: some lie on their sides, and of a thousand one is broken."""
    for option in (
        click.option(
            "--skip-unreadable", is_flag=True, help="Leave out images that cannot be read, and count them; the next of the sample is taken."
        ),
        click.option(
            "--no-exif",
            "exif",
            is_flag=True,
            flag_value=False,
            default=True,
            help="Leave photographs as they are stored, not upright by EXIF.",
        ),
    ):
        command = option(command)
    return command


def data(command: Any) -> Any:
    """``--data`` and how the classes of its images are those of the model."""
    for option in (
        photographs,
        click.option("--class-names", metavar="FILE", help="The model's class names, a line each."),
        click.option("--class-map", metavar="FILE", help="JSON or CSV: class of the data -> class of the model."),
        click.option("--label-column", metavar="NAME", help="The column of labels.csv with the classes."),
        click.option(
            "--data", metavar="DATA", help="As for edgeq attack: digits, folder:PATH, zip:PATH ... Default: what the file's sidecar names."
        ),
    ):
        command = option(command)
    return command


def n(default: int) -> Callable[[Any], Any]:
    """``--n``: how many images."""
    return click.option("--n", type=click.IntRange(1), default=default, show_default=True, help="Images, sampled evenly over the classes.")


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
fail_under = click.option(
    "--fail-under",
    type=click.FloatRange(0, 1),
    metavar="ACC",
    help="Exit with 1 when the lowest robust accuracy is below, with 2 when that cannot be judged.",
)
seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
threads = click.option("--threads", type=click.IntRange(1), help="Threads (processes for TFLM). Default: all cores.")
run_file = click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="RUN.sqlite",
    help="Keep the run here; the same command goes on with it when it was stopped.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else.")
output_kind = click.option(
    "--output",
    metavar="KIND|NAME",
    help="What the output is, where the file does not tell: label, probs, logits. Or which one, by name, of a Keras network with several.",
)
