"""A row: one image with its id and label. The pixels travel beside it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np


def row_id(name: str) -> int:
    """The id of the image ``name`` (its relative path, or its index as text): 63 bits of BLAKE2b.

    63, not 64: SQLite's integers are signed.
    """
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, eq=False)
class Rows:
    """Who the images are. ``ids``: ``(n,) int64``, from :func:`row_id`; ``labels``: ``(n,) int64``, 0-based."""

    ids: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: np.ndarray | slice) -> Rows:
        return Rows(self.ids[index], self.labels[index])
