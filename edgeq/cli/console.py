"""Where commands write: results to stdout, everything else to stderr, so that stdout can be piped.

Names out of files may hold anything: whatever passes here shows control characters instead of sending them to the terminal.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.markup import escape
from rich.segment import Segment

from edgeq.cli.lines import Lines
from edgeq.cli.streams import abandon
from edgeq.core.errors import printable


class Shown(Console):
    """A console on which only its own styles are control sequences."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, "\n"), style, control)


out = Shown(highlight=False, soft_wrap=False)
err = Shown(stderr=True, highlight=False)


def say(sentence: str, style: str = "", command: bool = False) -> None:
    """A note on stderr, wrapped at words on a terminal. ``command``: it is to be copied, and stays on one line.

    File names and labels may hold anything, so nothing in it is read as markup.
    """
    _tell(escape(sentence), style=style or None, soft_wrap=command or not err.is_terminal)


def _tell(text: str, **how: Any) -> None:
    try:
        err.print(text, **how)
    except OSError:  # nobody listens: no reason to stop the work
        abandon(sys.stderr)


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar a stage on stderr; gives the function ``(stage, done, total)``. Where stderr is no terminal, a line for what took a second,
    and one a minute meanwhile, also where nothing was finished in it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    if not err.is_terminal:
        lines, ended = Lines(lambda line: _tell(escape(line), soft_wrap=True)), threading.Event()
        clock = threading.Thread(target=lines.watch, args=(ended,), daemon=True)
        clock.start()
        try:
            yield lines.show
        finally:
            ended.set()
            clock.join()
        return
    bar = (BarColumn(bar_width=None),) if err.width >= 72 else ()
    percent = TextColumn("{task.percentage:>3.0f} %")
    columns = (TextColumn("{task.description}"), *bar, MofNCompleteColumn(), percent, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=False) as bars:
        tasks: dict[str, TaskID] = {}
        began: dict[str, float] = {}
        over: set[str] = set()

        def show(stage: str, done: int, total: int) -> None:
            if stage in over:
                return
            if stage not in tasks:
                began[stage] = time.monotonic()
                tasks[stage] = bars.add_task(escape(stage), total=total)
            bars.update(tasks[stage], completed=done)
            if done >= total:  # finished stages leave the live display and stay as a line
                over.add(stage)
                bars.remove_task(tasks.pop(stage))
                bars.console.print(f"[green]✓[/green] {escape(stage)} [dim]{total} in {time.monotonic() - began.pop(stage):.0f} s[/dim]")

        yield show
