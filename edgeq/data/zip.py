"""``zip:PATH``: class-named image folders, or images with a labels.csv, inside a zip. Nothing is extracted to disk."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from edgeq.core import zips
from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import OpenDataset
from edgeq.data._images import Images
from edgeq.data._tree import Files, open_tree


def open_zip(spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Images:
    """The layouts are those of :func:`edgeq.data._tree.open_tree`. Refuses names that lead outside, links, encryption and double names."""
    file = Path(path).expanduser()
    if not path or not file.is_file():
        raise EdgeqError(f"{spec}: there is no file {path!r}; write zip:PATH")
    try:
        archive = zips.opened(file.open("rb"))
    except zips.DAMAGE as error:
        raise EdgeqError(f"{spec}: is not a zip file that can be read ({error})") from None
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if _leads_outside(name):
            raise EdgeqError(f"{spec}: contains the name {name[:120]!r}, which leads outside of it; do not trust this file")
        if name.endswith("/"):
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            raise EdgeqError(f"{spec}: contains the link {name[:120]!r}; pack the files themselves")
        if info.flag_bits & 1:
            raise EdgeqError(f"{spec}: is encrypted; unpack it and use folder:PATH")
        if name in entries:
            raise EdgeqError(f"{spec}: contains {name[:120]!r} twice; pack it again")
        entries[name] = info

    def read(name: str, limit: int) -> bytes:
        info, data = entries[name], b""
        try:
            if info.file_size <= limit:
                with zips.member(archive, info) as member:
                    data = member.read(limit + 1)  # the size in the listing may lie: read no more than this
        except zips.DAMAGE as error:
            raise EdgeqError(f"{spec}: {name}: cannot be unpacked ({error})") from None
        if max(len(data), info.file_size) > limit:
            raise EdgeqError(f"{spec}: {name}: unpacks to more than {limit >> 20} MB")
        return data

    def stamp(name: str) -> str:
        return f"{name} {entries[name].file_size} {entries[name].CRC:08x}"

    return open_tree(spec, Files(spec, list(entries), read, stamp), split, label_column, classes)


def _leads_outside(name: str) -> bool:
    """``../``, absolute paths, drive letters, backslashes."""
    return "\\" in name or name.startswith("/") or name[1:2] == ":" or (".." in name and ".." in name.split("/"))


plugin: OpenDataset = open_zip
