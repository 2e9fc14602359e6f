"""``folder:PATH``: class-named image folders, or images with a labels.csv, on disk."""

from __future__ import annotations

import os
from pathlib import Path

from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import OpenDataset
from edgeq.data._images import Images
from edgeq.data._tree import Files, open_tree


def open_folder(spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Images:
    """The layouts are those of :func:`edgeq.data._tree.open_tree`. Links are followed, a folder is entered once."""
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise EdgeqError(f"{spec}: there is no folder {path!r}; write folder:PATH")
    sizes = _walk(root)

    def read(name: str, limit: int) -> bytes:
        try:
            with (root / name).open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise EdgeqError(f"{spec}: {name}: cannot be read ({error.strerror})") from None
        if len(data) > limit:
            raise EdgeqError(f"{spec}: {name}: is larger than {limit >> 20} MB")
        return data

    return open_tree(spec, Files(spec, list(sizes), read, lambda name: f"{name} {sizes[name]}"), split, label_column, classes)


def _walk(root: Path) -> dict[str, int]:
    """Relative POSIX path -> size of every regular file."""
    sizes: dict[str, int] = {}
    entered: set[tuple[int, int]] = set()
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        try:
            status = folder.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append((f"{prefix}{entry.name}/", Path(entry.path)))
                    elif entry.is_file():
                        sizes[prefix + entry.name] = entry.stat().st_size
        except OSError as error:
            raise EdgeqError(f"{folder}: cannot be read ({error.strerror})") from None
    return sizes


plugin: OpenDataset = open_folder
