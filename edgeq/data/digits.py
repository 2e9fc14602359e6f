"""``digits``: the 1,797 8x8 grey digits of scikit-learn's ``load_digits``, in the package.

They are the test part of UCI's "Optical recognition of handwritten digits" (Alpaydin & Kaynak 1998, CC BY 4.0).
``tools/make_digits.py`` makes the file.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import OpenDataset
from edgeq.core.rows import row_id
from edgeq.data._images import Images


def open_digits(spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Images:
    """``(8, 8, 1) uint8``: the 17 grey levels 0..16 as ``rint(v * 255 / 16)``. Names are the digit's index in scikit-learn's order.

    The split is fixed: of each class, the fifth with the smallest row ids (rounded) is the test split: 359 images; the other 1,438 train.
    """
    if path:
        raise EdgeqError(f"{spec}: digits are inside edgeq and take no path; write digits")
    with resources.as_file(resources.files("edgeq.data") / "_digits.npz") as file, np.load(file, allow_pickle=False) as arrays:
        grey, labels = arrays["images"], arrays["labels"].astype(np.int64)
    chosen = in_test(labels) if split == "test" else ~in_test(labels)
    index = np.flatnonzero(chosen)
    pixels = np.rint(grey[index] * (255 / 16)).astype(np.uint8)[..., None]
    return Images(spec, [str(i) for i in index], labels[index], tuple("0123456789"), lambda i: pixels[i].copy(), lambda: [pixels.tobytes()])


def in_test(labels: np.ndarray) -> np.ndarray:
    """``(n,) bool``: the rows of the test split. Row ids are hashes, so this is a stratified draw that no library version changes."""
    ids = np.array([row_id(str(i)) for i in range(len(labels))])
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen[rows[np.argsort(ids[rows])][: round(len(rows) / 5)]] = True
    return chosen


plugin: OpenDataset = open_digits
