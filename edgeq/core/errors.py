"""The one exception a user is meant to read."""

from __future__ import annotations


class EdgeqError(Exception):
    """What is wrong, with which file, and what to do: one sentence. The command line prints it and exits 2."""
