"""What an attacker who holds a file does first: take its last softmax away, and see logits."""

from __future__ import annotations

from dataclasses import replace

from edgeq.core.errors import EdgeqError
from edgeq.integer import onnx_file, tflite_file
from edgeq.integer.classifier import PASS, SIGMOIDS
from edgeq.integer.model import Model
from edgeq.integer.onnx.content import proto_of

LAST = {"SOFTMAX", "ARG_MAX", "Softmax", "ArgMax", "QLinearSoftmax", *SIGMOIDS}


def logits_of(model: Model) -> int | None:
    """The tensor that enters the last softmax (or argmax), seen through casts and reshapes; None where there is neither."""
    tensor, logits = model.outputs[0], None
    for _ in range(len(model.ops)):  # a damaged file may hold a cycle
        op = model.producer(tensor)
        if op is None or op.name not in {*LAST, *PASS} or not op.inputs or op.inputs[0] < 0:
            break
        tensor = op.inputs[0]
        logits = tensor if op.name in LAST else logits
    return logits


def strip(content: bytes, path: str) -> bytes:
    """The file ``content`` with its logits as the output. One number is changed, the index of the output tensor: so every layer before is
    the same bytes in the same order, whatever ops it is made of, and the softmax still runs, its result unused. In an ``.onnx`` the
    output is renamed instead.

    Raises :class:`EdgeqError` where there is no softmax or argmax to take away; ``path`` names the file.
    """
    if content[4:8] != b"TFL3":
        return _strip_onnx(content, path)
    from ai_edge_litert import schema_py_generated as schema

    model = tflite_file.parse(content, path)
    if len(model.outputs) != 1 or (tensor := logits_of(model)) is None:
        raise EdgeqError(f"{path}: ends in no softmax that could be taken away")
    data = bytearray(content)
    schema.Model.GetRootAs(data, 0).Subgraphs(0).OutputsAsNumpy()[0] = tensor
    logits = tflite_file.parse(bytes(data), path)
    if _graph(logits) != _graph(replace(model, outputs=(tensor,))):  # vectors of a flatbuffer may share their bytes
        raise EdgeqError(f"{path}: its output cannot be moved before the softmax without changing another op; export it again")
    return bytes(data)


def _strip_onnx(content: bytes, path: str) -> bytes:
    proto, model = proto_of(content, path), onnx_file.parse(content, path)
    if len(model.outputs) != 1 or (tensor := logits_of(model)) is None:
        raise EdgeqError(f"{path}: ends in no softmax that could be taken away")
    from onnx import TensorProto

    maker, dtype = model.producer(tensor), model.tensors[tensor].dtype
    if maker is not None and maker.name == "DequantizeLinear" and len(maker.inputs) > 2:  # its codes are the scores
        tensor, dtype = maker.inputs[0], model.tensors[maker.inputs[2]].dtype
    kinds = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
    output, shape = proto.graph.output[0], model.tensors[tensor].shape
    if dtype not in kinds or (shape and shape[1:] != model.tensors[model.outputs[0]].shape[1:]):
        raise EdgeqError(f"{path}: its logits ({model.tensors[tensor].name}) are of no known type, or of another shape than its output")
    output.name, output.type.tensor_type.elem_type = model.tensors[tensor].name, kinds[dtype]
    return bytes(proto.SerializeToString(deterministic=True))


def _graph(model: Model) -> tuple[object, ...]:
    return model.inputs, model.outputs, [(op.name, op.inputs, op.outputs) for op in model.ops], [t.shape for t in model.tensors]
