"""Files that training and export write: all or none of them, and a sidecar ``NAME.edgeq.json`` that says where they come from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.core.files import move, scratch
from edgeq.pipeline import sidecar


@contextlib.contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A folder inside ``directory``; what lies in it at the end moves out, replacing what was there; after an error nothing does.

    Raises :class:`EdgeqError` where the directory cannot be written to.
    """
    made, begun = not directory.exists(), False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with scratch(directory) as folder:
            begun = True
            yield folder
            vouching_last = sorted(folder.iterdir(), key=lambda p: p.name.endswith(sidecar.SUFFIX))  # the sidecar names the others
            for item in vouching_last:
                move(item, directory / item.name)
    except OSError as error:
        if not begun:
            raise EdgeqError(f"{directory}: cannot be written to ({error.strerror}); name another directory with -o") from None
        raise EdgeqError(
            f"{directory}: nothing was written ({error.strerror or error}); make room or name another directory with -o"
        ) from None
    finally:
        if made:
            with contextlib.suppress(OSError):
                directory.rmdir()  # only if nothing was moved into it


def write_sidecar(path: Path, content: dict[str, Any]) -> None:
    """``content`` as strict JSON at ``path``."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of the installed packages among ``names``."""
    installed = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed
