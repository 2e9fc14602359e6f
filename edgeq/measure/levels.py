"""Is what a runtime computes what was trained? Its inner activations compared with the frozen network's, op by op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.simulate import plan, simulate
from edgeq.pipeline.codes import PixelCodes
from edgeq.runtimes import tensors

CHUNK = 64


@dataclass(frozen=True)
class Mismatch:
    """One op of the frozen network: ``differ`` of ``elements`` codes are not the trained ones, by ``largest`` steps at most.

    ``alone``, ``alone_largest``: the same against what the frozen op makes of the runtime's own inputs, errors of ops before it left out.
    """

    name: str
    elements: int
    differ: int
    largest: int
    alone: int
    alone_largest: int


@dataclass(frozen=True)
class Levels:
    """A ``runtime`` against the frozen network on ``n`` images; ``reason``: why the two could not be compared, else ""."""

    runtime: str
    n: int
    ops: tuple[Mismatch, ...] = ()
    reason: str = ""

    @property
    def first(self) -> Mismatch | None:
        """The first op, in the order they run, that has a code other than the trained one."""
        return next((op for op in self.ops if op.differ), None)

    @property
    def differ(self) -> int:
        """Codes of all ops that are not the trained ones, of ``elements``."""
        return sum(op.differ for op in self.ops)

    @property
    def elements(self) -> int:
        return sum(op.elements for op in self.ops)

    @property
    def alone_largest(self) -> int:
        """The largest error, in steps, that an op makes by itself."""
        return max((op.alone_largest for op in self.ops), default=0)

    def to_json(self) -> dict[str, Any]:
        """As the sidecar of an export has it."""
        return {**asdict(self), "differ": self.differ, "elements": self.elements, "alone_largest": self.alone_largest}


@dataclass(frozen=True, eq=False)
class Frozen:
    """A frozen network that answers: its thresholds alone decide, and no runtime's rounding."""

    graph: Graph
    codes: PixelCodes

    def answer(self, images: np.ndarray) -> Answer:
        """Int8 logits of ``(m, h, w, c) uint8`` images."""
        out = self.graph.tensors[self.graph.output]
        return Answer("logits", np.asarray(simulate(self.graph, self.codes.encode(images))), float(out.scale[0]), int(out.zero[0]))


def compare(
    trained: Graph,
    file: Path,
    runtimes: dict[str, Signature],
    codes: PixelCodes,
    images: np.ndarray,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[Levels, ...]:
    """A value a runtime, in their order. ``runtimes``: names, and what they say of the ``.tflite`` ``file``, which was written from
    ``trained``; ``images``: ``(n, h, w, c) uint8``; ``progress`` is called with the number of images done so far.

    A runtime whose inner tensors cannot be had raises nothing: its value says the reason.
    """
    content = tflite_file.read(str(file))
    index = {content.tensors[i].name: i for op in content.ops for i in op.outputs}
    names = {op.output: trained.tensors[op.output].name for op in trained.ops}
    opened: dict[str, tensors.Tensors | str] = {}
    for name, signature in runtimes.items():
        try:
            opened[name] = tensors.open(name, file, signature, codes)
        except EdgeqError as error:
            opened[name] = str(error)
    counts = {name: {i: [0] * 5 for i in names} for name in runtimes}
    steps, constants = plan(trained, "litert-xnnpack"), {i: t.data for i, t in trained.constants()}  # thresholds: alike for all runtimes
    for at in range(0, len(images), CHUNK):
        part = images[at : at + CHUNK]
        wanted = simulate(trained, codes.encode(part), keep=True)
        assert isinstance(wanted, dict)
        for name, inner in opened.items():
            if isinstance(inner, str):
                continue
            kept = inner(part)
            mine = {trained.input: wanted[trained.input]} | {i: kept[index[t]].reshape(wanted[i].shape) for i, t in names.items()}
            for op, step in zip(trained.ops, steps, strict=True):
                given = [i for i in op.inputs if i in mine]
                equal = all(np.array_equal(mine[i], wanted[i]) for i in given)
                due = wanted[op.output] if equal else step(*(mine.get(i, constants.get(i)) for i in op.inputs))
                count = counts[name][op.output]
                count[0] += due.size
                for k, reference in ((1, wanted[op.output]), (3, due)):
                    apart = np.abs(mine[op.output].astype(np.int16) - reference)
                    count[k], count[k + 1] = count[k] + int((apart > 0).sum()), max(count[k + 1], int(apart.max()))
        progress(at + len(part))
    return tuple(
        Levels(name, 0, reason=inner)
        if isinstance(inner, str)
        else Levels(name, len(images), tuple(Mismatch(names[i], *c) for i, c in counts[name].items()))
        for name, inner in opened.items()
    )
