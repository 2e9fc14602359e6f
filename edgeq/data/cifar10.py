"""``cifar10`` and ``cifar10:PATH``: Krizhevsky's 60,000 32x32 colour images, from the official python version (a tar.gz or its folder).

Without PATH Keras's cache is looked through, and nothing else is done. ``cifar10:download`` asks for what the cache lacks (170 MB, with
TensorFlow's help); a file of that name is ``cifar10:./download``.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import OpenDataset
from edgeq.data._archive import keras_cache, official_files
from edgeq.data._images import Images, whole_labels
from edgeq.data._pickle import read_dict

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
MAX_BYTES = 64 << 20  # an official batch has 31 MB
DOWNLOAD = "download"
CACHED = ("cifar-10-batches-py", "cifar-10-batches-py-target", "cifar-10-batches-py.tar.gz", "cifar-10-python.tar.gz")


def open_cifar10(spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Images:
    """One split stays in memory (31 MB for test, 154 MB for train), whatever ``n``. Names: ``test/00000`` in the file's order."""
    stated = path not in ("", DOWNLOAD)
    files = official_files(spec, path, BATCHES[split], MAX_BYTES) if stated else _cached_or_downloaded(spec, path, split)
    missing = [name for name in BATCHES[split] if name not in files]
    if missing:
        raise EdgeqError(f"{spec}: contains no {missing[0]}; give the official python version (cifar-10-python.tar.gz or its folder)")
    batches = [_batch(read_dict(files[name], f"{spec}: {name}"), f"{spec}: {name}") for name in BATCHES[split]]
    data = batches[0][0] if len(batches) == 1 else np.concatenate([pixels for pixels, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])

    def read(index: int) -> np.ndarray:
        return np.ascontiguousarray(data[index].reshape(3, 32, 32).transpose(1, 2, 0))

    return Images(spec, [f"{split}/{i:05d}" for i in range(len(data))], labels, CLASSES, read, lambda: [data.tobytes()])


def _batch(value: dict[str, Any], where: str) -> tuple[np.ndarray, np.ndarray]:
    data, labels = value.get("data"), value.get("labels")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072 or not isinstance(labels, list):
        raise EdgeqError(
            f"{where}: contains no labelled images of 3,072 bytes; use the official python version of CIFAR-10 (not of CIFAR-100)"
        )
    if not all(type(v) is int for v in labels):
        raise EdgeqError(f"{where}: contains a label that is not a whole number")
    if len(labels) != len(data) or not len(data):
        raise EdgeqError(f"{where}: contains {len(data)} images and {len(labels)} labels")
    out = [v for v in labels if not 0 <= v < 10]
    if out:
        raise EdgeqError(f"{where}: contains the label {out[0]}, outside of 0..9")
    return data, whole_labels(np.array(labels, np.int64), where)


def _cached_or_downloaded(spec: str, path: str, split: str) -> dict[str, bytes]:
    for name in CACHED:
        place = keras_cache() / name
        if place.exists():
            files = official_files(f"{spec} ({place})", str(place), BATCHES[split], MAX_BYTES)
            if len(files) == len(BATCHES[split]):
                return files
    if path != DOWNLOAD:
        raise EdgeqError(
            f"{spec}: is not on this machine; write cifar10:PATH with cifar-10-python.tar.gz, or cifar10:{DOWNLOAD} to fetch it (170 MB)"
        )
    try:  # by name, as only edgeq.keras may import TensorFlow
        fetch = importlib.import_module("edgeq.keras.datasets").fetch
        place = fetch("cifar10")
    except ModuleNotFoundError as error:
        raise EdgeqError(
            f"{spec}: is not on this machine; write cifar10:PATH with cifar-10-python.tar.gz, "
            f'or pip install "edgeq[keras]" to download it ({error})'
        ) from None
    return official_files(f"{spec} ({place})", str(place), BATCHES[split], MAX_BYTES)


plugin: OpenDataset = open_cifar10
