"""Class names, and what else files say in plain text or JSON of classes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgeq.core.errors import EdgeqError

MAX_BYTES = 8 << 20  # of a class map or a list of names
_NUMBERED = re.compile(r"(\d{1,9})[\s:,;]+(\S.*)")
_SYNSET = re.compile(r"(n\d{8})[\s:,;]+(\S.*)")


def read_names(path: str | Path) -> tuple[str, ...]:
    """Class names from a file, in label order: one a line, which may begin with its number or its WordNet id; a JSON list; or Keras's
    ``imagenet_class_index.json``. An id becomes the last of a name's synonyms, ``tench, n01440764``."""
    text = read_text(Path(path))
    if Path(path).suffix.lower() == ".json":
        value = parse_json(text, str(path))
        index = class_index(value)
        value = value if index is None else [", ".join(reversed(index[i])) for i in range(len(index))]
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise EdgeqError(f"{path}: is not a JSON list of class names, nor a class index as Keras's")
        names = tuple(value)
    else:
        names = in_order([line.strip() for line in text.rstrip().splitlines()])
    if not names or not any(names):
        raise EdgeqError(f"{path}: contains no class names; give one a line, in label order")
    return names


def in_order(lines: list[str]) -> tuple[str, ...]:
    """Names without the numbers or WordNet ids that may stand before each of them."""
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered) and sorted(int(m[1]) for m in numbered if m) == list(range(len(lines))):
        return tuple(m[2] for m in sorted((m for m in numbered if m), key=lambda m: int(m[1])))
    synsets = [_SYNSET.fullmatch(line) for line in lines]
    if all(synsets):
        return tuple(f"{m[2]}, {m[1]}" for m in synsets if m)
    return tuple(lines)


def class_index(value: object) -> dict[int, list[str]] | None:
    """``{"0": ["n01440764", "tench"], ...}``, without gaps, by number; None for anything else."""
    if not isinstance(value, dict) or not value or sorted(value) != sorted(str(i) for i in range(len(value))):
        return None
    if not all(isinstance(v, list) and len(v) == 2 and all(isinstance(t, str) for t in v) for v in value.values()):
        return None
    return {int(key): names for key, names in value.items()}


def read_text(path: Path) -> str:
    """A small UTF-8 file. Raises :class:`EdgeqError`."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise EdgeqError(f"{path}: is larger than {MAX_BYTES >> 20} MB, no list of classes")
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise EdgeqError(f"{path}: is not UTF-8 text") from None


def parse_json(text: str, where: str) -> object:
    """Raises :class:`EdgeqError` naming ``where``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EdgeqError(f"{where}: is not JSON ({error})") from None
