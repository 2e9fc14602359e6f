"""Which images are shown: a seeded, class-stratified sample (docs/concepts.md: *Images*)."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.rows import row_id
from edgeq.data._images import Images, UnreadableError


def unreadable(dataset: Images, n: int | None, seed: int) -> list[str]:
    """The names of the images that cannot be read, of those that :func:`sample` comes by until ``n`` can. Each of these is decoded.

    Raises :class:`EdgeqError` where none can be read.
    """
    names, first, read = list[str](), "", 0
    for index in sample(dataset, None, seed):
        if read == n:
            break
        try:
            dataset.image(int(index))
            read += 1
        except UnreadableError as error:
            names.append(dataset.names[index])
            first = first or str(error)
    if names and not read:
        raise EdgeqError(f"{dataset.spec}: none of its {len(names)} images can be read; the first: {first}")
    return names


def sample(dataset: Images, n: int | None, seed: int, without: Collection[str] = ()) -> np.ndarray:
    """``(min(n, total),) int64`` distinct indices; all of them, in the same order, for ``n`` None.

    Systematic sampling with a random start in each class: row ``r`` (in random order) of a class of ``N`` stands at ``(r + u) / N``, with
    one ``u`` in [0, 1) a class, and the first ``n`` rows are taken. So classes of equal size differ by at most one row, any prefix of the
    order is such a sample (``n = 200`` is the beginning of ``n = 500``), and the order depends on the seed, the rows' ids and their labels
    alone, not on the order of files. Images ``without`` which the sample is to be, by name, are passed over: the others keep their order,
    and those that come next fill it up.
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
    if passed := {*without}:
        order = order[[dataset.names[i] not in passed for i in order]]
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
