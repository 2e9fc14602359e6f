"""The filename is the registration: ``--attack pgd`` loads ``edgeq.attacks.pgd``, after its name was found in the listing.

A module that can be named holds ``plugin``, its one public value. Names are listed from file names, so listing imports nothing.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
from typing import Any

from edgeq.core.errors import EdgeqError

ROOMS = {"attack": "edgeq.attacks", "estimator": "edgeq.estimators", "data set": "edgeq.data", "network": "edgeq.keras.nets"}


def names(kind: str) -> list[str]:
    """All names of a kind (a key of ``ROOMS``), sorted. Modules that start with ``_`` are not plugins."""
    package = importlib.import_module(ROOMS[kind])
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def choose(kind: str, name: str, known: list[str]) -> str:
    """``name`` if it is known; else :class:`EdgeqError` with the nearest name."""
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "choose one of: " + ", ".join(known)
    raise EdgeqError(f"there is no {kind} named {name!r}; {hint}")


def load(kind: str, name: str) -> Any:
    """The ``plugin`` of the module ``name``."""
    choose(kind, name, names(kind))
    return importlib.import_module(f"{ROOMS[kind]}.{name}").plugin


def build(kind: str, text: str) -> tuple[str, Any]:
    """``pgd`` or ``pgd:steps=40:restarts=5`` as ``(name, value)``; options are the fields of the plugin's dataclass."""
    name, *options = text.split(":")
    cls = load(kind, name)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or key not in fields:
            raise EdgeqError(f"{text}: {name} has no option {key!r}; it takes " + (", ".join(fields) or "none"))
        wanted: Any = type(fields[key].default)
        try:
            values[key] = _truth(value) if wanted is bool else wanted(value)
        except ValueError:
            raise EdgeqError(f"{text}: {key}={value} is not a {wanted.__name__}") from None
    try:
        return name, cls(**values)
    except ValueError as error:  # a plugin's __post_init__ says what is out of range
        raise EdgeqError(f"{text}: {error}") from None


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "false", "no", "0"):
        return text.lower() in ("true", "yes", "1")
    raise ValueError(text)
