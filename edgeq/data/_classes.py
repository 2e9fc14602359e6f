"""Which number a class has: label columns, class names, class maps, and whether labels fit the model."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.names import class_index, parse_json, read_text
from edgeq.data._images import Images

FILE_COLUMNS = ("file", "filename", "file_name", "filepath", "path", "image", "image_name", "image_id", "image_path", "img", "name", "id")
_WNID = re.compile(r"n\d{8}")
BACKGROUND = "background"
SHOWN = 5  # names of a list in a sentence


def check_labels(dataset: Images, classes: int) -> None:
    """Raises :class:`EdgeqError` unless labels lie in ``0..classes - 1`` and the data's class count (where known) is ``classes``."""
    low = np.flatnonzero(dataset.labels < 0)
    if len(low):
        raise EdgeqError(f"{dataset.spec}: label {dataset.labels[low[0]]} of {dataset.names[low[0]]} is negative; labels count from 0")
    if dataset.classes is not None and len(dataset.classes) != classes:
        raise EdgeqError(f"{dataset.spec}: has {len(dataset.classes)} classes and the model {classes}; pass --class-map or other data")
    high = np.flatnonzero(dataset.labels >= classes)
    if len(high):
        raise EdgeqError(
            f"{dataset.spec}: label {dataset.labels[high[0]]} of {dataset.names[high[0]]} is outside the model's classes 0..{classes - 1}; "
            "labels count from 0: choose another --label-column, or pass --class-map"
        )


def from_text(values: Sequence[str], where: str) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels as written: whole numbers are the labels themselves, anything else is class names, numbered in sorted order.

    Returns ``(n,) int64`` and the class names, None for numbers.
    """
    distinct = sorted(set(values))
    numbers = {v: _number(v) for v in distinct}
    plain = [v for v in distinct if numbers[v] is not None]
    if not plain:
        index = {v: i for i, v in enumerate(distinct)}
        return np.array([index[v] for v in values], np.int64), tuple(distinct)
    for v in distinct:
        number = numbers[v]
        if number is None or number != number or abs(number) >= 2**31 or number != int(number):
            raise EdgeqError(f"{where}: label {v[:60]!r} is not a whole number")
    return np.array([int(numbers[v] or 0) for v in values], np.int64), None


def choose_column(columns: Sequence[str], wanted: str | None, classes: int | None, where: str) -> tuple[str, list[str]]:
    """The label column of a labels.csv, and notes: the wanted one, the only one, or the one that ends in ``_K`` of a model of K classes."""
    if wanted is not None:
        if wanted in columns:
            return wanted, []
        near = difflib.get_close_matches(wanted, columns, n=1)
        hint = f"did you mean {near[0]}?" if near else "its columns are " + ", ".join(columns)
        raise EdgeqError(f"{where}: has no column {wanted!r} (--label-column); {hint}")
    if len(columns) == 1:
        return columns[0], []
    fitting = [c for c in columns if classes is not None and c.endswith(f"_{classes}")]
    if len(fitting) != 1:
        raise EdgeqError(f"{where}: has several label columns ({', '.join(columns)}); pass --label-column with one of them")
    return fitting[0], [f"labels are column {fitting[0]} of labels.csv, as the model has {classes} classes (--label-column overrides)"]


def with_map(
    dataset: Images, source: str | Path | Mapping[str, int], names: Sequence[str] | None = None, classes: int | None = None
) -> Images:
    """``dataset`` with its classes renumbered for the model.

    ``source``: a JSON object or a CSV file of two columns (data class, model class), or a mapping. A data class is a class name (or a
    label, for data that only has numbers); a model class is an index, or one of ``names``. Or Keras's ``imagenet_class_index.json``,
    which counts the 1,000 classes behind the background of a model of 1,001 ``classes``.
    """
    pairs: Mapping[str, object]
    if isinstance(source, Mapping):
        pairs, where, first = source, "--class-map", 0
    else:
        pairs, indexed = _read_map(Path(source))
        where, first = str(source), int((indexed, classes) == (1000, 1001))
    position = {name: i for i, name in enumerate(names or ())}
    table: dict[str, int] = {}
    for key, value in pairs.items():
        number = _number(value) if isinstance(value, str) else value
        if isinstance(value, str) and value in position:
            number = position[value]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**31 or number != int(number):
            raise EdgeqError(f"{where}: class {key!r} is mapped to {value!r}; give the index of a class of the model, from 0")
        table[str(key)] = int(number) + first
    present = [int(v) for v in np.unique(dataset.labels)]
    lookup = {}
    for label in present:
        key = dataset.classes[label] if dataset.classes is not None else str(label)
        if key not in table:
            raise EdgeqError(f"{where}: says nothing of class {key!r} of {dataset.spec}; add it to the map")
        lookup[label] = table[key]
    labels = np.array([lookup[int(v)] for v in dataset.labels], np.int64)
    note = f"classes are renumbered by {where}: {len(present)} data classes to {len(set(lookup.values()))} of the model"
    return dataclasses.replace(dataset, labels=labels, classes=tuple(names) if names else None, notes=[*dataset.notes, note])


def with_names(dataset: Images, names: Sequence[str], classes: int | None = None) -> Images:
    """``dataset`` with the model's class ``names``, in the model's order.

    Where the data has names of its own, the model must know them all, by any of the synonyms between commas: labels follow the names,
    never their order. Raises :class:`EdgeqError` with both lists where it does not.
    """
    names = tuple(names)
    if classes == 1001 and len(names) == 1000 and all(_WNID.fullmatch(name.rpartition(", ")[2]) for name in names):
        names = (BACKGROUND, *names)  # a class index with WordNet ids counts the 1,000 that stand behind it
    if classes is not None and len(names) != classes:
        note = f"the {len(names)} class names do not fit the model's {classes} classes and are not used"
        return dataclasses.replace(dataset, notes=[*dataset.notes, note])
    if dataset.classes is None:
        return dataclasses.replace(dataset, classes=names)
    if (ordered := _by_wordnet(dataset, names)) is not None:
        return ordered
    if [*map(_plain, dataset.classes)] == [*map(_plain, names)]:  # even if two of them are called the same
        return dataclasses.replace(dataset, classes=names)
    places = _places(dataset.classes, names)
    if None in places or len(set(places)) < len(places):
        raise _unmatched(dataset.spec, dataset.classes, names, places)
    labels = np.array(places, np.int64)[dataset.labels]
    note = "classes are matched to the model's by name"
    return dataclasses.replace(dataset, labels=labels, classes=names, notes=[*dataset.notes, note])


def with_background(dataset: Images, classes: int) -> Images:
    """The 1,000 synsets of ImageNet, as folders of a model with 1,001 classes, of which the first is the background; else as it is.

    The model's order is that of the sorted WordNet ids, as in every release of ImageNet's 2012 challenge.
    """
    if classes != 1001 or not _is_imagenet(dataset.classes):
        return dataset
    note = "the 1,000 folders of WordNet ids are classes 1 to 1,000 of the model, whose class 0 is taken for the background"
    names = (BACKGROUND, *(dataset.classes or ()))
    return dataclasses.replace(dataset, labels=dataset.labels + 1, classes=names, notes=[*dataset.notes, note])


def _by_wordnet(dataset: Images, names: tuple[str, ...]) -> Images | None:
    """Folders of all 1,000 synsets for a model whose names are ImageNet's, in its order, and contain no ids; else None."""
    first = len(names) - 1000
    if first not in (0, 1) or not _is_imagenet(dataset.classes) or "tench" not in map(_plain, names[first].split(",")):
        return None
    if first:
        return dataclasses.replace(with_background(dataset, len(names)), classes=names)
    note = "the 1,000 folders of WordNet ids are the model's classes in their order"
    return dataclasses.replace(dataset, classes=names, notes=[*dataset.notes, note])


def _is_imagenet(classes: Sequence[str] | None) -> bool:
    return classes is not None and len(classes) == 1000 and all(map(_WNID.fullmatch, classes))


def _places(ours: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """Where each of ``ours`` stands among ``theirs``: by the whole name, else by a synonym that belongs to one class alone."""
    whole = {_plain(name): i for i, name in reversed(list(enumerate(theirs)))}
    synonyms: dict[str, set[int]] = {}
    for i, name in enumerate(theirs):
        for synonym in name.split(","):
            synonyms.setdefault(_plain(synonym), set()).add(i)

    def place(name: str) -> int | None:
        if (at := whole.get(_plain(name))) is not None:
            return at
        known = [synonyms.get(_plain(synonym), set()) for synonym in name.split(",")]
        if name.partition(",")[1]:  # all that is said of it must fit: "crane, bird" is not any crane
            known = [set.intersection(*known)] if all(known) else [s for s in known if len(s) == 1]
        several = set().union(*known)
        return several.pop() if len(several) == 1 else None

    return [place(name) for name in ours]


def _unmatched(spec: str, ours: Sequence[str], theirs: Sequence[str], places: Sequence[int | None]) -> EdgeqError:
    missing = [name for name, place in zip(ours, places, strict=True) if place is None]
    taken = Counter(places)
    left = _list([name for i, name in enumerate(theirs) if i not in taken])
    if missing:
        known = len(ours) - len(missing)
        said = f"the model knows {known} of its {len(ours)} class names and not {_list(missing)}; its own others are {left}"
    else:
        twice = next(i for i in places if taken[i] > 1)
        same = [name for name, place in zip(ours, places, strict=True) if place == twice]
        said = f"its classes {_list(same)} are all the model's {theirs[twice or 0][:40]!r}"
    return EdgeqError(f"{spec}: {said}; pass --class-map, or --class-names with the model's names")


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:SHOWN]) or "nothing"
    return shown + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def read_table(data: bytes, where: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a labels.csv, its cells between commas, semicolons or tabs. The first column is the file, or, where a later one
    alone is called so, that; it comes first. Every row has as many cells as the header."""
    try:
        text = data.decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)  # the first of them where none is there
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise EdgeqError(f"{where}: is not a UTF-8 CSV file ({error})") from None
    lines = [line for line in lines if line]
    header = [cell.strip() for cell in lines[0]] if lines else []
    called = [cell.lower() for cell in header]
    place = next((called.index(name) for name in FILE_COLUMNS if name in called), None)  # a class may be called by its name or id, too
    if len(header) < 2 or place is None:
        raise EdgeqError(f"{where}: its first line must be a header: file,label")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise EdgeqError(f"{where}: line {number} has {len(line)} cells and the header {len(header)}")
    header, *rows = ([line[place], *line[:place], *line[place + 1 :]] for line in [header, *lines[1:]])
    return header, rows


def _read_map(path: Path) -> tuple[dict[str, object], int]:
    """What a map says, and, if it is a class index, of how many classes."""
    text = read_text(path)
    if path.suffix.lower() == ".json":
        value = parse_json(text, str(path))
        if not isinstance(value, dict):
            raise EdgeqError(f'{path}: is not a JSON object like {{"cat": 281}}')
        index = class_index(value)
        if index is None:
            return value, 0
        several = Counter(names[1] for names in index.values())  # "crane" and "maillot" are two classes of ImageNet each
        return {name: i for i, names in index.items() for name in names if several[name] <= 1}, len(index)
    try:
        rows = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline="")) if line]
    except csv.Error as error:
        raise EdgeqError(f"{path}: is not a CSV file ({error})") from None
    if not rows or any(len(row) != 2 for row in rows):
        raise EdgeqError(f"{path}: is not a CSV file of two columns, data class and model class index")
    if _number(rows[0][1]) is None and len(rows) > 1 and _number(rows[1][1]) is not None:
        rows = rows[1:]  # a header
    return {row[0]: row[1] for row in rows}, 0


def _number(text: str) -> float | None:
    """The number that ``text`` spells (``1_0`` is a name, not a number); None if it is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
