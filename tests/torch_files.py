"""A small network as PyTorch users have it, NCHW, and what ONNX Runtime's quantiser makes of it. Needs the ``onnx`` extra."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (3, 12, 10)
CLASSES = 7
FORMS = ("qdq", "qoperator", "dynamic")


def network(seed: int = 0, batch: int | str = 1) -> bytes:
    """In floats, of what torchvision's MobileNets consist of, with a pooling of ResNet's and a normalisation that stands alone. Its biases
    are such that no class wins by what all images share."""
    import onnxruntime

    session = onnxruntime.InferenceSession(_network(seed, 1, np.zeros(CLASSES)), providers=["CPUExecutionProvider"])
    scores = [session.run(None, {"image": x})[0][0] for x in _reals(32)]
    return _network(seed, batch, -np.mean(scores, axis=0))


def _network(seed: int, batch: int | str, bias: np.ndarray) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    constants: list[Any] = []
    nodes: list[Any] = []

    def constant(value: Any, dtype: str = "float32") -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(constants)}"))
        return str(constants[-1].name)

    def node(op: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output or f"v{len(nodes)}"], name=f"n{len(nodes)}", **attributes))
        return str(nodes[-1].output[0])

    def conv(x: str, inputs: int, outputs: int, k: int, group: int = 1, **attributes: Any) -> str:
        weights = rng.normal(0, 1.4 / np.sqrt(k * k * inputs / group), (outputs, inputs // group, k, k)) * rng.uniform(
            0.3, 2, (outputs, 1, 1, 1)
        )
        attributes = {"kernel_shape": [k, k], "pads": [k // 2] * 4, "group": group, **attributes}
        return node("Conv", x, constant(weights), constant(rng.normal(0, 0.1, outputs)), **attributes)

    x = conv("image", 3, 8, 3, strides=[2, 2])
    x = node("HardSwish", x)
    y = node("Relu", conv(x, 8, 8, 3, 8))
    squeezed = node("Relu", conv(node("GlobalAveragePool", y), 8, 4, 1))
    y = node("Mul", y, node("HardSigmoid", conv(squeezed, 4, 8, 1), alpha=1 / 6, beta=0.5))
    x = node("Add", x, conv(y, 8, 8, 1))
    normal = [
        constant(rng.uniform(0.5, 2, 8)),
        constant(rng.normal(0, 0.3, 8)),
        constant(rng.normal(0, 0.2, 8)),
        constant(rng.uniform(0.5, 2, 8)),
    ]
    x = node("BatchNormalization", x, *normal)
    x = node("MaxPool", node("Relu", x), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = node("Concat", node("Clip", x, constant(0), constant(6)), node("Clip", x, constant(-0.2), constant(0.8)), axis=1)
    x = node("Flatten", node("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1]))
    features = 16 * 2 * 2
    weights = rng.normal(0, 3 / np.sqrt(features), (CLASSES, features)) * rng.uniform(0.3, 2, (CLASSES, 1))
    node("Gemm", x, constant(weights), constant(bias), output="scores", transB=1)
    image, scores = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, *s]) for n, s in (("image", SHAPE), ("scores", (CLASSES,)))
    )
    graph = helper.make_graph(nodes, "torch", [image], [scores], constants)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="pytorch").SerializeToString()
    )


def images(n: int, seed: int = 0) -> np.ndarray:
    """``(n, 12, 10, 3) uint8``: soft spots, so that activations are neither flat nor noise."""
    rng = np.random.default_rng(seed)
    c, h, w = SHAPE
    y, x = np.mgrid[0:h, 0:w]
    at = rng.uniform(0, (h, w), (n, 3, 2))
    spots = np.exp(-(((y - at[:, :, :1, None]) ** 2 + (x - at[:, :, 1:, None]) ** 2) / rng.uniform(2, 20, (n, 3, 1, 1))))
    colours = rng.uniform(-1, 1, (n, 3, 1, 1, c))
    return np.clip(np.rint(127 + 250 * (spots[..., None] * colours).sum(1)), 0, 255).astype(np.uint8)


def _reals(n: int) -> np.ndarray:
    """``(n, 1, 3, 12, 10) float32`` in [0, 1]."""
    return images(n, 1).transpose(0, 3, 1, 2).astype(np.float32)[:, None] / 255


def quantised(folder: Path, form: str, seed: int = 0) -> Path:
    """``form``: of :data:`FORMS`; both static ones per channel."""
    from onnxruntime import quantization

    given, out = folder / f"float{seed}.onnx", folder / f"{form}{seed}.onnx"
    given.write_bytes(network(seed))
    kind = quantization.QuantType
    logging.disable(logging.WARNING)  # it recommends what has been done
    try:
        if form == "dynamic":
            quantization.quantize_dynamic(given, out, weight_type=kind.QUInt8)
        else:
            activations = kind.QInt8 if form == "qdq" else kind.QUInt8
            as_form = quantization.QuantFormat.QDQ if form == "qdq" else quantization.QuantFormat.QOperator
            quantization.quantize_static(
                given, out, _Images(), quant_format=as_form, per_channel=True, activation_type=activations, weight_type=kind.QInt8
            )
    finally:
        logging.disable(logging.NOTSET)
    return out


class _Images:
    """What the quantiser sets ranges by."""

    def __init__(self) -> None:
        self.rest = iter(_reals(24))

    def get_next(self) -> dict[str, np.ndarray] | None:
        x = next(self.rest, None)
        return None if x is None else {"image": x}

    def __len__(self) -> int:
        return 24
