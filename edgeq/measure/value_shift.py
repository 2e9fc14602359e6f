"""Quantisation value shift, layer by layer: how many of the changes that a perturbation makes inside the network a bucket swallows.

B19 5.2.2 describes it ("mapping two different values to the same quantization bucket") and draws a toy (figure 3); this counts. Each op
is looked at on the codes that really enter it: its value before rounding (for a layer with weights the integer accumulator, for the others
the real function of their codes) of the clean and the changed image, against the code that comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.core.jsonable import as_json
from edgeq.core.protocols import Target
from edgeq.core.rows import Rows
from edgeq.integer.graph import Graph, Op
from edgeq.integer.ops import Call, clamp_range, floats, limits, linear, quantisation
from edgeq.integer.simulate import simulate
from edgeq.measure.constant import Constant
from edgeq.measure.figures import share as as_share
from edgeq.pipeline.codes import PixelCodes

CHUNK = 128  # rows decoded and crafted at once
MEMORY = 2**22  # elements of activations of a chunk of images
SAME = 1e-6  # steps: two real values that are nearer are one, told apart by float64's own rounding (accumulators are integers)
LAYERS = ("conv", "depthwise", "dense")
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


class Shift:
    """Counts of one perturbation, images added in chunks. ``skipped``: ops that only move codes, or whose real value is not known here."""

    def __init__(self, graph: Graph, runtime: str) -> None:
        self.graph, self.runtime = graph, runtime
        self._ops = {at: _Op(graph, op, runtime) for at, op in enumerate(graph.ops) if _rounds(graph, op)}
        self.skipped = len(graph.ops) - len(self._ops)
        self._counts = {at: np.zeros(8) for at in self._ops}

    def add(self, clean: np.ndarray, changed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Input codes ``(n, *input shape)`` of both; gives the simulated answers to both, ``(n, *output shape)`` codes."""
        answers: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for part in self._chunks(len(clean)):
            kept = [simulate(self.graph, codes[part], self.runtime, keep=True) for codes in (clean, changed)]
            for at, op in self._ops.items():
                self._counts[at] += op.count(*kept)  # type: ignore[arg-type]  # keep gives dicts
            for held, values in zip(answers, kept, strict=True):
                held.append(values[self.graph.output])
        return np.concatenate(answers[0]), np.concatenate(answers[1])

    def lines(self) -> list[Line]:
        found = []
        for at, counts in self._counts.items():
            op, elements = self.graph.ops[at], int(counts[0])
            changed, flat, moved, swallowed, saturated = (int(v) for v in counts[1:6])
            before, after = (float(v) / max(1, elements) for v in counts[6:])
            name = self.graph.tensors[op.output].name
            found.append(Line(at, op.kind, name, elements, changed, flat, moved, swallowed, saturated, before, after))
        return found

    def _chunks(self, n: int) -> Iterator[slice]:
        size = sum(int(np.prod(t.shape)) for t in self.graph.tensors if t.data is None)
        step = max(1, min(32, MEMORY // max(1, size)))
        return (slice(at, at + step) for at in range(0, n, step))


@dataclass(frozen=True, eq=False)
class Network:
    """A file as a ``graph`` with the rounding of a ``runtime``; ``target``: the file in the real one, against which that is held."""

    graph: Graph
    runtime: str
    codes: PixelCodes
    target: Target


Perturb = Callable[[np.ndarray, Rows], np.ndarray]
"""Clean images ``(m, h, w, c) uint8`` and their rows -> as many changed ones."""


def measure(
    network: Network,
    images: Callable[[slice], np.ndarray],
    rows: Rows,
    perturbations: Mapping[str, Perturb],
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, Any]:
    """JSON-able: for each of ``perturbations`` its ``lines``, ``ties``, and ``robust``, the share right clean and not fooled when changed.

    ``unequal``: images, clean and changed, whose simulated answer is not the target's: their inner values may be others, too.
    ``skipped``: ops without a line, which only move codes; ``constant``: whether the target answers all clean images alike.
    """
    shifts = {name: Shift(network.graph, network.runtime) for name in perturbations}
    standing, tied, unequal, clean_right = dict.fromkeys(perturbations, 0), dict.fromkeys(("clean", *perturbations), 0), 0, 0
    constant = Constant()
    for start in range(0, len(rows), CHUNK):
        part = slice(start, min(start + CHUNK, len(rows)))
        clean, some = images(part), rows[part]
        answer = network.target.answer(clean)
        right, codes = answer.right(some.labels), network.codes.encode(clean)
        clean_right += int(right.sum())
        constant.add(answer)
        tied["clean"] += int(answer.tied().sum())
        for at, (name, perturb) in enumerate(perturbations.items()):
            changed = perturb(clean, some)
            other = network.target.answer(changed)
            standing[name] += int((right & ~other.fooled(some.labels)).sum())
            tied[name] += int(other.tied().sum())
            simulated = shifts[name].add(codes, network.codes.encode(changed))
            apart = [(s.reshape(a.raw.shape) != a.raw).any(axis=1).sum() for s, a in zip(simulated, (answer, other), strict=True)]
            unequal += int(apart[1]) + (int(apart[0]) if at == 0 else 0)
        progress(part.stop)
    return {
        "clean": share(clean_right, len(rows)),
        "ties": share(tied["clean"], len(rows)),
        "constant": as_json(constant.verdict(len(np.unique(rows.labels)))),
        "unequal": unequal,
        "skipped": next((s.skipped for s in shifts.values()), 0),
        **{
            name: {
                "robust": share(standing[name], len(rows)),
                "ties": share(tied[name], len(rows)),
                "lines": [v.to_json() for v in s.lines()],
            }
            for name, s in shifts.items()
        },
    }


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
        """Elements, changed, flat, moved, swallowed, saturated, and the sums of |change| before and after rounding."""
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
        return np.array([a.size, *(v.sum() for v in (changed, flat, moved, swallowed, saturated, before, steps))], np.float64)


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


def share(k: Any, of: Any) -> dict[str, Any]:
    return as_share(k, of).to_json()
