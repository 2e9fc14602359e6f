"""The integer graph of an ``.onnx`` file as it grows, op by op."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer import classifier, shapes
from edgeq.integer import model as models
from edgeq.integer.graph import Op, Tensor
from edgeq.integer.onnx.values import IMAGE, Constant, Steps, UnfitError, Value, checked
from edgeq.integer.read_tflite import MAX_COLUMNS, MAX_ELEMENTS, MAX_TAPS, SCALES

OF_CONSTANTS = ("DequantizeLinear", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity")
DEEP = 16  # constants may be computed from constants this often


class Reader:
    """The graph as it grows: tensors, ops, and what the file's names stand for so far."""

    def __init__(self, model: models.Model, read: Callable[[Reader, models.Op], Value | Constant]) -> None:
        """``read``: reads one op."""
        self.model, self._read = model, read
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.values: dict[int, Value | Constant] = {}
        self.done: set[int] = set()  # positions of ops that others took in
        self.readers: dict[int, list[int]] = defaultdict(list)
        self.writers: dict[int, int] = {}
        self.labels: dict[int, Steps] = {}  # codes -> their quantisation, where ops beside them state it
        self.reals: dict[int, int] = {}  # tensor -> its dequantised copy
        self.at = 0
        for at, op in enumerate(model.ops):
            for i in dict.fromkeys(op.inputs):
                self.readers[i].append(at)
            self.writers |= dict.fromkeys(op.outputs, at)

    def enter(self) -> None:
        index = self.model.inputs[0]
        t = self.model.tensors[index]
        if t.dtype not in ("int8", "uint8", "float32") or len(t.shape) < 2 or t.shape[0] != 1:
            raise UnfitError(f"{t.dtype} of shape {t.shape} is no batch of images")
        shape, axes = t.shape[1:], tuple(range(len(t.shape) - 1))
        layout = classifier.image_layout(t.shape)
        if layout is not None and layout[1] == "nchw":
            shape, axes = layout[0], IMAGE
        steps = None if t.dtype == "float32" else self.label(index, t.dtype)
        self.values[index] = Value(self.tensor(t.name, shape, steps), axes, steps is None)

    def leave(self) -> int:
        value = self.find(self.model.outputs[0])
        if isinstance(value, Constant):
            raise UnfitError("it is a constant")
        return self.plain(self.float(value) if value.real else value)

    # -- the file ---------------------------------------------------------------------------------------------------------------------

    def find(self, index: int, depth: int = 0) -> Value | Constant:
        """What stands under a name; constants that are computed from constants are, when they are asked for."""
        if index not in self.values:
            if index < 0:
                raise UnfitError("an input is missing")
            if (codes := self.model.tensors[index].codes()) is not None:
                self.values[index] = Constant(codes.astype(codes.dtype.newbyteorder("=")), np.empty(0, np.float32), np.empty(0, np.int64))
            elif index in self.writers and depth < DEEP and (op := self.model.ops[self.writers[index]]).name in OF_CONSTANTS:
                if not isinstance(self.find(op.inputs[0], depth + 1), Constant):
                    raise UnfitError(f"{self.model.tensors[index].name} is used before it is written")
                self.values[index] = self._read(self, op)
            else:
                raise UnfitError(f"nothing writes {self.model.tensors[index].name}")
        return self.values[index]

    def constant(self, index: int) -> Constant:
        value = self.find(index)
        if not isinstance(value, Constant):
            raise UnfitError(f"{self.model.tensors[index].name} is no constant")
        return value

    def numbers(self, index: int) -> list[int]:
        """A small integer constant: a shape, axes, paddings."""
        data = self.constant(index).data
        if data.dtype not in (np.int32, np.int64) or data.size > 64:
            raise UnfitError("a shape or list of axes is no list of integers")
        return [int(v) for v in data.reshape(-1)]

    def output(self, op: models.Op) -> int:
        if len(op.outputs) != 1 and op.name != "DynamicQuantizeLinear":  # whose scale and zero point its readers take in
            raise UnfitError(f"it has {len(op.outputs)} outputs")
        return op.outputs[0]

    def only_reader(self, index: int) -> models.Op | None:
        """The op that alone reads a value which is not the output too."""
        readers = self.readers[index]
        return self.model.ops[readers[0]] if len(readers) == 1 and index not in self.model.outputs else None

    def label(self, index: int, dtype: str) -> Steps:
        """The quantisation of codes that no op beside them states."""
        if index not in self.labels:
            raise UnfitError(f"{self.model.tensors[index].name} of {dtype} has no scale")
        return checked(replace(self.labels[index], dtype=dtype))

    # -- the graph --------------------------------------------------------------------------------------------------------------------

    def tensor(self, name: str, shape: Sequence[int], steps: Steps | None) -> int:
        if math.prod(shape) > MAX_ELEMENTS or 0 in shape:
            raise UnfitError(f"{name} of shape {tuple(shape)} is too large, or empty")
        if steps is None:
            self.tensors.append(Tensor(name, tuple(shape), "float32"))
        else:
            scale, zero = np.array([steps.scale], np.float32), np.array([steps.zero], np.int64)
            self.tensors.append(Tensor(name, tuple(shape), steps.dtype, scale, zero))
        return len(self.tensors) - 1

    def store(self, data: np.ndarray, constant: Constant | None = None, axis: int = 0) -> int:
        """A constant of the graph; ``constant``: its scales, now along ``axis``."""
        scale, zero = (np.empty(0, np.float32), np.empty(0, np.int64)) if constant is None else (constant.scale, constant.zero)
        if not ((scale >= SCALES[0]) & (scale <= SCALES[1])).all() or len(scale) not in (0, 1, data.shape[axis] if data.ndim else 1):
            raise UnfitError("a constant's scales are not positive, beyond all reason, or of another number than its slices")
        data = np.ascontiguousarray(data, data.dtype.newbyteorder("="))
        tensor = Tensor(f"constant {len(self.tensors)}", data.shape, str(data.dtype), scale.astype(np.float32), zero.copy(), axis, data)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def emit(self, kind: str, inputs: Sequence[int], steps: Steps | None, **options: Any) -> int:
        """One more op of the graph; the index of its output, which has ``steps`` or is real."""
        given = [self.tensors[i] for i in inputs if i >= 0]
        constant = [t.data is not None for t in given]
        if "window" in options and math.prod(options["window"]) > MAX_TAPS:
            raise UnfitError("its window is too large")
        shape = shapes.infer(kind, options, [t.shape for t in given], constant)
        if kind in ("conv", "depthwise"):
            window = math.prod(given[1].shape[1:3]) * (given[0].shape[-1] if kind == "conv" else 1)
            if math.prod(shape[:2]) * window > MAX_COLUMNS:
                raise UnfitError("it is too large")
        name = self.model.tensors[self.model.ops[self.at].outputs[0]].name if self.model.ops[self.at].outputs else kind
        output = self.tensor(name, shape, steps)
        self.ops.append(Op(kind, tuple(inputs), output, MappingProxyType(options)))
        return output

    def steps(self, tensor: int) -> Steps | None:
        """The quantisation of an activation of the graph."""
        t = self.tensors[tensor]
        return Steps(np.float32(t.scale[0]), int(t.zero[0]), t.dtype) if t.quantised else None

    def shape(self, value: Value) -> tuple[int, ...]:
        """As the file sees it, without the batch."""
        return tuple(self.tensors[value.tensor].shape[a] for a in value.axes)

    def arranged(self, value: Value, axes: Sequence[int]) -> int:
        """The tensor that holds the value with axis ``i`` of the file at ``axes[i]``."""
        if len(axes) != len(value.axes):
            raise UnfitError(f"it takes {len(axes)} axes and the batch, not {self.shape(value)}")
        if tuple(axes) == value.axes:
            return value.tensor
        order = [value.axes[tuple(axes).index(i)] for i in range(len(axes))]
        t, steps = self.tensors[value.tensor], self.steps(value.tensor)
        if [i for i in order if t.shape[i] > 1] == sorted(i for i in order if t.shape[i] > 1):  # only axes of one element move
            return self.emit("reshape", (value.tensor,), steps, shape=tuple(t.shape[i] for i in order))
        return self.emit("transpose", (value.tensor,), steps, order=tuple(order))

    def plain(self, value: Value) -> int:
        """The tensor that holds the value as the file sees it."""
        return self.arranged(value, range(len(value.axes)))

    def codes(self, value: Value, steps: Steps) -> Value:
        """``value``, if it is codes of this quantisation."""
        if value.real or self.steps(value.tensor) != steps:
            raise UnfitError("it reads codes with another scale, zero point or type than they were written with")
        return value

    def float(self, value: Value) -> Value:
        """Its real values in float32."""
        if not self.tensors[value.tensor].quantised:
            return value
        if not value.real:
            raise UnfitError("codes stand where real numbers are computed with")
        if value.tensor not in self.reals:
            self.reals[value.tensor] = self.emit("dequantize", (value.tensor,), None)
        return Value(self.reals[value.tensor], value.axes, True)
