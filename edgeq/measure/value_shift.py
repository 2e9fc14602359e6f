"""Quantisation value shift, layer by layer: how many of the changes that a perturbation makes inside the network a bucket swallows.

B19 5.2.2 describes it ("mapping two different values to the same quantization bucket") and draws a toy (figure 3); this counts. Each op
is looked at on the codes that really enter it: its value before rounding (for a layer with weights the integer accumulator, for the others
the real function of their codes) of the clean and the changed image, against the code that comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.core.cell import Cell
from edgeq.core.doubts import Alike
from edgeq.integer.graph import Graph, Op
from edgeq.integer.ops import Call, clamp_range, floats, limits, linear, quantisation
from edgeq.integer.simulate import simulate
from edgeq.measure.figures import Share, share
from edgeq.measure.gradients import Values
from edgeq.pipeline.codes import PixelCodes
from edgeq.runs import doubts
from edgeq.runs.reader import Reader

MEMORY = 2**22  # elements of activations of a chunk of images
SAME = 1e-6  # steps: two real values that are nearer are one, and differ by float64's own rounding (accumulators are integers)
LAYERS = ("conv", "depthwise", "dense")
COUNTS, UNEQUAL = "value shift", "unequal answers"  # names of measurements
_PLAIN = ("relu", "relu6", "relu_n1_to_1", "quantize")  # before their clamp they only rescale


@dataclass(frozen=True)
class Line:
    """One op. ``elements``: over all images; ``changed``: their values before rounding differ; of those,

    ``flat``: where the float network's own activation is flat for both (below 0 of a ReLU): not quantisation's doing;
    ``moved``: the code differs, by at least one bucket; ``swallowed``: the code does not; ``saturated``: those among the swallowed whose
    values both lie beyond the last code. ``before``, ``after``: mean |change| of all elements in steps of the output, before rounding (and
    after the float network's activation) and of the codes.
    """

    index: int
    kind: str
    output: str
    elements: int
    changed: int
    flat: int
    moved: int
    swallowed: int
    saturated: int
    before: float
    after: float

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "swallowed_share": self.swallowed / self.changed if self.changed else None}


@dataclass(frozen=True)
class Perturbed:
    """Images that were changed in one way. ``robust``: right clean and not fooled when changed; ``ties``: of the changed images."""

    robust: Share
    ties: Share
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Shift:
    """At one radius. ``clean``, ``ties``: of the clean images; ``constant``: whether the target answers all of them alike;
    ``unequal``: images, clean and changed, whose simulated answer is not the target's: their inner values may be others, too;
    ``skipped``: ops without a line, which only move codes."""

    eps: float
    pixels: float
    crafted_on: str
    clean: Share
    ties: Share
    constant: Alike | None
    unequal: int
    skipped: int
    adversarial: Perturbed
    noise: Perturbed


@dataclass(frozen=True, eq=False)
class Network:
    """A file as a ``graph`` with the rounding of a ``runtime``."""

    graph: Graph
    runtime: str
    codes: PixelCodes

    @cached_property
    def rounding(self) -> dict[int, _Op]:
        """The ops that have a line, by their number."""
        return {at: _Op(self.graph, op, self.runtime) for at, op in enumerate(self.graph.ops) if _rounds(self.graph, op)}

    @property
    def at_once(self) -> int:
        """Images whose activations fit into a bounded memory."""
        size = sum(int(np.prod(t.shape)) for t in self.graph.tensors if t.data is None)
        return max(1, min(32, MEMORY // max(1, size)))


def measure(network: Network, clean: np.ndarray, changed: np.ndarray, answers: tuple[np.ndarray, np.ndarray]) -> Values:
    """What is measured of ``m`` images ``(m, h, w, c) uint8``, no more than :attr:`Network.at_once`, by name a vector for each.

    ``answers``: the raw scores ``(m, k)`` of the file in its real runtime. ``value shift``: for each op its elements, changed, flat, moved,
    swallowed and saturated ones, and the sums of |change| before and after rounding; ``unequal answers``: 1 where the simulated answer to
    the clean, and to the changed image is another.
    """
    kept = [simulate(network.graph, network.codes.encode(images), network.runtime, keep=True) for images in (clean, changed)]
    counts = count(network, *kept)  # type: ignore[arg-type]  # keep gives dicts
    simulated = [values[network.graph.output] for values in kept]
    unequal = [(s.reshape(a.shape) != a).any(axis=1) for s, a in zip(simulated, answers, strict=True)]
    return {COUNTS: list(counts.reshape(len(clean), -1)), UNEQUAL: list(np.stack(unequal, axis=1).astype(np.float64))}


def count(network: Network, clean: dict[int, np.ndarray], changed: dict[int, np.ndarray]) -> np.ndarray:
    """``(m, ops, 8) float64``, from the tensors of both by number."""
    n = len(clean[network.graph.output])
    return np.stack(
        [op.count(clean, changed) for op in network.rounding.values()] or [np.empty((0, 8))] * n, axis=1 if network.rounding else 0
    )


def shift(run: Reader, target: str, network: Network, crafted_on: str, adversarial: Cell, noise: Cell) -> Shift:
    """The figures of one radius. ``target``: whose answers; ``crafted_on``: what to call what lent the gradients."""
    before, labels = run.outcomes(0, target), run.labels()
    assert adversarial.threat is not None
    unequal = [np.stack(run.measurements(cell.cell, UNEQUAL, 2)).sum(0) for cell in (adversarial, noise)]
    both = []
    for cell in (adversarial, noise):
        seen = run.outcomes(cell.cell, target)
        robust = share(((before.right == 1) & (seen.correct == 1)).sum(), run.n)
        counts = np.stack(run.measurements(cell.cell, COUNTS, 8 * len(network.rounding))).sum(0).reshape(-1, 8)
        both.append(Perturbed(robust, share((seen.tied == 1).sum(), run.n), tuple(lines(network, counts))))
    return Shift(
        adversarial.eps,
        adversarial.threat.pixels,
        crafted_on,
        share((before.right == 1).sum(), run.n),
        share((before.tied == 1).sum(), run.n),
        doubts.alike(run, target, len(np.unique(labels))),
        int(unequal[0].sum() + unequal[1][1]),  # the clean images are in both
        len(network.graph.ops) - len(network.rounding),
        *both,
    )


def lines(network: Network, counts: np.ndarray) -> Iterator[Line]:
    """``counts``: ``(ops, 8)``, over all images."""
    for at, row in zip(network.rounding, counts, strict=True):
        op, elements = network.graph.ops[at], int(row[0])
        changed, flat, moved, swallowed, saturated = (int(v) for v in row[1:6])
        before, after = (float(v) / max(1, elements) for v in row[6:])
        name = network.graph.tensors[op.output].name
        yield Line(at, op.kind, name, elements, changed, flat, moved, swallowed, saturated, before, after)


def _rounds(graph: Graph, op: Op) -> bool:
    """Whether a code comes about here by rounding a value that is known."""
    out = graph.tensors[op.output]
    inputs = [graph.tensors[i] for i in op.inputs if i >= 0]
    real = op.kind in (*_PLAIN, "mean") or (op.kind in floats.KERNELS and op.kind not in (*LAYERS, "max_pool"))
    if not out.quantised or not any(t.data is None for t in inputs):
        return False
    return op.kind in LAYERS or (real and all(t.quantised or t.dtype == "float32" or t.data is not None for t in inputs))


class _Op:
    def __init__(self, graph: Graph, op: Op, runtime: str) -> None:
        self.call = Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), graph.tensors[op.output], runtime)
        self.value, self.same = (_layer(self.call), 0.0) if op.kind in LAYERS else (_real(self.call), SAME)
        self.constants = {i: graph.tensors[i].data for i in op.inputs if i >= 0 and graph.tensors[i].data is not None}
        zero = quantisation(self.call.output)[1]
        activation = str(op.kind if op.kind in floats.BOUNDS else op.options.get("activation", "none"))
        least, most = (v - zero for v in limits(self.call.output.dtype))
        self.low, self.high = (v - zero for v in clamp_range(self.call, activation))
        floor, ceiling = (bool(np.isfinite(b)) for b in floats.BOUNDS[activation])
        # a bound of the activation at the end of the codes' range is that range's, unless it is a ReLU's zero
        self.floor = self.low if floor and not (activation == "relu_n1_to_1" and self.low <= least) else -np.inf
        self.ceiling = self.high if ceiling and self.high < most else np.inf

    def count(self, clean: dict[int, np.ndarray], other: dict[int, np.ndarray]) -> np.ndarray:
        """``(m, 8)``: elements, changed, flat, moved, swallowed, saturated, and the sums of |change| before and after rounding."""
        op = self.call.op
        inputs = [[kept.get(i, self.constants.get(i)) if i >= 0 else None for i in op.inputs] for kept in (clean, other)]
        a, b = (self.value(*given).reshape(clean[op.output].shape) for given in inputs)
        steps = np.abs(other[op.output].astype(np.int64) - clean[op.output])
        moved = steps > 0
        changed = moved | (np.abs(a - b) > self.same)
        still = changed & ~moved
        flat = still & (((a <= self.floor) & (b <= self.floor)) | ((a >= self.ceiling) & (b >= self.ceiling)))
        swallowed = still & ~flat
        saturated = swallowed & (((a <= self.low) & (b <= self.low)) | ((a >= self.high) & (b >= self.high)))
        before = np.abs(np.clip(a, self.floor, self.ceiling) - np.clip(b, self.floor, self.ceiling))
        counted = (np.ones(a.shape), changed, flat, moved, swallowed, saturated, before, steps)
        return np.stack([v.reshape(len(a), -1).sum(1) for v in counted], axis=1).astype(np.float64)


Value = Callable[..., np.ndarray]
"""An op's inputs -> its output before rounding and clamp, float64 in steps of the output, less its zero point."""


def _layer(call: Call) -> Value:
    accumulate = linear.accumulator(call)
    x, w = call.inputs[:2]
    assert x is not None
    assert w is not None
    multiplier = x.scale.astype(np.float64) * w.scale.astype(np.float64) / np.float64(call.output.scale[0])
    return lambda *given: accumulate(*given) * multiplier


def _real(call: Call) -> Value:
    op, scale = call.op, np.float64(call.output.scale[0])
    bare = replace(call, op=replace(op, options=MappingProxyType({**op.options, "activation": "none"})))
    function = (lambda x: x) if op.kind in _PLAIN else floats.KERNELS[op.kind](bare) if op.kind != "mean" else None

    def run(*given: np.ndarray | None) -> np.ndarray:
        reals = [
            (x.astype(np.float64) - float(t.zero[0])) * float(t.scale[0]) if t.quantised else x.astype(np.float64)
            for x, t in zip(given, call.inputs, strict=True)
            if x is not None and t is not None
        ]
        return (reals[0].mean(tuple(op.options["axes"])) if function is None else function(*reals)) / scale

    return run
