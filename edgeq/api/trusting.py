"""``edgeq.trust``: whose own code may run."""

from __future__ import annotations

from pathlib import Path

from edgeq.keras import trust as trusted


def trust(*paths: str | Path) -> None:
    """From now on, in this process, the code of these files may run, and that of no others: Keras networks with Lambda or custom layers,
    and ``.py`` files with layers of one's own. What the command line calls ``--trust``.

    A network is known by its content: once it is changed, it is trusted no longer. ``trust()`` withdraws all. Workers that this process
    uses trust the same files. Raises :class:`EdgeqError` for a file that does not exist.
    """
    trusted.only(Path(path) for path in paths)
