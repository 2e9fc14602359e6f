"""Which number a class has: label columns, class names, class maps, and whether labels fit the model."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.data._images import Images

MAX_BYTES = 8 << 20  # of a class map or a list of names


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


def with_map(dataset: Images, source: str | Path | Mapping[str, int], names: Sequence[str] | None = None) -> Images:
    """``dataset`` with its classes renumbered for the model.

    ``source``: a JSON object or a CSV file of two columns (data class, model class), or a mapping. A data class is a class name (or a
    label, for data that only has numbers); a model class is an index, or one of ``names``.
    """
    pairs: Mapping[str, object]
    if isinstance(source, Mapping):
        pairs, where = source, "--class-map"
    else:
        pairs, where = _read_map(Path(source)), str(source)
    position = {name: i for i, name in enumerate(names or ())}
    table: dict[str, int] = {}
    for key, value in pairs.items():
        number = _number(value) if isinstance(value, str) else value
        if isinstance(value, str) and value in position:
            number = position[value]
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 2**31 or number != int(number):
            raise EdgeqError(f"{where}: class {key!r} is mapped to {value!r}; give the index of a class of the model, from 0")
        table[str(key)] = int(number)
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

    Where the data has names of its own: if the model knows them all, labels follow the names; otherwise they stay in place, and a
    name that both know must then stand at the same place, else :class:`EdgeqError`.
    """
    names = tuple(names)
    if classes is not None and len(names) != classes:
        note = f"the {len(names)} class names do not fit the model's {classes} classes and are not used"
        return dataclasses.replace(dataset, notes=[*dataset.notes, note])
    if dataset.classes is None:
        return dataclasses.replace(dataset, classes=names)
    position = {_plain(name): i for i, name in reversed(list(enumerate(names)))}
    places = [position.get(_plain(name)) for name in dataset.classes]
    if None not in places and len(set(places)) == len(places):
        if places == list(range(len(places))):
            return dataclasses.replace(dataset, classes=names)
        labels = np.array(places, np.int64)[dataset.labels]
        note = "classes are matched to the model's by name"
        return dataclasses.replace(dataset, labels=labels, classes=names, notes=[*dataset.notes, note])
    for i, place in enumerate(places):
        if place is not None and place != i:
            raise EdgeqError(
                f"{dataset.spec}: class {dataset.classes[i]!r} is number {i} here and {place} in the model, "
                "and other names differ; pass --class-map"
            )
    return dataset


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names from a file: one a line, in label order, or a JSON list."""
    text = _text(Path(path))
    if Path(path).suffix.lower() == ".json":
        value = _json(text, str(path))
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise EdgeqError(f"{path}: is not a JSON list of class names")
        names = tuple(value)
    else:
        names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names or not any(names):
        raise EdgeqError(f"{path}: contains no class names; give one a line, in label order")
    return names


def read_table(data: bytes, where: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a labels.csv. The first column is the file; every row has as many cells as the header."""
    try:
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise EdgeqError(f"{where}: is not a UTF-8 CSV file ({error})") from None
    lines = [line for line in lines if line]
    header = [cell.strip() for cell in lines[0]] if lines else []
    if len(header) < 2 or header[0].lower() not in ("file", "filename", "path", "image"):
        raise EdgeqError(f"{where}: its first line must be a header: file,label")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise EdgeqError(f"{where}: line {number} has {len(line)} cells and the header {len(header)}")
    return header, lines[1:]


def _read_map(path: Path) -> dict[str, object]:
    text = _text(path)
    if path.suffix.lower() == ".json":
        value = _json(text, str(path))
        if not isinstance(value, dict):
            raise EdgeqError(f'{path}: is not a JSON object like {{"cat": 281}}')
        return value
    try:
        rows = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text, newline="")) if line]
    except csv.Error as error:
        raise EdgeqError(f"{path}: is not a CSV file ({error})") from None
    if not rows or any(len(row) != 2 for row in rows):
        raise EdgeqError(f"{path}: is not a CSV file of two columns, data class and model class index")
    if _number(rows[0][1]) is None and len(rows) > 1 and _number(rows[1][1]) is not None:
        rows = rows[1:]  # a header
    return {row[0]: row[1] for row in rows}


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EdgeqError(f"{path}: is larger than {MAX_BYTES >> 20} MB, no list of classes")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise EdgeqError(f"{path}: is not UTF-8 text") from None


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgeqError(f"{where}: is not JSON ({error})") from None


def _number(text: str) -> float | None:
    """The number that ``text`` spells (``1_0`` is a name, not a number); None if it is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")
