"""The filename is the registration: ``--attack pgd`` loads ``edgeq.attacks.pgd``, once its name is in the listing.

A plugin is a file in the room of its kind that holds ``plugin``, its one public value. Files that start with ``_`` and folders are no
plugins. Another package offers one as an entry point, in the group that is named like the room (``edgeq.attacks``). Names are listed from
file names and from what packages declare, so listing imports nothing; a name of edgeq's own wins over another package's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib
import importlib.util
import os
import pkgutil
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import Attack, Estimator, Network, OpenDataset, Quantiser
from edgeq.core.protocols import GradientAttack, Objective, QueryAttack
from edgeq.core.runtime import Runtime

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of plugin; ``T`` is what :func:`load` gives: a value, or the class whose fields are the options of :func:`build`."""

    word: str  # in sentences
    room: str  # the package of its files
    protocols: tuple[type, ...]  # a plugin has all members of one of them
    dashes: bool = False  # an underscore in a file's name is a dash in the plugin's

    @property
    def group(self) -> str:
        """Of entry points."""
        return "edgeq." + self.room.rpartition(".")[2]


ATTACKS: Kind[type[Attack]] = Kind("attack", "edgeq.attacks", (GradientAttack, QueryAttack))
ESTIMATORS: Kind[type[Estimator]] = Kind("estimator", "edgeq.estimators", (Estimator,))
DATA_SETS: Kind[OpenDataset] = Kind("data set", "edgeq.data", (OpenDataset,))
RUNTIMES: Kind[Runtime] = Kind("runtime", "edgeq.runtimes", (Runtime,), dashes=True)
NETWORKS: Kind[Network] = Kind("network", "edgeq.keras.nets", (Network,))
QUANTISERS: Kind[Quantiser] = Kind("quantiser", "edgeq.keras.quantizers", (Quantiser,))
OBJECTIVES: Kind[type[Objective]] = Kind("objective", "edgeq.objectives", (Objective,))
KINDS: tuple[Kind[Any], ...] = (ATTACKS, ESTIMATORS, OBJECTIVES, DATA_SETS, RUNTIMES, NETWORKS, QUANTISERS)


def names(kind: Kind[Any]) -> list[str]:
    """The names of all plugins of a kind, sorted: edgeq's own, and those of other packages."""
    return sorted({*_files(kind), *_offered(kind.group)})


def choose(word: str, name: str, known: list[str]) -> str:
    """``name`` if it is known; else :class:`EdgeqError` with the nearest name."""
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "choose one of: " + ", ".join(known)
    raise EdgeqError(f"there is no {word} named {name!r}; {hint}")


def load(kind: Kind[T], name: str) -> T:
    """The plugin ``name``. Raises :class:`EdgeqError` for a name that is unknown, and for a plugin that cannot be imported or lacks what
    its kind must have; other plugins work all the same."""
    file = _files(kind).get(name)
    if file is None:
        choose(kind.word, name, names(kind))
        offers = _offered(kind.group)[name]
        if len(offers) > 1:
            raise EdgeqError(f"the {kind.word} {name} is offered by several packages ({_packages(offers)}); uninstall all but one")
    try:
        plugin: T = importlib.import_module(f"{kind.room}.{file}").plugin if file else offers[0].load()
    except (Exception, SystemExit) as error:
        raise EdgeqError(f"{_title(kind, name)} cannot be loaded: {_reason(error)}") from error
    if lacking := min((_lacking(plugin, protocol) for protocol in kind.protocols), key=len):
        raise EdgeqError(f"{_title(kind, name)} cannot be used: it has no {' and no '.join(lacking)}")
    return plugin


def working(kind: Kind[T]) -> dict[str, T]:
    """All plugins of a kind, by name, without those of other packages that cannot be loaded: :func:`problems` says why."""
    loaded = {}
    for name in names(kind):
        with contextlib.nullcontext() if name in _files(kind) else contextlib.suppress(EdgeqError):
            loaded[name] = load(kind, name)
    return loaded


def problems() -> list[str]:
    """A sentence for each plugin of another package that cannot be loaded, or whose name is taken."""
    said = []
    for kind in KINDS:
        own = _files(kind)
        for name, offers in sorted(_offered(kind.group).items()):
            if name in own:
                said.append(f"the {kind.word} {name} is edgeq's own; that of {_packages(offers)} is not used")
                continue
            try:
                load(kind, name)
            except EdgeqError as error:
                said.append(str(error))
    return said


def build(kind: Kind[type[V]], text: str) -> tuple[str, V]:
    """``pgd`` or ``pgd:steps=40:restarts=5`` as ``(name, value)``; options are the fields of the plugin's dataclass.

    What an option takes, its annotation says: bool, int, float, str, a ``Literal`` of texts, or one of these or None. Raises
    :class:`EdgeqError` for an unknown name or option, and for a value that the option, or the plugin, does not take.
    """
    name, *given = text.split(":")
    options = _options(kind, name)
    values: dict[str, Any] = {}
    for part in given:
        key, equals, value = part.partition("=")
        if not equals or key not in options:
            raise EdgeqError(f"{text}: {name} has no option {key!r}; it takes " + (", ".join(options) or "none"))
        values[key] = options[key].read(value, text, key)
    make: Any = load(kind, name)
    try:
        return name, make(**values)
    except ValueError as error:  # a plugin's __post_init__ says what is out of range
        raise EdgeqError(f"{text}: {error}") from None


def restore(kind: Kind[type[V]], name: str, params: Mapping[str, Any]) -> V:
    """The value that :func:`build` gave, from its name and its fields. Raises :class:`EdgeqError`, ValueError or TypeError."""
    options = _options(kind, name)
    for key, value in params.items():
        if key not in options or not options[key].takes(value):
            raise ValueError(f"{name} has no {key} = {str(value)[:40]}")
    make: Any = load(kind, name)
    built: V = make(**{key: None if value is None else options[key].type(value) for key, value in params.items()})
    return built


@dataclass(frozen=True)
class _Option:
    """A field of a plugin's dataclass."""

    type: Any  # bool, int, float or str
    optional: bool  # it may be None
    choices: tuple[Any, ...]  # of a Literal; empty: any

    def read(self, text: str, whole: str, key: str) -> Any:
        """The value that stands as ``text`` behind ``key=`` in the user's ``whole``."""
        try:
            value = _truth(text) if self.type is bool else self.type(text)
            if self.type in (int, float) and not abs(value) < 1 << 31:
                raise ValueError
        except ValueError:
            bound = " below 2^31" * (self.type in (int, float))
            raise EdgeqError(f"{whole}: {key}={text} is not a {self.type.__name__}{bound}") from None
        if self.choices and value not in self.choices:
            raise EdgeqError(f"{whole}: {key}={text} is none of {', '.join(map(str, self.choices))}")
        return value

    def takes(self, value: Any) -> bool:
        """Whether a value out of a file is one of this option's."""
        if value is None:
            return self.optional
        fits = type(value) is self.type or (self.type is float and type(value) is int)
        return fits and (not self.choices or value in self.choices)


def _options(kind: Kind[Any], name: str) -> dict[str, _Option]:
    """The options of a plugin whose value is a dataclass, by name."""
    cls = load(kind, name)
    try:
        fields, hints = dataclasses.fields(cls), typing.get_type_hints(cls)
    except (TypeError, NameError) as error:
        raise EdgeqError(f"{_title(kind, name)} cannot be used: its options cannot be read ({_reason(error)})") from None
    return {f.name: _option(kind, name, f.name, hints[f.name]) for f in fields if f.init}


def _option(kind: Kind[Any], name: str, field: str, hint: Any) -> _Option:
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    wanted = [part for part in parts if part is not types.NoneType]
    choices = typing.get_args(wanted[0]) if typing.get_origin(wanted[0]) is Literal else ()
    base = type(choices[0]) if choices else wanted[0]
    if len(wanted) > 1 or base not in (bool, int, float, str):
        raise EdgeqError(f"{_title(kind, name)} cannot be used: its option {field} is none of bool, int, float, str and Literal")
    return _Option(base, types.NoneType in parts, choices)


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1", "false", "no", "0"):
        return text.lower() in ("true", "yes", "1")
    raise ValueError(text)


@functools.cache
def _files(kind: Kind[Any]) -> dict[str, str]:
    """Name -> file, without its suffix, of edgeq's own plugins."""
    room = importlib.util.find_spec(kind.room)
    files = [m.name for m in pkgutil.iter_modules(room.submodule_search_locations if room else ()) if not m.ispkg and m.name[0] != "_"]
    return {name.replace("_", "-") if kind.dashes else name: name for name in files}


def _offered(group: str) -> dict[str, list[EntryPoint]]:
    """Name -> the entry points of that name in a group: more than one if several packages offer it."""
    return _entry_points(group, tuple(sys.path))


@functools.cache
def _entry_points(group: str, path: tuple[str, ...]) -> dict[str, list[EntryPoint]]:
    if not _any_offers(path):  # importlib.metadata takes 10 ms to import and 3 to read, which most commands need not wait for
        return {}
    from importlib.metadata import entry_points

    offers: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        offers.setdefault(point.name, []).append(point)
    return offers


@functools.cache
def _any_offers(path: tuple[str, ...]) -> bool:
    """Whether a package in the folders of ``path`` declares entry points for edgeq; 1 ms for a hundred packages."""
    for folder in path:
        with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
            for entry in entries:
                if entry.name.endswith((".dist-info", ".egg-info")):
                    with contextlib.suppress(OSError), open(f"{entry.path}/entry_points.txt", "rb") as file:
                        if b"[edgeq." in file.read():
                            return True
    return False


def _title(kind: Kind[Any], name: str) -> str:
    """``the attack foo of package bar``."""
    offers = [] if name in _files(kind) else _offered(kind.group)[name]
    return f"the {kind.word} {name}" + (f" of package {_packages(offers)}" if offers else "")


def _packages(offers: list[EntryPoint]) -> str:
    return ", ".join(sorted({offer.dist.name if offer.dist else "unknown" for offer in offers}))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _lacking(plugin: Any, protocol: type) -> list[str]:
    """The members of a protocol that a plugin, or the class that it is, does not have."""
    members = {*protocol.__annotations__, *vars(protocol)}
    wanted = sorted(m for m in members if m == "__call__" or not m.startswith("_"))
    return [m for m in wanted if not hasattr(plugin, m)]
