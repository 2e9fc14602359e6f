"""Which images are shown where nobody names any: those that a file's own sidecar names, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Reporter
from edgeq.pipeline import sidecar

KINDS = "digits, cifar10[:PATH or :download], svhn:PATH, folder:PATH, zip:PATH or npz:PATH"


def data_of(files: Iterable[str | Path], reporter: Reporter) -> str:
    """The data set that the sidecars of ``files`` name, of those that have one; nothing is downloaded by it. Raises :class:`EdgeqError`
    where none does, and where two name others."""
    found: dict[str, str] = {}
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.exists():
            raise EdgeqError(f"{path}: there is no such file")
        content, name = sidecar.read(path)
        if isinstance(spec := content.get("data"), str) and spec:
            found.setdefault(_here(spec.removesuffix(":download"), path.with_name(name)), name)
    if not found:
        raise EdgeqError(f"{paths[0]}: no sidecar says which images it is for; pass --data with them: {KINDS}")
    if len(found) > 1:
        (a, b), (first, second) = list(found)[:2], list(found.values())[:2]
        raise EdgeqError(f"{first} names the images {a}, and {second} {b}; pass --data with those that are to be shown")
    ((spec, name),) = found.items()
    reporter.say(f"data: {spec}, as {name} says (--data names others)")
    return spec


def _here(spec: str, place: Path) -> str:
    """``spec``, if it leads nowhere but into this folder or that of the sidecar: a stranger's sidecar opens nothing else."""
    path = Path(spec.partition(":")[2] or spec).expanduser()
    known = [folder.resolve() for folder in (Path(), place.parent)]
    if not any(path.resolve().is_relative_to(folder) for folder in known):
        raise EdgeqError(
            f"{place}: names images outside of its folder and of this one ({spec[:80]}); pass --data {spec[:80]} if they are meant"
        )
    return spec
