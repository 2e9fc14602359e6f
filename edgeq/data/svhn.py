"""``svhn:PATH``: Street View House Numbers, cropped digits (Netzer et al. 2011): ``test_32x32.mat`` .. in a folder or tar."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import OpenDataset
from edgeq.data._archive import keras_cache, official_files
from edgeq.data._images import Images, whole_labels
from edgeq.data._matlab import read_arrays

MAX_BYTES = 512 << 20  # the official train file has 182 MB


def open_svhn(spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Images:
    """One split stays in memory (80 MB for test, 225 MB for train). Label 10 is the digit 0. Names: ``test/00000`` in the file's order."""
    name = f"{split}_32x32.mat"
    if not path:
        path = str(keras_cache() / "svhn")
        if not Path(path).is_dir():
            raise EdgeqError(f"{spec}: edgeq does not download it; write svhn:PATH with the folder of train_32x32.mat and test_32x32.mat")
    files = official_files(spec, path, [name], MAX_BYTES)
    if name not in files:
        raise EdgeqError(f"{spec}: contains no {name}; give the folder of the official cropped digits")
    where = f"{spec}: {name}"
    arrays = read_arrays(files.pop(name), {"X", "y"}, where)
    if set(arrays) != {"X", "y"}:
        raise EdgeqError(f"{where}: contains no X and y; use the official cropped digits")
    pixels = arrays["X"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:3] != (32, 32, 3):
        raise EdgeqError(f"{where}: X has shape {pixels.shape} and type {pixels.dtype}, not (32, 32, 3, n) uint8")
    labels = whole_labels(arrays["y"], where)
    if len(labels) != pixels.shape[3] or not len(labels):
        raise EdgeqError(f"{where}: contains {pixels.shape[3]} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() > 10:
        raise EdgeqError(f"{where}: contains the label {labels.max() if labels.max() > 10 else labels.min()}, outside of 0..10")

    def read(index: int) -> np.ndarray:
        return np.ascontiguousarray(pixels[..., index])

    names = [f"{split}/{i:05d}" for i in range(len(labels))]
    return Images(spec, names, labels % 10, tuple("0123456789"), read, lambda: [pixels.tobytes("F")])


plugin: OpenDataset = open_svhn
