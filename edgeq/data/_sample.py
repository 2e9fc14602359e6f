"""Which images are shown: a seeded, class-stratified sample (docs/concepts.md: *Images*)."""

from __future__ import annotations

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.rows import row_id
from edgeq.data._images import Images


def sample(dataset: Images, n: int | None, seed: int) -> np.ndarray:
    """``(min(n, total),) int64`` distinct indices; all of them, in the same order, for ``n`` None.

    Systematic sampling with a random start in each class: row ``r`` (in random order) of a class of ``N`` stands at ``(r + u) / N``, with
    one ``u`` in [0, 1) a class, and the first ``n`` rows are taken. So classes of equal size differ by at most one row, any prefix of the
    order is such a sample (``n = 200`` is the beginning of ``n = 500``), and the order depends on the seed, the rows' ids and their labels
    alone, not on the order of files.
    """
    total = len(dataset.names)
    if n is not None and n < 1:
        raise EdgeqError(f"--n {n}: is no number of images; give 1 or more")
    ids = np.fromiter((row_id(name) for name in dataset.names), np.int64, total)
    keys = _mix(ids.astype(np.uint64), seed)
    _, classes, sizes = np.unique(dataset.labels, return_inverse=True, return_counts=True)
    by_class = np.lexsort((ids, keys, classes))
    rank = np.empty(total)
    rank[by_class] = np.arange(total) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    start = _mix(np.unique(dataset.labels).astype(np.uint64), seed + 1) / 2.0**64
    order = np.lexsort((ids, keys, (rank + start[classes]) / sizes[classes]))
    return order[:n].astype(np.int64)


def _mix(values: np.ndarray, seed: int) -> np.ndarray:
    """``uint64`` hashes of ``uint64`` values under a seed: the finaliser of SplitMix64 (Steele, Lea & Flood 2014), twice."""
    key = np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for _ in range(2):
        values = values ^ key
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        values = values ^ (values >> np.uint64(31))
    return values
