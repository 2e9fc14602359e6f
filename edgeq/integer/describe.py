"""What is in a model file: layers, weights, the bits they really use, multiply-accumulates. Computed from the file, nothing is run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeq.integer import classifier
from edgeq.integer.model import Model, Op, Tensor

_BITS = {"int2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "bool": 8, "int16": 16, "uint16": 16, "float16": 16, "bfloat16": 16}
_CONVS = {"CONV_2D", "Conv", "QLinearConv", "ConvInteger", "FusedConv"}
_DEPTHWISE = {"DEPTHWISE_CONV_2D"}
_DENSE = {"FULLY_CONNECTED", "Gemm", "QGemm", "MatMul", "QLinearMatMul", "MatMulInteger"}
_SHAPED = _CONVS | _DEPTHWISE | _DENSE
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}  # an ONNX file writes them around every layer; they are no layers
_OF_CONSTANTS = {"DEQUANTIZE", "DequantizeLinear", "TRANSPOSE", "Transpose", "DENSIFY"}
_WEIGHT_AT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}


@dataclass(frozen=True)
class Border:
    """An input or output of the file. ``scale`` and ``zero`` are None for floats."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero: int | None


@dataclass(frozen=True)
class Layer:
    """One operator. ``shape``: of its first output; ``macs``: multiply-accumulates for one image, None where a shape is not stated.

    ``bits`` are stored a weight, ``bits_used`` is ``ceil(log2(levels))`` of the ``levels`` distinct weights that occur; None without
    integer weights. ``scale``, ``zero``: of the first output, where it is quantised.
    """

    op: str
    shape: tuple[int, ...]
    parameters: int
    macs: int | None
    bits: int | None
    bits_used: int | None
    levels: int | None
    scale: float | None
    zero: int | None


@dataclass(frozen=True)
class Description:
    """A model file in numbers. ``kind``: what its output is, where that is plain; ``problem``: why it is no image classifier."""

    path: str
    format: str
    bytes: int
    producer: str
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    kind: str | None
    problem: str | None
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    metadata: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def describe(model: Model, output: str | None = None) -> Description:
    """The description of a model that :func:`edgeq.integer.read.read` returned. ``output``: what its output is, where that was stated."""
    problem = classifier.classifier_problem(model, output)
    weights = _Weights(2 * model.size + 4096)
    layers = tuple(_layer(model, op, weights) for op in model.ops if op.name not in _CONVERSIONS)
    return Description(
        model.path,
        model.format,
        model.size,
        model.description,
        tuple(_border(model.tensors[i]) for i in model.inputs),
        tuple(_border(model.tensors[i]) for i in model.outputs),
        None if problem else classifier.output_kind(model),
        problem,
        layers,
        sum(layer.parameters for layer in layers),
        sum(layer.macs or 0 for layer in layers),
        tuple(model.metadata),
    )


def weight_levels(codes: np.ndarray, axis: int | None, zeros: np.ndarray | None = None) -> int:
    """How many distinct values weights use, zero points taken off, once every slice of ``axis`` is divided by its own common step.

    ``codes``: integers of any shape; ``zeros``: ``(1,)`` or one a slice, 0 where left out. A 2-bit network exported on int8 kernels
    stores K * {-1, 0, 1} with another K in every channel; it uses 3 levels, not 3 a channel.
    """
    rows = codes.reshape(1, -1) if axis is None else np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)
    zeros = np.broadcast_to(np.zeros(1, np.int64) if zeros is None else zeros, len(rows))
    distinct: np.ndarray = np.empty(0, np.int64)
    step = max(1, 2**20 // max(1, rows.shape[1]))  # rows at once: some 16 MB, however large the layer
    for at in range(0, len(rows), step):
        block = rows[at : at + step]
        block = (np.unique(block)[None] if len(block) == 1 else block).astype(np.int64) - zeros[at : at + step, None]
        steps = np.maximum(np.gcd.reduce(block, axis=1), 1) if block.size else np.ones(len(block), np.int64)
        distinct = np.union1d(distinct, block // steps[:, None])
    return len(distinct)


def _border(tensor: Tensor) -> Border:
    scale, zero = _quantisation(tensor)
    return Border(tensor.name, tensor.signature or tensor.shape, tensor.dtype, scale, zero)


def _quantisation(tensor: Tensor) -> tuple[float | None, int | None]:
    if tensor.scales.size != 1 or tensor.dtype not in _BITS:
        return None, None
    return float(tensor.scales[0]), int(tensor.zeros[0]) if tensor.zeros.size else 0


class _Weights:
    """The weights that were looked at. Those that two ops share count once; a damaged file may show the same bytes in any number of
    tensors, so no more than ``budget`` codes are looked at."""

    def __init__(self, budget: int) -> None:
        self.counted: set[int] = set()
        self.budget = budget
        self._levels: dict[int, int | None] = {}

    def levels(self, index: int, weight: Tensor) -> int | None:
        if index not in self._levels:
            self._levels[index] = None
            if 0 < weight.elements <= self.budget and (codes := weight.codes()) is not None and codes.dtype.kind in "iu":
                self.budget -= weight.elements
                axis, zeros = _scaled_along(weight)
                self._levels[index] = weight_levels(codes, axis, zeros)
        return self._levels[index]


def _layer(model: Model, op: Op, weights: _Weights) -> Layer:
    constants = {c: model.tensors[c] for c in (_constant(model, i) for i in op.inputs if i >= 0) if c is not None}
    shaped = op.name in _SHAPED
    new = [t.elements for i, t in constants.items() if i not in weights.counted and (shaped or t.dtype.startswith("float"))]
    weights.counted.update(constants)
    first = model.tensors[op.outputs[0]] if op.outputs else Tensor("", (), (), "unknown")
    weight = _weight(model, op) if shaped else None
    bits = used = levels = None
    if weight is not None and model.tensors[weight].dtype in _BITS and not model.tensors[weight].dtype.endswith("float16"):
        bits = _BITS[model.tensors[weight].dtype]
        if levels := weights.levels(weight, model.tensors[weight]):
            used = max(1, math.ceil(math.log2(levels)))
    scale, zero = _quantisation(first)
    macs = _macs(op, None if weight is None else model.tensors[weight], first)
    return Layer(op.name, first.shape, sum(new), macs, bits, used, levels, scale, zero)


def _scaled_along(weight: Tensor) -> tuple[int | None, np.ndarray]:
    """The axis along which a weight's scales differ, and its zero points."""
    rank = len(weight.shape)
    axis = weight.axis % rank if -rank <= weight.axis < rank else None
    if weight.scales.size < 2 or axis is None or weight.shape[axis] != weight.scales.size:
        axis = None
    zeros = weight.zeros if weight.zeros.size == (1 if axis is None else weight.scales.size) else np.zeros(1, np.int64)
    return axis, zeros


def _constant(model: Model, tensor: int) -> int | None:
    """The constant behind a tensor: itself, or what a dequantisation or transposition of it reads."""
    for _ in range(4):
        if model.tensors[tensor].data is not None:
            return tensor
        op = model.producer(tensor)
        if op is None or op.name not in _OF_CONSTANTS or not op.inputs or op.inputs[0] < 0:
            return None
        tensor = op.inputs[0]
    return None


def _weight(model: Model, op: Op) -> int | None:
    at = _WEIGHT_AT.get(op.name, 1)
    return _constant(model, op.inputs[at]) if len(op.inputs) > at and op.inputs[at] >= 0 else None


def _macs(op: Op, weight: Tensor | None, out: Tensor) -> int | None:
    if op.name not in _SHAPED:
        return 0
    if weight is None or out.dtype == "unknown" or any(d < 0 for d in out.shape[1:]):
        return None
    shape = weight.shape
    if op.name in _DEPTHWISE:  # (1, kh, kw, c)
        return out.elements * math.prod(shape[1:3])
    if op.name in _CONVS:  # (cout, kh, kw, cin / groups), or (cout, cin / groups, kh, kw)
        return out.elements * math.prod(shape[1:])
    return out.elements * math.prod(shape) // (out.shape[-1] or 1) if out.shape else None
