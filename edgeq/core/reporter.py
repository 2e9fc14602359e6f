"""How long work says what it assumes and how far it is: by a value that the caller passes, for nothing below the command line prints."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from edgeq.core.errors import printable

Progress = Callable[[str, int, int], None]
"""``show(stage, done, total)``: ``done`` of ``total`` images, steps or rows of the stage of that name."""


class Reporter(Protocol):
    """Takes notes and progress. The module :mod:`edgeq.cli.console` is one: sentences and bars on stderr."""

    def say(self, sentence: str, style: str = "") -> None:
        """Takes a note of one sentence: an assumption, or, of ``style`` "yellow", a warning."""
        ...

    def progress(self) -> AbstractContextManager[Progress]:
        """Gives the function to call while stages of work go on."""
        ...


class Silent:
    """Takes everything and shows nothing: the default of functions in Python."""

    def say(self, sentence: str, style: str = "") -> None: ...

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        yield lambda stage, done, total: None


class Lines(Silent):
    """Notes as lines on stderr and no progress: for scripts."""

    def say(self, sentence: str, style: str = "") -> None:
        print(printable(sentence, "\n"), file=sys.stderr, flush=True)


SILENT = Silent()
