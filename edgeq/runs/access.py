"""The access ladder: what the attacker gets of a target, from its bare label to the gradients of its file.

A view changes what an attack *sees*. Whether it succeeded is always judged on the file's real output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import runtimes
from edgeq.core import cpu
from edgeq.core.answer import Answer, Kind
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.core.protocols import Target
from edgeq.integer import read, strip
from edgeq.runs.plan import Level

LEVELS: tuple[Level, ...] = ("label", "scores", "logits", "gradients")
"""From the least to the most that an attacker may see."""


def hindrance(level: str, target: Path, runtime: str, kind: Kind) -> str | None:
    """Why ``target``, answering through ``runtime`` with a ``kind``, does not give ``level``, in words; None where it does."""
    if level == "scores":
        return "it answers with a bare label" if kind == "label" else None
    if level == "label" or runtime == "keras" or (level == "logits" and kind == "logits"):
        return None
    if target.suffix not in (".tflite", ".onnx") or (target.suffix == ".tflite" and runtime == "ort"):
        return f"{level} are taken from the file that ort runs, the .onnx"
    try:
        return _no_gradients(target, runtime) if level == "gradients" else _no_logits(target, runtime)
    except runtimes.LostError:  # next time it may: no reason to attack otherwise
        raise
    except EdgeqError as error:
        return str(error).removeprefix(f"{target}: ")


def _no_gradients(target: Path, runtime: str) -> str | None:
    from edgeq.keras.ste.source import check

    if not runtimes.simulated(runtime):
        return f"no gradient goes through the roundings of {runtime}"
    check(read.graph(target))
    missing = [name for name in ("tensorflow", "tf_keras") if find_spec(name) is None]
    return 'gradients need TensorFlow; pip install "edgeq[keras]"' if missing else None


def caveat(target: Path, runtime: str) -> str | None:
    """Where the file's gradients may not be those of the very sums that run, in words; None where they are."""
    if runtime != "ort" or not cpu.u8s8_saturates():
        return None
    graph = read.graph(target)
    for op in graph.ops:
        if op.kind in ("conv", "depthwise", "dense"):
            x, w = (graph.tensors[i] for i in op.inputs[:2])
            if (x.dtype, w.dtype) == ("uint8", "int8") and w.data is not None and 2 * 255 * int(np.abs(w.data.astype(int)).max()) >= 2**15:
                return "on this processor ONNX Runtime may cut sums of uint8 times int8 at 16 bits, which the gradients do not know of"
    return None


def _no_logits(target: Path, runtime: str) -> str | None:
    with stripped(target) as file:
        runtimes.probe(runtime, file, output="logits")
    return None


def strongest(target: Path, runtime: str, kind: Kind) -> tuple[Level, list[str]]:
    """The highest level that ``target`` gives on ``runtime``, and why it does not give those above."""
    why: list[str] = []
    for level in reversed(LEVELS):
        if (reason := hindrance(level, target, runtime, kind)) is None:
            return level, why
        why.append(reason)
    raise AssertionError("every target gives a label")


def attack_for(level: str) -> str:
    """The attack that is run where none was named."""
    return {"label": "rays", "gradients": "pgd"}.get(level, "spsa")


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
