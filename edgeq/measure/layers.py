"""Two runtimes of one file, or two files, op by op: where they first part, and how much each op adds by itself.

Of an ``.onnx`` the ops are those of the integer graph that it is read as (:mod:`edgeq.integer.read_onnx`), and its tensors the simulator's.

*As it runs*: the op's output in both, differences of all ops before it included. *Alone*: the other side's kernel on the inputs that the
base's op had, by the simulator, and only where that gives the other side's own outputs bit by bit. At the first op that differs the two
are the same, for its inputs are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Target
from edgeq.core.signature import Signature
from edgeq.integer import model, read, simulate, tflite_file
from edgeq.integer.graph import as_model
from edgeq.integer.ops import Step
from edgeq.integer.rounding import SIMULATED
from edgeq.pipeline.codes import PixelCodes
from edgeq.runtimes import tensors

MEMORY = 2**26  # bytes of kept tensors, of a side
_FAR = 1e30  # the difference between a number and none


@dataclass(frozen=True, eq=False)
class Side:
    """A file in a runtime. ``name``: how tables call it; ``target``: the file opened in the ``runtime``; ``codes``: pixel to input."""

    name: str
    file: Path
    runtime: str
    signature: Signature
    codes: PixelCodes
    target: Target


@dataclass(frozen=True)
class Line:
    """One op. ``output``: the name of the tensor it writes; ``elements``: compared, over all images; ``differ``: how many differ.

    ``largest``: the largest difference, in steps of the base's tensor (in its own unit where it holds floats); ``alone``,
    ``alone_largest``: the same given the base's inputs, None where that is not known; ``changed``: the two files' weights,
    quantisation or options of this op differ.
    """

    index: int
    kind: str
    output: str
    elements: int
    differ: int
    largest: float
    alone: int | None
    alone_largest: float | None
    changed: bool


@dataclass(frozen=True)
class Layers:
    """``other`` compared with ``base`` on ``n`` images. ``reason``: why there are no ``lines``, else "".

    ``origin``: side -> whether its tensors are "kept" by the interpreter or "simulated"; ``unequal``: side -> images whose answer is not
    the deployed runtime's, so that their tensors may not be either; ``missing``: ops whose output is not kept on both sides.
    """

    base: str
    other: str
    n: int
    lines: tuple[Line, ...] = ()
    origin: Mapping[str, str] | None = None
    unequal: Mapping[str, int] | None = None
    missing: int = 0
    reason: str = ""

    @property
    def first(self) -> Line | None:
        """The first op, in the order they run, whose outputs differ; its inputs are equal."""
        return next((line for line in self.lines if line.differ), None)

    def to_json(self) -> dict[str, Any]:
        """As sidecars and ``edgeq compare --json`` have it."""
        return {**asdict(self), "first": asdict(self.first) if self.first else None}


def compare(base: Side, others: Sequence[Side], images: np.ndarray, progress: Callable[[int], None] = lambda _: None) -> list[Layers]:
    """A table for each of ``others``. ``images``: ``(n, h, w, c) uint8``; fifty tell enough, for each has thousands of elements.
    ``progress`` is called with the number of images done so far.

    A side whose tensors cannot be had raises nothing: its table says the reason.
    """
    progress(0)
    inner: dict[str, _Inner | str] = {}
    for side in (base, *others):
        try:
            inner[side.name] = _Inner(side, images[:4])
        except EdgeqError as error:
            inner[side.name] = str(error)
    mine = inner[base.name]
    if isinstance(mine, str):
        return [Layers(base.name, other.name, 0, reason=mine) for other in others]
    pairs = {name: _pair(mine, theirs) for name, theirs in inner.items() if name != base.name}
    open_pairs = [pair for pair in pairs.values() if isinstance(pair, _Pair)]
    done = 0
    for chunk in _chunks(images, mine.file) if open_pairs else ():
        kept = mine.tensors(chunk)
        for pair in open_pairs:
            pair.add(kept, pair.other.tensors(chunk))
        progress(done := done + len(chunk))
    return [p.layers(len(images)) if isinstance(p, _Pair) else Layers(base.name, name, 0, reason=p) for name, p in pairs.items()]


class _Inner:
    """The tensors of a side, from the first origin whose answers are those of the deployed runtime."""

    def __init__(self, side: Side, sample: np.ndarray) -> None:
        self.side, self.unequal = side, 0
        self.runtime = runtimes.real(side.runtime)
        if self.runtime not in SIMULATED:
            raise EdgeqError(f"not compared, {side.runtime} has other inner tensors than a file states")
        onnx = self.runtime not in tensors.RUNTIMES  # whose optimised graph has no tensors of the file's any more
        self.file = as_model(read.graph(side.file)) if onnx else tflite_file.read(str(side.file))
        why = f"not compared, {side.runtime} answers otherwise when it keeps its inner tensors, and so does the simulator"
        for self.origin, make in (("kept", tensors.open), ("simulated", tensors.simulated))[onnx:]:
            try:
                self._tensors = make(self.runtime, side.file, side.signature, side.codes)
                if not self._apart(self._tensors(sample), sample):
                    return
            except runtimes.LostError:
                raise
            except EdgeqError as error:
                why = str(error)
        raise EdgeqError(why)

    def tensors(self, images: np.ndarray) -> dict[int, np.ndarray]:
        kept = self._tensors(images)
        self.unequal += self._apart(kept, images)
        return kept

    def _apart(self, kept: dict[int, np.ndarray], images: np.ndarray) -> int:
        """Images whose answer is not the deployed one."""
        wanted = self.side.target.answer(images).raw.reshape(len(images), -1)
        got = kept.get(self.file.outputs[0])
        return len(images) if got is None else int((got.reshape(len(images), -1) != wanted).any(axis=1).sum())

    @cached_property
    def kernels(self) -> list[_Kernel | None]:
        """The simulator's kernel of each op; None for all where the graph cannot be simulated, and for ops of constants."""
        try:
            graph = read.graph(self.side.file)
            steps = simulate.plan(graph, self.runtime)
        except EdgeqError:
            return [None] * len(self.file.ops)
        place, constants = tensors.places(self.file, graph), {i: t.data for i, t in graph.constants()}
        kernels: list[_Kernel | None] = []
        for op, step in zip(graph.ops, steps, strict=True):
            if all(i in constants for i in op.inputs if i >= 0):
                constants[op.output] = step(*(constants.get(i) for i in op.inputs))
                kernels.append(None)
                continue
            given = tuple((place[i], graph.tensors[i].shape) if i not in constants and i >= 0 else constants.get(i) for i in op.inputs)
            kernels.append(_Kernel(step, given))
        return kernels


@dataclass(frozen=True, eq=False)
class _Kernel:
    step: Step
    given: tuple[Any, ...]  # an activation's index in the file and shape; or a constant, or None

    def __call__(self, kept: Mapping[int, np.ndarray], same: Mapping[int, int]) -> np.ndarray:
        """``same``: this file's tensor -> the tensor of ``kept`` that stands for it."""
        inputs = [kept[same[g[0]]].reshape(-1, *g[1]) if isinstance(g, tuple) else g for g in self.given]
        return self.step(*inputs)


def _pair(base: _Inner, other: _Inner | str) -> _Pair | str:
    if isinstance(other, str):
        return other
    a, b = base.file, other.file
    same = {b.inputs[0]: a.inputs[0]}
    for k, (x, y) in enumerate(zip(a.ops, b.ops, strict=False)):
        wired = [i for i in x.inputs if i in same.values()] == [same[i] for i in y.inputs if i in same]
        alike = x.name == y.name and len(x.outputs) == len(y.outputs) and wired
        if not alike or any(a.tensors[i].shape != b.tensors[j].shape for i, j in zip(x.outputs, y.outputs, strict=True)):
            return f"not compared, the two graphs part at op {k} ({x.name} against {y.name})"
        same |= dict(zip(y.outputs, x.outputs, strict=True))
    if len(a.ops) != len(b.ops):
        return f"not compared, the two graphs have {len(a.ops)} and {len(b.ops)} ops"
    return _Pair(base, other, same)


class _Pair:
    """Two sides whose graphs have the same ops, and their counts so far. ``same``: tensor of the other -> of the base."""

    def __init__(self, base: _Inner, other: _Inner, same: dict[int, int]) -> None:
        self.base, self.other, self.same = base, other, same
        self.counts: dict[int, list[float]] = {}  # op -> elements, differ, largest, differ alone, largest alone
        ops = other.file.ops
        self.alone = {k for k, kernel in enumerate(other.kernels) if kernel and all(self.comparable(i) for i in ops[k].inputs)}

    def comparable(self, tensor: int) -> bool:
        """Whether codes of the other's tensor mean what they mean in the base's; True for constants."""
        return tensor not in self.same or _alike(self.base.file.tensors[self.same[tensor]], self.other.file.tensors[tensor])

    def add(self, mine: dict[int, np.ndarray], theirs: dict[int, np.ndarray]) -> None:
        for k, (op, kernel) in enumerate(zip(self.other.file.ops, self.other.kernels, strict=True)):
            j = op.outputs[0] if op.outputs else -1
            i = self.same.get(j, -1)
            if i not in mine or j not in theirs:
                continue
            a, b = self.base.file.tensors[i], self.other.file.tensors[j]
            count = self.counts.setdefault(k, [0, 0, 0, 0, 0])
            count[0] += mine[i].size
            _add(count, 1, a, mine[i], b, theirs[j])
            if k not in self.alone or kernel is None:
                continue
            try:
                if (kernel(theirs, {t: t for t in self.same}).reshape(theirs[j].shape) != theirs[j]).any():
                    raise KeyError  # not this runtime's kernel, for once
                _add(count, 3, a, mine[i], b, kernel(mine, self.same).reshape(theirs[j].shape))
            except KeyError:  # or an input is not kept
                self.alone.discard(k)

    def layers(self, n: int) -> Layers:
        a, b, lines = self.base.file, self.other.file, []
        for k, (elements, differ, largest, alone, most) in self.counts.items():
            x, y, known = a.ops[k], b.ops[k], k in self.alone
            lines.append(
                Line(k, x.name, a.tensors[x.outputs[0]].name, int(elements), int(differ), largest, int(alone) if known else None,
                     most if known else None, self.changed(x, y))
            )  # fmt: skip
        sides = (self.base, self.other)
        return Layers(
            self.base.side.name,
            self.other.side.name,
            n,
            tuple(lines),
            {s.side.name: s.origin for s in sides},
            {s.side.name: s.unequal for s in sides},
            len(a.ops) - len(lines),
        )

    def changed(self, x: model.Op, y: model.Op) -> bool:
        a, b = self.base.file.tensors, self.other.file.tensors
        pairs = [*zip(x.inputs, y.inputs, strict=False), *zip(x.outputs, y.outputs, strict=False)]
        equal = all((i < 0) == (j < 0) and (i < 0 or (_alike(a[i], b[j]) and a[i].data == b[j].data)) for i, j in pairs)
        return not (equal and len(x.inputs) == len(y.inputs) and str(x.options) == str(y.options))


def _add(count: list[float], at: int, a: model.Tensor, mine: np.ndarray, b: model.Tensor, theirs: np.ndarray) -> None:
    """Counts the elements that differ, and the largest difference, at ``at``. Theirs is read in steps of the base's tensor ``a``."""
    if _alike(a, b) and mine.dtype.kind != "f":
        off = np.abs(mine.astype(np.int64) - theirs.astype(np.int64))
    else:
        x, y = _real(a, mine), _real(b, theirs)
        with np.errstate(invalid="ignore"):
            apart = np.nan_to_num(np.abs(x - y), nan=_FAR, posinf=_FAR)
        off = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0, apart) / (float(a.scales[0]) if len(a.scales) else 1)
    count[at] += int((off >= 0.5 if len(a.scales) else off > 0).sum())  # from half a step on it is another code
    count[at + 1] = max(count[at + 1], float(off.max(initial=0)))


def _real(tensor: model.Tensor, codes: np.ndarray) -> np.ndarray:
    scale, zero = (float(tensor.scales[0]), int(tensor.zeros[0]) if len(tensor.zeros) else 0) if len(tensor.scales) else (1.0, 0)
    return scale * (codes.astype(np.float64) - zero)


def _alike(a: model.Tensor, b: model.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.scales, b.scales) and np.array_equal(a.zeros, b.zeros)


def _chunks(images: np.ndarray, file: model.Model) -> Iterator[np.ndarray]:
    size = sum(t.elements * 4 for t in file.tensors if t.data is None)
    step = max(1, min(32, MEMORY // max(1, size)))
    return (images[i : i + step] for i in range(0, len(images), step))
