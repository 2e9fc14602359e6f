"""The images of an export: those that set ranges, and those that its files are compared on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgeq import data as sets
from edgeq.core.reporter import Reporter
from edgeq.core.signature import Signature
from edgeq.keras import convert
from edgeq.measure.exported import Calibration
from edgeq.pipeline.preprocess import Preprocess

CHUNK = 256
Batch = tuple[np.ndarray, np.ndarray | None]
"""``(m, h, w, c) uint8`` images, and their ``(m,) int64`` labels, or None where nobody knows them."""


@dataclass(frozen=True)
class Photographs:
    """How photographs are read: turned upright as their EXIF orientation says, and those that cannot be read left out, or not."""

    exif: bool = True
    skip_unreadable: bool = False

    def unreadable(self, dataset: sets.Images, n: int, seed: int) -> list[str]:
        """What a sample of ``n`` leaves out."""
        return sets.unreadable(dataset, n, seed) if self.skip_unreadable else []


@dataclass(frozen=True, eq=False)
class Sample:
    """``total`` images of ``data``, read anew by each call of ``batches``; ``labels``: the names of their classes, where known;
    ``unreadable``: the names of images that were left out."""

    data: str
    total: int
    seed: int
    labels: list[str] | None
    batches: Callable[[], Iterator[Batch]]
    unreadable: list[str]

    def first(self, n: int) -> np.ndarray:
        """``(n, h, w, c) uint8``, or all where there are fewer."""
        parts, count = [], 0
        for images, _ in self.batches():
            parts.append(images[: n - count])
            count += len(parts[-1])
            if count >= n:
                break
        return np.concatenate(parts)


class Bordered(Protocol):
    """A network of which only this matters here."""

    @property
    def signature(self) -> Signature: ...


def sample(spec: str | None, n: int, seed: int, network: Bordered, prepare: Preprocess, photos: Photographs, reporter: Reporter) -> Sample:
    """Of the test split of ``spec``, evenly over its classes; or random images where no data is known. Raises :class:`EdgeqError`."""
    shape = network.signature.input.shape
    if spec is None:
        reporter.say("no test images are known (pass --data), so random images are compared, without accuracy", "yellow")

        def noise() -> Iterator[Batch]:
            rng = np.random.default_rng(seed)
            for at in range(0, n, CHUNK):
                yield rng.integers(0, 256, (min(CHUNK, n - at), *shape), np.uint8), None

        return Sample("uniform random images", n, seed, None, noise, [])
    dataset = sets.open(spec, split="test", classes=network.signature.classes, exif=photos.exif)
    skipped = photos.unreadable(dataset, n, seed)
    index = sets.sample(dataset, n, seed, skipped)
    for note in (*sets.left_out(dataset, skipped), *sets.turned(dataset, index)):
        reporter.say(note)

    def sampled() -> Iterator[Batch]:
        for at in range(0, len(index), CHUNK):
            part = index[at : at + CHUNK]
            yield sets.decode(dataset, part, prepare.apply), dataset.labels[part]

    return Sample(spec, len(index), seed, list(dataset.classes) if dataset.classes else None, sampled, skipped)


def calibration(
    spec: str, n: int, seed: int, prepare: Preprocess, photos: Photographs, reporter: Reporter
) -> tuple[np.ndarray, Calibration]:
    """A sample of the train split of ``spec``: ``(m, h, w, c) uint8``, m at most ``n``; and what it is. Raises :class:`EdgeqError`."""
    dataset = sets.open(spec, split="train", exif=photos.exif)
    skipped = photos.unreadable(dataset, n, seed)
    index = sets.sample(dataset, n, seed, skipped)
    for note in (*dataset.notes, *sets.left_out(dataset, skipped), *sets.turned(dataset, index)):
        reporter.say(note)
    images = sets.decode(dataset, index, prepare.apply)
    return images, Calibration(len(images), convert.calibration_hash(images), spec, "train", seed, tuple(skipped))
