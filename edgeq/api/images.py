"""Labelled images in memory: from arrays, or sampled from a data set as a target is shown them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import data
from edgeq.api.opening import OpenTarget
from edgeq.core.errors import EdgeqError
from edgeq.data import whole_labels


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images: ``edgeq.Images(x, y)`` from arrays of your own.

    ``x``: ``(n, h, w, c)`` or ``(n, h, w) uint8`` in 0..255, c 1 (grey) or 3; at a model's input size they are shown to it as they are,
    else resized and cropped as its device does. ``y``: ``(n,)`` whole numbers, the true classes, from 0. ``names``: n different texts, by
    default "0", "1" ...: a row is known, and its random numbers are drawn, by its name. ``classes``: class names in the order of ``y``,
    where known. ``spec``: where they come from.

    Raises :class:`EdgeqError` for another dtype or shape, for NaN, for labels out of range, and where lengths differ.
    """

    x: np.ndarray
    y: np.ndarray
    names: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    spec: str = "array"

    def __post_init__(self) -> None:
        x = _pixels(np.asarray(self.x))
        y = whole_labels(np.asarray(self.y), "y")
        names = tuple(map(str, range(len(x)) if self.names is None else self.names))
        if len(y) != len(x) or len(names) != len(x):
            raise EdgeqError(f"there are {len(x)} images in x, {len(y)} labels in y and {len(names)} names; give one of each for an image")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise EdgeqError(f"names: {twice!r} stands there twice; a row is known by its name, so give each image its own")
        classes = None if self.classes is None else tuple(map(str, self.classes))
        most = np.iinfo(np.int64).max if classes is None else len(classes) - 1
        if len(bad := np.flatnonzero((y < 0) | (y > most))):
            classes_are = "classes count from 0" + ("" if classes is None else f" to {most}")
            raise EdgeqError(f"y: label {y[bad[0]]} of image {bad[0]} is out of range; {classes_are}")
        for name, value in (("x", x), ("y", y), ("names", names), ("classes", classes)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> Images:
        """Some of them, each with its name: ``images[:50]``, ``images[images.y == 3]``."""
        places = np.atleast_1d(np.arange(len(self))[index])
        assert self.names is not None
        return replace(self, x=self.x[places], y=self.y[places], names=tuple(self.names[i] for i in places))

    def __repr__(self) -> str:
        h, w, c = self.x.shape[1:]
        return f"<{len(self)} images of {h} x {w} x {c} from {self.spec}>"

    def dataset(self) -> data.Images:
        """The same, as a data set of :mod:`edgeq.data`."""
        assert self.names is not None
        classes = None if self.classes is None else tuple(self.classes)
        return data.Images(self.spec, self.names, self.y, classes, lambda i: self.x[i], lambda: [self.x.tobytes()])

    def sha256(self) -> str:
        """Hex digest of names, labels and pixels."""
        return self.dataset().sha256()


def load(
    spec: str | Path,
    like: OpenTarget | None = None,
    n: int | None = 500,
    seed: int = 0,
    *,
    split: str = "test",
    label_column: str | None = None,
    class_map: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    exif: bool = True,
    skip_unreadable: bool = False,
) -> Images:
    """A sample of ``n`` images of a data set, drawn evenly over its classes under ``seed``; all of them for None.

    ``spec``: ``"digits"``, ``"cifar10:PATH"``, ``"svhn:PATH"``, ``"folder:PATH"``, ``"zip:PATH"``, ``"npz:PATH"``, or a path alone.
    ``like``: resized and cropped as this target's device does, with its classes; without it images stay as they are stored, and must all
    have one size. ``split``: test or train. ``label_column``: of a labels.csv; ``class_map``: a JSON or CSV file, class of the data to
    class of the model; ``class_names``: the model's, where the target does not state them. ``exif``: photographs are turned upright as
    their EXIF orientation says. ``skip_unreadable``: images that cannot be read are left out, and the next of the sample taken.

    Images are the same, in the same order, as ``edgeq attack --data SPEC --n N --seed SEED`` takes. Raises :class:`EdgeqError`.
    """
    classes = None if like is None else like.signature.classes
    names = class_names if class_names is not None or like is None else like.classes
    opened = data.open(str(spec), split, label_column, classes, class_map, names and list(names), exif)
    index = data.sample(opened, n, seed, data.unreadable(opened, n, seed) if skip_unreadable else ())
    if not len(index):
        raise EdgeqError(f"{spec}: contains no image to sample")
    prepare: Any = like.prepared(opened.image(int(index[0])).shape).apply if like is not None else np.asarray
    x = data.decode(opened, index, prepare)
    return Images(x, opened.labels[index], [opened.names[i] for i in index], opened.classes, str(spec))


def _pixels(x: np.ndarray) -> np.ndarray:
    """``(n, h, w, c) uint8``, or :class:`EdgeqError`."""
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise EdgeqError("x: contains NaN or infinity; repair it, and give pixels as uint8 in 0..255")
    if x.dtype != np.uint8:
        advice = "np.rint(255 * x).astype(np.uint8) where it runs from 0 to 1" if x.dtype.kind == "f" else "x.astype(np.uint8)"
        raise EdgeqError(f"x: contains {x.dtype}; give pixels as uint8 in 0..255 ({advice})")
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[3] not in (1, 3) or not x.size:
        raise EdgeqError(f"x: has shape {x.shape}; give (n, h, w, c) with 1 or 3 channels, or (n, h, w)")
    return x
