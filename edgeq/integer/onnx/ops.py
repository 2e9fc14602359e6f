"""One op of an ``.onnx`` file into the integer graph: :func:`read`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeq.integer import model as models
from edgeq.integer.onnx import dynamic
from edgeq.integer.onnx.codes import MOVES, bounds, idle, quantisation_behind, with_scales
from edgeq.integer.onnx.layers import FLOATS
from edgeq.integer.onnx.reader import Reader
from edgeq.integer.onnx.scales import joined, stated
from edgeq.integer.onnx.values import Constant, Inputs, Steps, UnfitError, Value

UNITS = {*FLOATS} - {"Sub", "Min", "Max", "ReduceMean", "Tanh", "HardSwish", "HardSigmoid", "BatchNormalization"}
"""Float ops that become one integer op where all around them is quantised."""
_THROUGH = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "MaxPool")  # a QuantizeLinear behind these moves in front of them


def read(r: Reader, op: models.Op) -> Value | Constant:
    """What the op's output stands for; the graph grows by what it takes."""
    if op.custom or not op.inputs:
        raise UnfitError("it is no op of the integer graph")
    if dynamic.reads(r, op):
        return dynamic.read(r, op)
    if op.name in MOVES:
        values = [r.find(i) for i in op.inputs[: 2 if op.name in FLOATS else 1]]
        if not any(isinstance(v, Value) and v.real for v in values) or op.name not in FLOATS:
            return MOVES[op.name](r, op, values[0])
    if (places := joined(op)) is not None:
        return _kernel(r, op, *places)
    if op.name not in FLOATS:
        raise UnfitError("it is no op of the integer graph")
    inputs = [r.find(i) for i in op.inputs if i >= 0]
    steps = quantised(r, op, inputs, op.outputs[0])
    add = r.only_reader(op.outputs[0])
    if op.name == "MatMul" and add is not None and add.name == "Add" and steps is None:  # a dense layer with its bias
        with_bias = [*inputs, r.find(next(i for i in add.inputs if i != op.outputs[0]))]
        if (steps := quantised(r, op, with_bias, r.output(add))) is not None:
            value = r.values[add.outputs[0]] = FLOATS["Gemm"](r, op, with_bias, steps)
            return value
    if steps is None:
        inputs = [r.float(v) if isinstance(v, Value) else Constant(v.reals(), v.scale[:0], v.zero[:0]) for v in inputs]
    return FLOATS[op.name](r, op, inputs, steps)


def quantised(r: Reader, op: models.Op, inputs: Inputs, output: int) -> Steps | None:
    """The quantisation of the one op that reads ``output``, where ONNX Runtime joins all three into an integer kernel (``CheckQDQNodes``).

    A Relu or Clip in between is dropped where the codes reach no further; moving what is quantised later is quantising what is moved.
    """
    if op.name not in UNITS:
        return None
    types, weights = set(), ""
    for i, value in enumerate(inputs):
        if isinstance(value, Value):
            steps = r.steps(value.tensor)
            if steps is None or not value.real:
                return None
            types.add(steps.dtype)
        elif not len(value.scale) or (i == 2 and value.data.dtype != np.int32):
            return None
        elif op.name in ("Add", "Mul"):
            types.add(str(value.data.dtype))
        elif i == 1:
            weights = str(value.data.dtype)
    clamps = []
    while (reader := r.only_reader(output)) is not None and reader.name in (*_THROUGH, "Relu", "Clip"):
        if reader.name in ("Relu", "Clip"):
            clamps.append(bounds(r, reader))
        output = r.output(reader)
    if reader is None or reader.name != "QuantizeLinear":
        return None
    out, _ = quantisation_behind(r, reader)
    if types != {out.dtype} or (out.dtype == "int8" and weights == "uint8"):
        return None
    return out if all(idle(out, *clamp) for clamp in clamps) else None


def _kernel(r: Reader, op: models.Op, triples: tuple[int, ...], out: tuple[int, int]) -> Value:
    """An integer kernel: the float op it stands for, on codes."""
    inputs: list[Value | Constant] = []
    across = int(op.name == "QLinearMatMul" or (op.name == "QGemm" and not op.options.get("transB", 0)))  # the axis of outputs in weights
    for i in triples:
        value = r.find(op.inputs[i])
        if isinstance(value, Constant):
            scale, zero = r.constant(op.inputs[i + 1]).data, r.constant(op.inputs[i + 2]).data
            inputs.append(with_scales(value.data, scale, zero, across))
        else:
            inputs.append(r.codes(value, stated(r, op, i + 1, i + 2)))
    bias = {"QLinearConv": 8, "QGemm": 6}.get(op.name, len(op.inputs))
    if bias < len(op.inputs) and op.inputs[bias] >= 0:
        inputs.append(r.constant(op.inputs[bias]))
    name = op.name.removeprefix("QLinear").replace("QGemm", "Gemm")
    return replace(FLOATS[name](r, op, inputs, stated(r, op, *out)), real=False)
