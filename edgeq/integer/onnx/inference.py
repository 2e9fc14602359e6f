"""Shapes inside an ``.onnx`` graph, where they follow from what is stated. They are for show: nothing that runs depends on them.

onnx's own inference is native code that enters functions and subgraphs again at every call, so a few kilobytes can keep it busy for
years. It is asked about plain graphs alone: of the standard operators below, which have neither.
"""

from __future__ import annotations

from typing import Any

_PLAIN = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "Sqrt", "Exp", "Abs", "Neg", "Sum", "Where", "Less", "Erf", "Cast", "Clip"),
        *("Relu", "PRelu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Softplus", "Softmax", "LogSoftmax"),
        *("Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "BatchNormalization", "Gelu", "LRN"),
        *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "ArgMax"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "LayerNormalization", "InstanceNormalization", "Dropout"),
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Concat", "Split", "Slice", "Pad", "Gather", "Constant"),
    )
)
_SMALL = 1024  # bytes of a constant that shapes may be computed from


def inferred(proto: Any) -> list[Any]:
    """The ``ValueInfoProto`` of values inside the graph; none where it is not plain."""
    import onnx

    graph = proto.graph
    if proto.functions or any(n.domain not in ("", "ai.onnx") or n.op_type not in _PLAIN for n in graph.node):
        return []
    light = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    light.graph.name = "shapes"
    light.graph.node.extend(n for n in graph.node if n.op_type != "Constant" or n.ByteSize() <= _SMALL)
    light.graph.input.extend(graph.input)
    light.graph.output.extend(graph.output)
    light.graph.value_info.extend(graph.value_info)
    large = [(n.output[0], a.t) for n in graph.node if n.op_type == "Constant" and n.ByteSize() > _SMALL and n.output for a in n.attribute]
    for name, tensor in (*((t.name, t) for t in graph.initializer), *large):
        if name and tensor.ByteSize() > _SMALL:
            light.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
        elif tensor.name:
            light.graph.initializer.append(tensor)
    try:
        return list(onnx.shape_inference.infer_shapes(light).graph.value_info)
    except Exception:  # its exceptions are not public
        return []
