"""The files whose own code may run: those that were named with ``--trust`` in this very command, or by :func:`edgeq.trust` in this
process, known by their content.

Nothing is read from a run file: who resumes a run from outside has to vouch again.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.core.files import sha256

_networks: set[str] = set()
_scripts: dict[Path, dict[str, Any] | None] = {}


def only(paths: Iterable[Path]) -> None:
    """From now on the code of ``paths`` may run, and of nothing else: Keras networks, and ``.py`` files with layers of one's own.

    Raises :class:`EdgeqError` for what is not there.
    """
    _networks.clear()
    _scripts.clear()
    for path in paths:
        if not path.exists():
            raise EdgeqError(f"{path}: there is no such file; give a Keras network, or a .py file with its layers")
        if path.suffix == ".py":
            _scripts[path] = None
        else:
            _networks.add(sha256(path))


@dataclass(frozen=True)
class Trusted:
    """What may run, for a process that works for this one. ``networks``: SHA-256; ``scripts``: names and contents of ``.py`` files."""

    networks: frozenset[str] = frozenset()
    scripts: tuple[tuple[str, bytes], ...] = ()


def granted() -> Trusted:
    """What :func:`only` named. Raises OSError for a script that is gone."""
    return Trusted(frozenset(_networks), tuple((path.name, path.read_bytes()) for path in _scripts))


def grant(trusted: Trusted, folder: Path) -> None:
    """From now on what is ``trusted`` may run in this process, and nothing else. Its scripts are written into ``folder``."""
    _networks.clear()
    _scripts.clear()
    _networks.update(trusted.networks)
    for place, (name, content) in enumerate(trusted.scripts):
        path = folder / str(place) / name
        path.parent.mkdir()
        path.write_bytes(content)
        _scripts[path] = None


def vouched(content: str) -> bool:
    """Whether a network with this SHA-256 is trusted."""
    return content in _networks


def hint(path: Path) -> str:
    """The end of every sentence that refuses a network for what it is made of."""
    return f"if the file is your own, pass --trust {path}"


def own() -> dict[str, Any]:
    """The classes and functions of the trusted ``.py`` files, each of which runs once: layer names mean these. TensorFlow is imported."""
    classes: dict[str, Any] = {}
    for path, names in _scripts.items():
        if names is None:
            try:
                _scripts[path] = names = runpy.run_path(str(path))
            except Exception as error:
                raise EdgeqError(f"{path}: failed while it ran ({type(error).__name__}: {error}); mend it, or leave --trust out") from None
        classes |= {name: value for name, value in names.items() if callable(value) and not name.startswith("_")}
    return classes
