"""Errors that a user can cause and can mend."""

from __future__ import annotations


class EdgeqError(Exception):
    """One sentence: what is wrong, with which file, and what to do. The command line prints it and exits with code 2.

    It may quote names out of damaged files: what is not printable is replaced, so that no terminal obeys it.
    """

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(super().__str__().split()))
