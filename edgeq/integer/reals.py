"""A ``.tflite`` whose kernels are not followed bit by bit, in real numbers: what can be differentiated of it all the same.

*Dynamic range*: weights are integers, and kernels quantise floating activations as they run, each in its own way. *int16*: activations of
16 bits. Both compute their real function to within small roundings, so the function is read: integer constants dequantised, int16
activations as floats. Nothing that states what a runtime answers may use this.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeq.integer.model import Model, Op, Tensor
from edgeq.integer.read_tflite import room

_LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_NONE = np.empty(0, np.float32)
_CODES = ("int4", "int8", "uint8", "int16", "int32", "int64")


def kind(model: Model) -> str:
    """``"int16"`` where activations are of 16 bits, ``"dynamic range"`` where weights alone are integers, else ``""``."""
    if any(model.tensors[i].dtype == "int16" and model.tensors[i].data is None for op in model.ops for i in op.outputs):
        return "int16"
    return "dynamic range" if any(_hybrid(model, op) for op in model.ops) else ""


def lowered(model: Model) -> Model:
    """The same ops between floats: QUANTIZE and DEQUANTIZE of int16 become RESHAPE. A constant that makes no sense is left as it is, for
    the reader to refuse."""
    tensors, left = list(model.tensors), room(model)

    def put(i: int, scales: np.ndarray, zeros: np.ndarray, axis: int) -> None:
        nonlocal left
        if tensors[i] is model.tensors[i] and (left := left - tensors[i].elements) >= 0:
            tensors[i] = _real(tensors[i], scales, zeros, axis)

    for i, t in enumerate(model.tensors):
        if t.dtype == "int16" and t.data is None:
            tensors[i] = replace(t, dtype="float32", scales=_NONE, zeros=_NONE)
    for op in model.ops:
        if op.name in _LAYERS and (_hybrid(model, op) or _wide(model, op)):
            x, w = (model.tensors[i] for i in op.inputs[:2])
            put(op.inputs[1], w.scales, w.zeros, w.axis)
            if len(op.inputs) > 2 and op.inputs[2] >= 0 and len(x.scales) == 1:
                put(op.inputs[2], x.scales * w.scales, _NONE, 0)
        elif _wide(model, op):
            for i, t in ((i, model.tensors[i]) for i in op.inputs if i >= 0):
                if t.dtype == "int16" and t.data is not None:
                    put(i, t.scales, t.zeros, t.axis)
    return replace(model, tensors=tuple(tensors), ops=tuple(_floating(model, op) for op in model.ops))


def _hybrid(model: Model, op: Op) -> bool:
    if op.name not in _LAYERS or len(op.inputs) < 2 or min(op.inputs[:2]) < 0:
        return False
    x, w = (model.tensors[i] for i in op.inputs[:2])
    return x.dtype == "float32" and w.dtype in ("int4", "int8", "uint8") and w.data is not None


def _wide(model: Model, op: Op) -> bool:
    return any(model.tensors[i].dtype == "int16" for i in (*op.inputs, *op.outputs) if i >= 0)


def _floating(model: Model, op: Op) -> Op:
    if op.name not in ("QUANTIZE", "DEQUANTIZE") or not op.inputs or not op.outputs or op.inputs[0] < 0:
        return op
    given, out = model.tensors[op.inputs[0]].dtype, model.tensors[op.outputs[0]].dtype
    if "int16" not in (given, out):
        return op
    if {given, out} <= {"int16", "float32"}:
        return replace(op, name="RESHAPE")
    return replace(op, name="DEQUANTIZE" if out == "int16" else "QUANTIZE")


def _real(t: Tensor, scales: np.ndarray, zeros: np.ndarray, axis: int) -> Tensor:
    """A constant's dequantised values as a float32 constant; ``t`` itself where scales and shape do not fit."""
    codes = t.codes() if t.dtype in _CODES else None
    many = len(scales) > 1
    if codes is None or not len(scales) or (many and not (0 <= axis < codes.ndim and codes.shape[axis] == len(scales))):
        return t
    shape = [-1 if many and i == axis else 1 for i in range(codes.ndim)]
    zero = np.resize(zeros, len(scales)) if len(zeros) else np.zeros(len(scales), np.int64)
    with np.errstate(all="ignore"):  # of a damaged file
        values = ((codes.astype(np.int64) - zero.reshape(shape)) * np.asarray(scales, np.float64).reshape(shape)).astype("<f4")
    return replace(t, dtype="float32", scales=_NONE, zeros=_NONE, data=memoryview(values.tobytes()))
