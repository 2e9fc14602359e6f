"""Is what a runtime computes what was trained? Its inner activations held against the frozen network's, op by op."""

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
from edgeq.integer.simulate import simulate
from edgeq.pipeline.codes import PixelCodes
from edgeq.runtimes import tensors

CHUNK = 64


@dataclass(frozen=True)
class Mismatch:
    """One op of the frozen network: ``differ`` of ``elements`` codes are not the trained ones, by ``largest`` steps at most."""

    name: str
    elements: int
    differ: int
    largest: int


@dataclass(frozen=True)
class Levels:
    """A ``runtime`` against the frozen network on ``n`` images; ``reason``: why it could not be held against it, else ""."""

    runtime: str
    n: int
    ops: tuple[Mismatch, ...] = ()
    reason: str = ""

    @property
    def first(self) -> Mismatch | None:
        return next((op for op in self.ops if op.differ), None)

    @property
    def differ(self) -> int:
        return sum(op.differ for op in self.ops)

    @property
    def elements(self) -> int:
        return sum(op.elements for op in self.ops)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "differ": self.differ, "elements": self.elements}


class Trained:
    """The frozen network as a target: its thresholds alone decide, and no runtime's rounding."""

    name, concurrent = "keras", False

    def __init__(self, graph: Graph, codes: PixelCodes) -> None:
        self.graph, self.codes = graph, codes

    def answer(self, images: np.ndarray) -> Answer:
        out = self.graph.tensors[self.graph.output]
        return Answer("logits", np.asarray(simulate(self.graph, self.codes.encode(images))), float(out.scale[0]), int(out.zero[0]))

    def close(self) -> None: ...


def hold(
    trained: Graph,
    file: Path,
    runtimes: dict[str, Signature],
    codes: PixelCodes,
    images: np.ndarray,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Levels]:
    """``runtimes``: names and what they say of the ``.tflite`` ``file``, which was written from ``trained``; ``(n, h, w, c) uint8``."""
    content = tflite_file.read(str(file))
    index = {content.tensors[i].name: i for op in content.ops for i in op.outputs}
    names = {op.output: trained.tensors[op.output].name for op in trained.ops}
    opened: dict[str, tensors.Tensors | str] = {}
    for name, signature in runtimes.items():
        try:
            opened[name] = tensors.open(name, file, signature, codes)
        except EdgeqError as error:
            opened[name] = str(error)
    counts = {name: {i: [0, 0, 0] for i in names} for name in runtimes}
    for at in range(0, len(images), CHUNK):
        part = images[at : at + CHUNK]
        wanted = simulate(trained, codes.encode(part), keep=True)
        assert isinstance(wanted, dict)
        for name, inner in opened.items():
            if isinstance(inner, str):
                continue
            kept = inner(part)
            for i, tensor in names.items():
                apart = np.abs(kept[index[tensor]].reshape(wanted[i].shape).astype(np.int16) - wanted[i])
                count = counts[name][i]
                count[0], count[1], count[2] = count[0] + apart.size, count[1] + int((apart > 0).sum()), max(count[2], int(apart.max()))
        progress(at + len(part))
    return [
        Levels(name, 0, reason=inner)
        if isinstance(inner, str)
        else Levels(name, len(images), tuple(Mismatch(names[i], *c) for i, c in counts[name].items()))
        for name, inner in opened.items()
    ]
