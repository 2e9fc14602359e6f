"""An integer graph as a QDQ ``.onnx`` for tests: float ops between DequantizeLinear and QuantizeLinear, NCHW inside, int8 at both ends.

It is the graph's layout and numbers, not its function: a ReLU stands only where the codes begin at zero, and padding is stated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.integer.graph import Graph, Tensor
from edgeq.integer.ops import padding


def write(graph: Graph, dtype: str = "int8", weights: str = "int8") -> bytes:
    """``dtype``, ``weights``: of activations and weights; uint8 codes are those of int8 plus 128."""
    from onnx import TensorProto, helper, numpy_helper

    constants: list[Any] = []
    nodes: list[Any] = []
    shift = {"int8": 0, "uint8": 128}

    def constant(value: Any, kind: str) -> str:
        constants.append(numpy_helper.from_array(np.array(value, kind), f"c{len(constants)}"))
        return str(constants[-1].name)

    def node(op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output or f"v{len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def steps(t: Tensor) -> list[str]:
        return [constant(t.scale[0], "float32"), constant(int(t.zero[0]) + shift[dtype], dtype)]

    def stored(t: Tensor, data: np.ndarray, kind: str, axis: int) -> str:
        many = len(t.scale) > 1
        zero = t.zero + (0 if kind == "int32" else shift[kind])
        scales = [constant(t.scale if many else t.scale[0], "float32"), constant(zero if many else zero[0], kind)]
        return node("DequantizeLinear", constant(data.astype(int) + (0 if kind == "int32" else shift[kind]), kind), *scales, axis=axis)

    x, y = graph.tensors[graph.input], graph.tensors[graph.output]
    real = {graph.input: node("Transpose", node("DequantizeLinear", "image", *steps(x)), perm=(0, 3, 1, 2))}
    for op in graph.ops:
        o, given, out = op.options, graph.tensors[op.inputs[0]], graph.tensors[op.output]
        name, attributes = real[op.inputs[0]], {}
        if "stride" in o:
            kernel = o["window"] if "window" in o else graph.tensors[op.inputs[1]].shape[1:3]
            (top, bottom), (left, right) = padding(given.shape[:2], kernel, o["stride"], o.get("dilation", (1, 1)), o["padding"] == "same")
            attributes = {"strides": o["stride"], "kernel_shape": kernel, "pads": (top, left, bottom, right)}
        if op.kind in ("conv", "depthwise", "dense"):
            w, b = (graph.tensors[i] for i in op.inputs[1:])
            order = {"conv": (0, 3, 1, 2), "depthwise": (3, 0, 1, 2), "dense": (1, 0)}[op.kind]
            kernels = [stored(w, w.data.transpose(order), weights, 1 if op.kind == "dense" else 0), stored(b, b.data, "int32", 0)]
            if op.kind == "dense":
                name = node("Add", node("MatMul", name, kernels[0]), kernels[1])
            else:
                group = given.shape[2] // kernels_in if (kernels_in := w.data.transpose(order).shape[1]) else 1
                name = node("Conv", name, *kernels, group=group, dilations=o["dilation"], **attributes)
        elif op.kind == "reshape":
            name = node("Reshape", node("Transpose", name, perm=(0, 2, 3, 1)), constant([-1, *out.shape], "int64"))
        elif op.kind == "pad":
            widths = [0, *(o["before"][i] for i in (2, 0, 1)), 0, *(o["after"][i] for i in (2, 0, 1))]
            name = node("Pad", name, constant(widths, "int64"))
        elif op.kind == "add":
            name = node("Add", name, real[op.inputs[1]])
        else:
            name = node({"max_pool": "MaxPool", "average_pool": "AveragePool", "softmax": "Softmax"}[op.kind], name, **attributes)
        if o.get("activation", "none") != "none" and out.zero[0] == -128:
            name = node("Relu", name)
        last = op.output == graph.output
        codes = node("QuantizeLinear", name, *steps(out), output="answer" if last else "")
        real[op.output] = codes if last else node("DequantizeLinear", codes, *steps(out))
    kind = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}[dtype]
    borders = [helper.make_tensor_value_info(n, kind, ["n", *t.shape]) for n, t in (("image", x), ("answer", y))]
    proto = helper.make_graph(nodes, "qdq", borders[:1], borders[1:], constants)
    return bytes(helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
