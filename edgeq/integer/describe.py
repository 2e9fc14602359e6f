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
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}  # an ONNX file writes them around every layer; they are no layers
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


def describe(model: Model) -> Description:
    """The description of a model that :func:`edgeq.integer.read.read` returned."""
    problem = classifier.classifier_problem(model)
    counted: set[int] = set()  # weights that two ops share count once
    layers = tuple(_layer(model, op, counted) for op in model.ops if op.name not in _CONVERSIONS)
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


def weight_levels(codes: np.ndarray, axis: int | None) -> int:
    """How many distinct values weights use, zero points taken off, once every slice of ``axis`` is divided by its own common step.

    A 2-bit network exported on int8 kernels stores K * {-1, 0, 1} with another K in every channel; it uses 3 levels, not 3 a channel.
    """
    rows = codes.reshape(1, -1) if axis is None else np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)
    rows = rows.astype(np.int64)
    steps = np.maximum(np.gcd.reduce(rows, axis=1), 1) if rows.size else np.ones(len(rows), np.int64)
    return len(np.unique(rows // steps[:, None]))


def _border(tensor: Tensor) -> Border:
    scale, zero = _quantisation(tensor)
    return Border(tensor.name, tensor.signature or tensor.shape, tensor.dtype, scale, zero)


def _quantisation(tensor: Tensor) -> tuple[float | None, int | None]:
    if tensor.scales.size != 1 or tensor.dtype not in _BITS:
        return None, None
    return float(tensor.scales[0]), int(tensor.zeros[0]) if tensor.zeros.size else 0


def _layer(model: Model, op: Op, counted: set[int]) -> Layer:
    constants = {c: model.tensors[c] for c in (_constant(model, i) for i in op.inputs if i >= 0) if c is not None}
    shaped = op.name in _CONVS | _DEPTHWISE | _DENSE
    new = [t.elements for i, t in constants.items() if i not in counted and (shaped or t.dtype.startswith("float"))]
    counted.update(constants)
    first = model.tensors[op.outputs[0]] if op.outputs else Tensor("", (), (), "unknown")
    weight = _weight(model, op) if shaped else None
    bits = used = levels = None
    if weight is not None and weight.dtype in _BITS and not weight.dtype.endswith("float16"):
        codes = weight.codes()
        bits = _BITS[weight.dtype]
        if codes is not None and codes.size:
            levels = weight_levels(*_centred(codes, weight))
            used = max(1, math.ceil(math.log2(levels)))
    scale, zero = _quantisation(first)
    return Layer(op.name, first.shape, sum(new), _macs(model, op, weight, first), bits, used, levels, scale, zero)


def _centred(codes: np.ndarray, weight: Tensor) -> tuple[np.ndarray, int | None]:
    """Weights less their zero points, and the axis along which scales differ."""
    codes = codes.astype(np.int64)
    per_axis = weight.scales.size > 1 and weight.axis < codes.ndim and codes.shape[weight.axis] == weight.scales.size
    zeros = weight.zeros if weight.zeros.size == (weight.scales.size if per_axis else 1) else np.zeros(1, np.int64)
    shape = [-1 if per_axis and i == weight.axis else 1 for i in range(codes.ndim)]
    return codes - zeros.reshape(shape), weight.axis if per_axis else None


def _constant(model: Model, tensor: int) -> int | None:
    """The constant behind a tensor: itself, or what a dequantisation or transposition of it reads."""
    for _ in range(4):
        if model.tensors[tensor].data is not None:
            return tensor
        op = model.producer(tensor)
        if op is None or op.name not in ("DEQUANTIZE", "DequantizeLinear", "TRANSPOSE", "Transpose", "DENSIFY") or op.inputs[0] < 0:
            return None
        tensor = op.inputs[0]
    return None


def _weight(model: Model, op: Op) -> Tensor | None:
    at = _WEIGHT_AT.get(op.name, 1)
    found = _constant(model, op.inputs[at]) if len(op.inputs) > at and op.inputs[at] >= 0 else None
    return None if found is None else model.tensors[found]


def _macs(model: Model, op: Op, weight: Tensor | None, out: Tensor) -> int | None:
    if op.name not in _CONVS | _DEPTHWISE | _DENSE:
        return 0
    if weight is None or out.dtype == "unknown" or any(d < 0 for d in out.shape[1:]):
        return None
    shape = weight.shape
    if op.name in _DEPTHWISE:  # (1, kh, kw, c)
        return out.elements * math.prod(shape[1:3])
    if op.name in _CONVS:  # (cout, kh, kw, cin / groups), or (cout, cin / groups, kh, kw)
        return out.elements * math.prod(shape[1:])
    return out.elements * math.prod(shape) // (out.shape[-1] or 1) if out.shape else None
