"""Errors that a user can cause and can mend."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """``text`` with U+FFFD in place of every character that a terminal or a browser might obey instead of show: control characters, marks
    that turn the direction of writing, halves of pairs. Those in ``keep`` stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


def sentence(error: BaseException) -> str:
    """The first line of an error's text, short enough to stand inside a sentence."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0].strip().rstrip(".;:")
    return text if len(text) <= 160 else text[:157] + "..."


class EdgeqError(Exception):
    """One sentence: what is wrong, with which file, and what to do. The command line prints it and exits with code 2.

    It may quote names out of damaged files: what is not printable is replaced, so that no terminal obeys it.
    """

    def __str__(self) -> str:
        return printable(" ".join(super().__str__().split()))
