"""Dynamic quantisation in an ``.onnx`` file: activations whose scale each image sets for itself, and layers that add up its codes.

ONNX Runtime computes ``DynamicQuantizeLinear -> ConvInteger or MatMulInteger -> Cast -> Mul`` by the product of both scales. Read are the
reals that this stands for: activations rounded to their image's steps, and a layer of the dequantised weights. Its sums are those of the
runtime but for the last bits of float32, so nothing that is claimed of integer graphs holds for it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeq.integer import model as models
from edgeq.integer.onnx.codes import with_scales
from edgeq.integer.onnx.layers import FLOATS
from edgeq.integer.onnx.reader import Reader
from edgeq.integer.onnx.values import Constant, UnfitError, Value

NAME, LAYERS = "DynamicQuantizeLinear", {"ConvInteger": ("Conv", 0), "MatMulInteger": ("MatMul", 1)}
"""The op, and the integer layers behind it: the float op that each stands for, and the axis of outputs in its weights."""


def reads(r: Reader, op: models.Op) -> bool:
    """Whether the op is one of those, and no integer layer of another kind."""
    return op.name == NAME or (op.name in LAYERS and _source(r, op) is not None)


def _source(r: Reader, op: models.Op) -> models.Op | None:
    writer = r.model.ops[r.writers[op.inputs[0]]] if op.inputs[0] in r.writers else None
    return writer if writer is not None and writer.name == NAME and op.inputs[0] == writer.outputs[0] else None


def read(r: Reader, op: models.Op) -> Value:
    """The rounded activation; or a layer's product as its Mul gives it, and then all ops up to there are done."""
    if op.name == NAME:
        return _rounded(r, op)
    cast = r.only_reader(r.output(op))
    scaled = r.only_reader(r.output(cast)) if cast is not None and cast.name == "Cast" else None
    source = _source(r, op)
    if scaled is None or scaled.name != "Mul" or source is None:
        raise UnfitError("its sums are not brought back to reals by a Cast and a product of scales")
    scales = next((r.model.ops[r.writers[i]] for i in scaled.inputs if i in r.writers and r.model.ops[r.writers[i]] is not cast), None)
    of_input, of_weights = source.outputs[1], None if scales is None else next((i for i in scales.inputs if i != source.outputs[1]), None)
    if scales is None or scales.name != "Mul" or of_weights is None or of_input not in scales.inputs:
        raise UnfitError("its sums are not multiplied by the scales of its input and its weights")
    if len(op.inputs) < 3 or op.inputs[2] != source.outputs[2]:
        raise UnfitError("it takes another zero point than its input's")
    name, axis = LAYERS[op.name]
    weights, scale = r.constant(op.inputs[1]).data, r.constant(of_weights).data
    zero = r.constant(op.inputs[3]).data if len(op.inputs) > 3 and op.inputs[3] >= 0 else np.zeros(1, np.int64)
    if scale.size > 1 and op.name == "ConvInteger" and scale.shape[-1] != 1:  # it is broadcast over (n, c, h, w)
        raise UnfitError(f"scales of shape {scale.shape} are not one an output channel")
    wide = with_scales(weights, np.broadcast_to(scale.reshape(-1), max(scale.size, zero.size)), zero, axis)
    real = Constant(wide.reals(), wide.scale[:0], wide.zero[:0])
    value = FLOATS[name](r, replace(op, name=name), [_activation(r, op.inputs[0]), real], None)
    r.values[r.output(scaled)] = value
    r.done |= {r.writers[o.outputs[0]] for o in (cast, scaled) if o is not None}
    return value


def _activation(r: Reader, index: int) -> Value:
    value = r.find(index)
    assert isinstance(value, Value)
    return value


def _rounded(r: Reader, op: models.Op) -> Value:
    value = r.find(op.inputs[0])
    if not isinstance(value, Value) or not value.real or len(op.outputs) != 3:
        raise UnfitError("it rounds no real activation")
    codes, scale, zero = op.outputs
    for at in r.readers[scale]:  # a product of two scales, which a layer takes in
        if r.model.ops[at].name != "Mul":
            raise UnfitError("the scale that it gives is read by something else than a layer's product of scales")
        r.done.add(at)
    if any(r.model.ops[at].name not in LAYERS for i in (codes, zero) for at in r.readers[i]):
        raise UnfitError("the codes that it gives are read by something else than ConvInteger or MatMulInteger")
    value = r.float(value)
    return Value(r.emit("dynamic_quantize", (value.tensor,), None), value.axes, True)
