"""A tiny int8 QDQ ``.onnx`` classifier for tests, written with onnx's helpers. Needs the ``onnx`` extra; returns bytes."""

from __future__ import annotations

from typing import Any

import numpy as np


def classifier(
    h: int = 8,
    w: int = 8,
    c: int = 3,
    classes: int = 10,
    seed: int = 0,
    *,
    nchw: bool = False,
    fixed_batch: bool = False,
    softmax: bool = True,
    sigmoid: bool = False,
    floats: bool = False,
) -> bytes:
    """Conv 3x3 with 8 channels and ReLU, flattened into a fully connected layer, and softmax, sigmoid or neither; int8 at both ends.

    ``floats``: float32 at both ends. ``fixed_batch``: the batch axis is declared 1. The input's real range is 0..1.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    constants: list[Any] = []
    nodes: list[Any] = []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    def scale_of(name: str, scale: float, zero: int) -> list[str]:
        return [constant(f"{name}/scale", np.float32(scale).reshape(())), constant(f"{name}/zero", np.int8(zero).reshape(()))]

    def weights(name: str, codes: np.ndarray, scale: float) -> str:
        at = scale_of(name, scale, 0)
        nodes.append(helper.make_node("DequantizeLinear", [constant(name, codes), *at], [f"{name}/real"]))
        return f"{name}/real"

    def requantise(name: str, scale: float, zero: int) -> str:
        at = scale_of(f"{name}/q", scale, zero)
        nodes.append(helper.make_node("QuantizeLinear", [name, *at], [f"{name}/codes"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}/codes", *at], [f"{name}/back"]))
        return f"{name}/back"

    last = "image"
    if floats:
        last = requantise("image", 1 / 255, -128)
    else:
        nodes.append(helper.make_node("DequantizeLinear", ["image", *scale_of("image", 1 / 255, -128)], ["pixels"]))
        last = "pixels"
    if not nchw:
        nodes.append(helper.make_node("Transpose", [last], ["chw"], perm=[0, 3, 1, 2]))
        last = "chw"
    kernel = weights("conv/w", rng.integers(-127, 128, (8, c, 3, 3)).astype(np.int8), 0.004)
    nodes.append(helper.make_node("Conv", [last, kernel], ["conv"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["conv"], ["relu"]))
    nodes.append(helper.make_node("Flatten", [requantise("relu", 2 / 255, -128)], ["flat"]))
    n = 8 * h * w
    values = rng.uniform(-80, 80, (8, h * w, classes))
    values -= values.mean(axis=1, keepdims=True)
    dense = weights("fc/w", np.rint(values).reshape(n, classes).astype(np.int8), 12 / np.sqrt(n) / 127)
    nodes.append(helper.make_node("MatMul", [requantise("flat", 2 / 255, -128), dense], ["logits"]))
    last = requantise("logits", 16 / 255, 0)
    at = (16 / 255, 0)
    if softmax or sigmoid:
        nodes.append(helper.make_node("Sigmoid", [last], ["probs"]) if sigmoid else helper.make_node("Softmax", [last], ["probs"], axis=-1))
        last, at = "probs", (1 / 256, -128)
    if floats:
        nodes.append(helper.make_node("Identity", [last], ["answer"]))
    else:
        nodes.append(helper.make_node("QuantizeLinear", [last, *scale_of("answer", *at)], ["answer"]))
    kind = TensorProto.FLOAT if floats else TensorProto.INT8
    batch = 1 if fixed_batch else "n"
    image = helper.make_tensor_value_info("image", kind, [batch, c, h, w] if nchw else [batch, h, w, c])
    answer = helper.make_tensor_value_info("answer", kind, [batch, classes])
    graph = helper.make_graph(nodes, "tiny", [image], [answer], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tiny").SerializeToString()


def smallest() -> bytes:
    """A softmax over the four pixels of a 2x2 image: what ``edgeq doctor`` tries runtimes of ``.onnx`` files with."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in (("x", (2, 2, 1)), ("y", (4,)))]
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Softmax", ["flat"], ["y"])]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
