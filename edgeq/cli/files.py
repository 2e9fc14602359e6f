"""Files that commands write: all of them or none, with a sidecar ``NAME.edgeq.json`` that says where they come from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.core.files import move, scratch
from edgeq.integer.read import sha256
from edgeq.pipeline import sidecar

VERSION = edgeq.__version__


@contextlib.contextmanager
def staging(directory: Path) -> Iterator[Path]:
    """A folder inside ``directory``; what lies in it at the end moves out, replacing what was there; after an error nothing does."""
    made, begun = not directory.exists(), False
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with scratch(directory) as folder:
            begun = True
            yield folder
            for item in sorted(
                folder.iterdir(), key=lambda p: p.name.endswith(sidecar.SUFFIX)
            ):  # the sidecar last: it vouches for the others
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
    """``content`` as JSON at ``path``, with the versions of what made it."""
    path.write_text(json.dumps({"edgeq": VERSION, **content}, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of the installed packages among ``names``."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def file_record(path: Path) -> dict[str, Any]:
    """Size and hash of a file, as sidecars name it."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size}
