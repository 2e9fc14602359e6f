"""A run that a command keeps where the user asked for it, or nowhere: begun, or gone on with when the same is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.core.jsonable import as_json
from edgeq.runs.prepare import Setting
from edgeq.runs.store import Run


@contextmanager
def kept(
    path: Path | None,
    asked: Mapping[str, Any],
    prepare: Callable[[], tuple[Setting, Mapping[str, Any]]],
    command: Sequence[str] = (),
) -> Iterator[tuple[Run, Setting | None]]:
    """The run at ``path``, open for writing, and its setting where it has just begun; a temporary run where ``path`` is None.

    ``asked``: all that was asked for, JSON-able: a run that is there already goes on only if it was begun with the same. ``prepare``
    gives the setting of a new run, and what to keep beside its plan. Raises :class:`EdgeqError` for a run that was begun otherwise.
    """
    if path is None:
        with scratch() as folder, kept(folder / "run.sqlite", asked, prepare, command) as both:
            yield both
    elif path.exists():
        with Run.open(path, write=True) as run:
            if run.meta("asked") != as_json(asked):
                raise EdgeqError(f"{path}: was begun with other options; repeat those to go on with it, or choose another --run")
            yield run, None
    else:
        setting, more = prepare()
        with setting.create(path, list(command), {**more, "asked": as_json(asked)}) as run:
            yield run, setting
