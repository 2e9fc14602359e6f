"""Class-named image folders, or images with a labels.csv, wherever the files lie (a folder or a zip)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.data._classes import choose_column, from_text, read_table
from edgeq.data._decode import MAX_BYTES, SUFFIXES, decode, is_turned
from edgeq.data._images import Images, UnreadableError

T = TypeVar("T")
TABLE = "labels.csv"
MAX_TABLE = 64 << 20  # bytes of a labels.csv
MAX_DEPTH = 16  # folders below one another in which a path that begins further out is looked for
MAX_LINE = 4096  # bytes of one of its lines, on average: a small archive contains no large table
SPLITS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}


@dataclass(frozen=True)
class Files:
    """Where files come from.

    ``names``: relative POSIX paths; ``read(name, limit)``: at most ``limit`` bytes, else EdgeqError; ``stamp``: name with size and CRC.
    """

    where: str
    names: list[str]
    read: Callable[[str, int], bytes]
    stamp: Callable[[str], str]


def open_tree(spec: str, files: Files, split: str, label_column: str | None, classes: int | None) -> Images:
    """The images of one split of ``files``.

    ``train/CLASS/..`` and ``test/CLASS/..`` (or ``val/``), ``CLASS/..`` alone, or any images with a ``labels.csv`` beside them or in
    each split folder. One folder around everything is looked through. Class folders are numbered in sorted order, over all splits;
    folders named by whole numbers are those labels. An image's name is its path below that outer folder, so a zip and its extracted
    folder give the same rows.
    """
    tables = {n for n in files.names if posixpath.basename(n) == TABLE}
    images = sorted(n for n in files.names if n.lower().endswith(SUFFIXES) and not _hidden(n))
    if not images:
        raise EdgeqError(f"{files.where}: contains no images ({', '.join(SUFFIXES[:5])} ...)")
    outer = _outer(images, tables)
    images = [n[len(outer) :] for n in images]
    notes: list[str] = []
    tops = {n.split("/", 1)[0] for n in images if "/" in n}
    part = _choose_split(tops, split, spec, notes) if _split_layout(tops, images, tables, outer) else None
    if part is None and split == "train":
        notes.append(f"{spec} has no train and test folders: the same images serve for calibration and for testing")
    inside = [n for n in images if part is None or n.startswith(part + "/")]

    table = next((t for t in (outer + TABLE, f"{outer}{part}/{TABLE}") if t in tables), None)
    if table is not None:
        base = posixpath.dirname(table[len(outer) :])
        names, texts = _from_table(files, table, base, set(images), part, label_column, classes, notes)
        if len(names) < len(inside):
            notes.append(f"{len(inside) - len(names)} images are not in {TABLE} and are left out")
        labels, named = from_text(texts, f"{files.where}: {TABLE}")
    else:
        if label_column is not None:
            raise EdgeqError(f"{files.where}: --label-column needs a {TABLE}, and there is none")
        names, labels, named = _from_folders(files.where, images, inside, part, notes)

    def one(index: int, see: Callable[[bytes, str], T]) -> T:
        name = outer + names[index]
        try:
            return see(files.read(name, MAX_BYTES), f"{files.where}: {name}")
        except EdgeqError as error:
            raise UnreadableError(f"{error} (--skip-unreadable leaves it out)") from None

    def content() -> Iterator[bytes]:
        for name in names:
            yield (files.stamp(outer + name) + "\n").encode()

    return Images(
        spec,
        names,
        labels,
        named,
        lambda index: one(index, partial(decode, upright=False)),
        content,
        notes,
        lambda index: one(index, decode),
        lambda index: one(index, is_turned),
    )


def _from_table(
    files: Files, table: str, base: str, known: set[str], part: str | None, label_column: str | None, classes: int | None, notes: list[str]
) -> tuple[list[str], list[str]]:
    where = f"{files.where}: {TABLE}"
    content = files.read(table, MAX_TABLE)
    if len(content) > MAX_LINE * (len(known) + 16):
        raise EdgeqError(f"{where}: is too large for {len(known)} images")
    header, lines = read_table(content, where)
    column, said = choose_column(header[1:], label_column, classes, where)
    notes += said
    place = header.index(column, 1)
    names, texts = [], []
    seen: set[str] = set()
    find = _finder(known, base)
    for number, line in enumerate(lines, 2):
        name = find(line[0].strip())
        if name is None:
            raise EdgeqError(f"{where}: line {number} names {line[0][:120]!r}, which is not an image here")
        if name in seen:
            raise EdgeqError(f"{where}: line {number} names {line[0][:120]!r} a second time")
        seen.add(name)
        if part is None or name.startswith(part + "/"):
            names.append(name)
            texts.append(line[place].strip())
    if not names:
        raise EdgeqError(f"{where}: lists no images")
    return names, texts


def _finder(known: set[str], base: str) -> Callable[[str], str | None]:
    """Which of the ``known`` images a table in the folder ``base`` means by a name: its path from there, or one that begins further out
    (``/home/me/photos/..``); without its extension; or its bare name, wherever it lies. None for none of them, and for several.

    The listing contains no name that leads outside, so neither does what a table means.
    """
    short: dict[str, set[str]] = {}

    def shorter() -> dict[str, set[str]]:
        for name in () if short else known:
            stem, bare = posixpath.splitext(name)[0], posixpath.basename(name)
            for other in (stem, "*/" + bare, "*/" + posixpath.splitext(bare)[0]):
                short.setdefault(other, set()).add(name)
        return short

    def find(text: str) -> str | None:
        path = text.replace("\\", "/")
        if (name := posixpath.normpath(posixpath.join(base, path))) in known:
            return name
        parts = posixpath.normpath(path).split("/")
        if ".." in parts:
            return None
        ends = ["/".join(parts[i:]) for i in range(max(0, len(parts) - MAX_DEPTH), len(parts))]
        tails = [tail for end in ends for tail in dict.fromkeys((posixpath.join(base, end), end))]
        if (exact := next((tail for tail in tails if tail in known), None)) is not None:
            return exact
        for tail in [*tails, *(["*/" + path] if len(parts) == 1 else [])]:
            if len(means := shorter().get(tail, ())) == 1:
                return next(iter(means))
        return None

    return find


def _from_folders(
    where: str, images: list[str], inside: list[str], part: str | None, notes: list[str]
) -> tuple[list[str], np.ndarray, tuple[str, ...] | None]:
    depth = 0 if part is None else 1
    names = [n for n in inside if n.count("/") > depth]
    if not names:
        raise EdgeqError(f"{where}: its images lie in no class folders and there is no {TABLE}; give one of them")
    if len(names) < len(inside):
        notes.append(f"{len(inside) - len(names)} images outside of class folders are left out")
    everywhere = sorted({n.split("/", depth + 1)[depth] for n in images if n.count("/") > depth})
    classes: tuple[str, ...] | None = tuple(everywhere)
    index = {c: i for i, c in enumerate(everywhere)}
    if all(c.isdecimal() for c in everywhere):  # sorted as text, "10" would come before "2"
        if (longest := max(everywhere, key=len)) and len(longest) > 9:
            raise EdgeqError(f"{where}: a class folder is named {longest[:20]}.., too large a number for a label; rename it")
        notes.append("class folders are named by numbers, which are taken as the labels")
        classes, index = None, {c: int(c) for c in everywhere}
    return names, np.array([index[n.split("/", depth + 1)[depth]] for n in names], np.int64), classes


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX/")) or "/." in name


def _outer(images: list[str], tables: set[str]) -> str:
    """``"folder/"`` if one folder is around everything and is neither a split nor a class; else ``""``."""
    top = images[0].split("/", 1)[0] + "/"
    if top == images[0] + "/" or TABLE in tables or top[:-1].lower() in SPLITS["train"] + SPLITS["test"]:
        return ""
    if not all(n.startswith(top) for n in images):
        return ""
    return top if top + TABLE in tables or all(n.count("/") >= 2 for n in images) else ""


def _split_layout(tops: set[str], images: list[str], tables: set[str], outer: str) -> bool:
    """Whether all top folders are splits. (A class may be called ``train``: then it has other folders beside it.)"""
    known = SPLITS["train"] + SPLITS["test"]
    if not tops or any(t.lower() not in known for t in tops):
        return False
    labelled = outer + TABLE in tables or any(f"{outer}{t}/{TABLE}" in tables for t in tops)
    return labelled or all(n.count("/") != 1 for n in images)


def _choose_split(tops: set[str], split: str, spec: str, notes: list[str]) -> str:
    here = {t.lower(): t for t in sorted(tops)}
    other = "test" if split == "train" else "train"
    for name in SPLITS[split]:
        if name in here:
            return here[name]
    chosen = next(here[name] for name in SPLITS[other] if name in here)
    notes.append(f"{spec} has no {split} folder: its {chosen} images are used")
    return chosen
