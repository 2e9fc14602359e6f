"""What every data set is once it is open: names, labels, and a function that decodes one image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgeq.core.errors import EdgeqError


class UnreadableError(EdgeqError):
    """One image that cannot be read, where others may be."""


@dataclass(frozen=True, eq=False)
class Images:
    """A :class:`edgeq.core.protocols.Dataset`. Images are decoded one at a time, when they are asked for.

    ``spec``: what the user wrote; ``names``: relative path or index of each image; ``labels``: ``(n,) int64``, 0-based;
    ``classes``: class names in label order, where known; ``read``: index -> ``(h, w, c) uint8``;
    ``content``: bytes that change when the images change; ``notes``: sentences to print, what was decided on the user's behalf.
    ``upright``: as ``read``, turned as the file's EXIF orientation says; ``is_turned``: whether that moves a pixel; both None where files
    state none.
    """

    spec: str
    names: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...] | None
    read: Callable[[int], np.ndarray]
    content: Callable[[], Iterable[bytes]]
    notes: list[str] = field(default_factory=list)
    upright: Callable[[int], np.ndarray] | None = None
    is_turned: Callable[[int], bool] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> np.ndarray:
        """``(h, w, c) uint8``, c 1 or 3 (RGB), at the size it is stored in. Raises :class:`UnreadableError`."""
        return (self.upright or self.read)(int(index))

    def as_stored(self) -> Images:
        """The same without regard to EXIF orientations."""
        return replace(self, upright=None, is_turned=None)

    def sha256(self) -> str:
        """Hex digest of names, labels and content, streamed.

        The content is the stored bytes for ``digits``, ``cifar10``, ``svhn`` and ``npz``; names with sizes and CRC-32 for ``zip``;
        names with sizes for ``folder`` (so that it stays cheap for a folder of any size).
        """
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        for chunk in self.content():
            digest.update(chunk)
        return digest.hexdigest()


def whole_labels(values: np.ndarray, where: str) -> np.ndarray:
    """``(n,) int64`` of labels in any numeric dtype, ``(n,)`` or ``(n, 1)``. Raises :class:`EdgeqError` for NaN and fractions."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iuf":
        raise EdgeqError(f"{where}: labels have shape {values.shape} and type {values.dtype}; give one whole number an image")
    if values.dtype.kind == "f":
        bad = np.flatnonzero(~(np.isfinite(values) & (np.rint(values) == values) & (np.abs(values) < 2**31)))
        if len(bad):
            raise EdgeqError(f"{where}: label {values[bad[0]]} of row {bad[0]} is not a whole number")
    return values.astype(np.int64)


def reject(where: str, wrong: str, remedy: str) -> EdgeqError:
    """The error of a file: what is wrong, and what to do."""
    return EdgeqError(f"{where}: {wrong}; {remedy}")
