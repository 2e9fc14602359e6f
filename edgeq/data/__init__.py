"""Where images come from: ``digits``, ``cifar10[:PATH]``, ``svhn:PATH``, ``folder:PATH``, ``zip:PATH``, ``npz:PATH``.

A new data set is one module here with ``plugin``, a function like :func:`edgeq.data.digits.open_digits`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.names import read_names
from edgeq.data._classes import check_labels, with_background, with_map, with_names
from edgeq.data._images import Images, whole_labels
from edgeq.data._sample import sample, unreadable

__all__ = [
    "Images",
    "check_labels",
    "decode",
    "fitted",
    "left_out",
    "open",
    "read_names",
    "sample",
    "turned",
    "unreadable",
    "whole_labels",
]


def open(
    spec: str,
    split: str = "test",
    label_column: str | None = None,
    classes: int | None = None,
    class_map: str | Path | Mapping[str, int] | None = None,
    class_names: Sequence[str] | None = None,
    exif: bool = True,
) -> Images:
    """The data set that ``spec`` names. A path alone means ``folder:``, ``zip:`` or ``npz:``, by its kind.

    ``split``: test or train; ``label_column``: of a labels.csv; ``classes``: the model's number of classes, which labels must fit;
    ``class_map``: a JSON or CSV file, data class -> model class; ``class_names``: the model's class names, in its order; ``exif``: turn
    photographs upright as their EXIF orientation says, or leave them as they are stored. Raises :class:`EdgeqError`.
    """
    if split not in ("train", "test"):
        raise EdgeqError(f"there is no split {split!r}; choose train or test")
    name, path = _parse(spec)
    data = plugins.load(plugins.DATA_SETS, name)(spec, path, split, label_column=label_column, classes=classes)
    if not isinstance(data, Images):
        raise EdgeqError(f"{spec}: the data set {name} returns {type(data).__name__}; it should return edgeq.data.Images")
    return fitted(data if exif else data.as_stored(), classes, class_map, class_names)


def fitted(
    data: Images, classes: int | None, class_map: str | Path | Mapping[str, int] | None, class_names: Sequence[str] | None
) -> Images:
    """``data`` with labels that are classes of the model; what they are stands at :func:`open`. Raises :class:`EdgeqError`."""
    if class_map is not None:
        data = with_map(data, class_map, class_names, classes)
    elif class_names is None and classes is not None:
        data = with_background(data, classes)
    elif class_names is not None:
        data = with_names(data, class_names, classes)
    if classes is not None:
        check_labels(data, classes)
    return data


def decode(dataset: Images, indices: Sequence[int] | np.ndarray, prepare: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``(n, h, w, c) uint8``: the images at ``indices``, each decoded and prepared by itself (``prepare`` is ``Preprocess.apply``).

    What ``prepare`` refuses is said with the image's name. Raises :class:`EdgeqError`.
    """
    batch: np.ndarray | None = None
    for at, index in enumerate(indices):
        try:
            image = prepare(dataset.image(index))
        except EdgeqError as error:
            name = dataset.names[index]
            raise error if name in str(error) else EdgeqError(f"{dataset.spec}: {name}: {error}") from None
        if batch is None:
            batch = np.empty((len(indices), *image.shape), np.uint8)
        if image.shape != batch.shape[1:]:
            raise EdgeqError(f"{dataset.spec}: {dataset.names[index]}: has shape {image.shape} where other images have {batch.shape[1:]}")
        batch[at] = image
    if batch is None:
        raise EdgeqError(f"{dataset.spec}: no images were chosen")
    return batch


def turned(dataset: Images, indices: Sequence[int] | np.ndarray) -> list[str]:
    """A note, where images at ``indices`` are turned upright as their EXIF orientation says. Raises :class:`EdgeqError`."""
    count = 0 if dataset.is_turned is None else sum(dataset.is_turned(int(index)) for index in indices)
    if not count:
        return []
    many = f"{count} of {len(indices)} images are" if count > 1 else f"1 of {len(indices)} images is"
    return [f"{dataset.spec}: {many} turned upright, as the EXIF orientation says (--no-exif leaves them as stored)"]


def left_out(dataset: Images, unreadable: Sequence[str]) -> list[str]:
    """A note on images that are left out of the sample because they cannot be read, where there are any."""
    if not unreadable:
        return []
    many = f"{len(unreadable)} images that cannot be read are" if len(unreadable) > 1 else "1 image that cannot be read is"
    return [f"{dataset.spec}: {many} left out: {', '.join(unreadable[:3])}{' ..' if len(unreadable) > 3 else ''}"]


def _parse(spec: str) -> tuple[str, str]:
    name, _, path = spec.partition(":")
    known = plugins.names(plugins.DATA_SETS)
    if name not in known:
        place = Path(spec).expanduser()
        if place.is_dir():
            return "folder", spec
        if place.suffix.lower() in (".zip", ".npz") and place.is_file():
            return place.suffix.lower()[1:], spec
    return plugins.choose("data set", name, known), path
