"""stdin, stdout and stderr, whatever the caller did to them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO

from edgeq.core.errors import printable


def settle() -> None:
    """Makes the three safe to use. A closed one is empty, and takes everything for nothing: else the next file that is opened would get its
    number, and what is printed. What a stream's encoding lacks is written as an escape."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            _nowhere(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # a test's own stream
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def abandon(stream: IO[str]) -> None:
    """Sends the rest of a stream that takes nothing any more nowhere: Python would complain at exit."""
    with suppress(OSError, ValueError):
        _nowhere(stream.fileno())


def whisper(text: str) -> None:
    """A line on stderr, as it is but for control characters."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except OSError:
        abandon(sys.stderr)


def _nowhere(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
