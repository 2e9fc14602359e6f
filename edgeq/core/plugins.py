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

ROOMS = {
    "attack": "edgeq.attacks",
    "objective": "edgeq.objectives",
    "estimator": "edgeq.estimators",
    "data set": "edgeq.data",
    "network": "edgeq.keras.nets",
}


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
            if wanted in (int, float) and not abs(values[key]) < 1 << 31:
                raise ValueError
        except ValueError:
            raise EdgeqError(f"{text}: {key}={value} is not a {wanted.__name__}{' below 2^31' * (wanted in (int, float))}") from None
    try:
        return name, cls(**values)
    except ValueError as error:  # a plugin's __post_init__ says what is out of range
        raise EdgeqError(f"{text}: {error}") from None


def restore(kind: str, name: str, params: Any) -> Any:
    """The value that :func:`build` gave, from its name and its fields. Raises :class:`EdgeqError`, ValueError or TypeError."""
    cls = load(kind, name)
    wanted: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(cls)}
    for key, value in params.items():
        if type(value) is not wanted.get(key) and not (wanted.get(key) is float and type(value) is int):
            raise ValueError(f"{name} has no {key} = {str(value)[:40]}")
    return cls(**{key: wanted[key](value) for key, value in params.items()})


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "false", "no", "0"):
        return text.lower() in ("true", "yes", "1")
    raise ValueError(text)
