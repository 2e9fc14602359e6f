"""What an attack sees of a target: its labels, its scores, or its logits.

A view changes what an attack *sees*. Whether it succeeded is always judged on the file's real output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.core.protocols import Target
from edgeq.integer import read, strip


@contextmanager
def stripped(target: Path) -> Iterator[Path]:
    """A temporary copy of a ``.tflite`` or ``.onnx`` that answers with its logits."""
    with scratch() as folder:
        file = folder / target.name
        file.write_bytes(strip.strip(read.content(target), str(target)))
        yield file


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen(Answer):
    """What an attack sees of ``images``; whether they fool is judged on what ``real`` answers, asked only where that is open."""

    images: np.ndarray
    real: Target

    def __getitem__(self, index: np.ndarray | slice) -> Seen:
        return Seen(self.kind, self.raw[index], self.scale, self.zero, images=self.images[index], real=self.real)

    def margin(self, labels: np.ndarray) -> np.ndarray:
        """As :meth:`Answer.margin`, and 0 where only the view is fooled: a softmax can round two logits to one score."""
        margin = super().margin(labels)
        where = np.flatnonzero(margin > 0)
        if len(where):
            margin[where[~self.real.answer(self.images[where]).fooled(labels[where])]] = 0
        return margin

    def lead(self, wanted: np.ndarray) -> np.ndarray:
        """As :meth:`Answer.lead`, and 0 where only the view answers ``wanted``."""
        lead = super().lead(wanted)
        where = np.flatnonzero(lead > 0)
        if len(where):
            lead[where[self.real.answer(self.images[where]).lead(wanted[where]) <= 0]] = 0
        return lead


class View:
    """A target of which ``look`` is what an attack sees. An image costs one query, however many files it is shown to."""

    def __init__(self, real: Target, look: Callable[[np.ndarray], Answer]) -> None:
        self.name, self.batch, self.real, self.look = real.name, real.batch, real, look

    def answer(self, images: np.ndarray) -> Seen:
        seen = self.look(images)
        return Seen(seen.kind, seen.raw, seen.scale, seen.zero, images=images, real=self.real)

    def identity(self) -> dict[str, Any]:
        return self.real.identity()

    def close(self) -> None:
        """The real target is its opener's to close."""


def labels(real: Target) -> View:
    """A target that tells nothing but its top class."""
    return View(real, lambda images: Answer("label", real.answer(images).label()))


def logits(real: Target, bare: Target, shape: tuple[int, ...]) -> View:
    """``real`` with its scores before the last softmax; ``bare``: the stripped file in the same runtime. ``shape``: of an image.

    Raises :class:`EdgeqError` where the two do not name the same class: then ``bare`` is another network.
    """
    images = np.random.default_rng(0).integers(0, 256, (16, *shape), dtype=np.uint8)
    if real.answer(images).fooled(bare.answer(images).label()).any():
        raise EdgeqError(f"{real.name}: the file without its softmax names other classes than the file; take --access scores")
    return View(real, bare.answer)
