"""A model file as a small read-only value, whatever its format, and what can be told from it without running it.

Nothing here trusts the file: names, shapes and indices were checked when it was read, and contents are only looked at, never run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgeq.core.answer import Kind
from edgeq.core.errors import EdgeqError

MAX_FILE = 2**31  # bytes: what flatbuffers and protobuf can address

_NUMBERS = {"bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"}


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph.

    ``shape``: as stored (1 for a free batch axis in ``.tflite``, -1 where unknown); ``signature``: the same with -1 on free axes.
    ``dtype``: numpy's name, or ``int4``, ``string`` ... ; ``value = scales * (code - zeros)``, one scale, or one a slice of ``axis``.
    ``data``: the stored bytes of a constant (little-endian), else None.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    scales: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    zeros: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    axis: int = 0
    data: memoryview | None = None

    @property
    def elements(self) -> int:
        """How many numbers it holds for one image; free axes count once."""
        return math.prod(abs(d) for d in self.shape)

    def codes(self) -> np.ndarray | None:
        """The constant's stored numbers in ``shape``; None where it is no constant, or of a type numpy cannot hold.

        ``int4`` is unpacked to int8, low nibble first.
        """
        if self.data is None:
            return None
        if self.dtype in ("int4", "uint4"):
            packed = np.frombuffer(self.data, np.uint8)
            nibbles = np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[: self.elements].astype(np.int8)
            flat = nibbles - 16 * (nibbles > 7) if self.dtype == "int4" else nibbles
            return flat.reshape(self.shape) if flat.size == self.elements else None
        if self.dtype not in _NUMBERS or len(self.data) != self.elements * np.dtype(self.dtype).itemsize:
            return None
        return np.frombuffer(self.data, np.dtype(self.dtype).newbyteorder("<")).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Op:
    """One operator. ``inputs``, ``outputs``: indices into the model's tensors, -1 where an optional one is absent."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    custom: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """The main graph of a model file. ``size``: bytes of the file; ``metadata``: named blobs that travel in it."""

    path: str
    format: Literal["tflite", "onnx"]
    size: int
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    graphs: int = 1
    metadata: Mapping[str, memoryview] = field(default_factory=dict)
    description: str = ""

    def producer(self, tensor: int) -> Op | None:
        """The op that writes a tensor; None for inputs and constants."""
        return next((op for op in self.ops if tensor in op.outputs), None)

    def consumers(self, tensor: int) -> Iterator[Op]:
        """The ops that read a tensor."""
        return (op for op in self.ops if tensor in op.inputs)


def file_bytes(path: str | Path) -> bytes:
    """The content of a model file; :class:`EdgeqError` where it is missing, empty, no file, or beyond 2 GiB."""
    path = Path(path)
    try:
        if not path.is_file():
            raise EdgeqError(f"{path}: " + ("is not a file" if path.exists() else "no such file"))
        if path.stat().st_size >= MAX_FILE:
            raise EdgeqError(f"{path}: is larger than 2 GiB, which no model of this kind can be")
        data = path.read_bytes()
    except OSError as error:
        raise EdgeqError(f"{path}: cannot be read ({error.strerror})") from None
    if not data:
        raise EdgeqError(f"{path}: is empty")
    return data


def format_of(path: str | Path, data: bytes) -> Literal["tflite", "onnx"]:
    """``tflite`` by its file identifier, else ``onnx`` by the file's name; else :class:`EdgeqError`."""
    if data[4:8] == b"TFL3":
        return "tflite"
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return "onnx"
    if suffix == ".tflite":
        raise EdgeqError(f"{path}: is not a TFLite model (it does not carry the file identifier TFL3); is it damaged, or another format?")
    raise EdgeqError(f"{path}: is neither a .tflite nor an .onnx model")


def read(path: str | Path) -> Model:
    """The model in a ``.tflite`` or ``.onnx`` file. Raises :class:`EdgeqError`."""
    data = file_bytes(path)
    if format_of(path, data) == "tflite":
        from edgeq.integer.tflite_file import parse
    else:
        from edgeq.integer.onnx_file import parse
    return parse(data, str(path))


# -- what the output is -------------------------------------------------------------------------------------------------------------

_PASS = {"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST", "EXPAND_DIMS", "TRANSPOSE"} | {
    *("QuantizeLinear", "DequantizeLinear", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Flatten", "Identity", "Transpose")
}
_KINDS: dict[Kind, set[str]] = {
    "probs": {"SOFTMAX", "LOGISTIC", "Softmax", "Sigmoid", "QLinearSoftmax", "QLinearSigmoid"},
    "label": {"ARG_MAX", "ArgMax"},
    "logits": {"FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "BATCH_MATMUL", "ADD", "SUB", "MUL", "MEAN", "SUM", "LOG_SOFTMAX"}
    | {"AVERAGE_POOL_2D", "MAX_POOL_2D", "Gemm", "MatMul", "Conv", "QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger"}
    | {"MatMulInteger", "Add", "Sub", "Mul", "QLinearAdd", "QLinearMul", "ReduceMean", "GlobalAveragePool", "AveragePool"}
    | {"QLinearGlobalAveragePool", "QLinearAveragePool", "LogSoftmax"},
}
_KIND = {op: kind for kind, ops in _KINDS.items() for op in ops}


def output_kind(model: Model) -> Kind | None:
    """``probs``, ``logits`` or ``label``: the op behind the output, seen through casts and reshapes; None where that does not say."""
    tensor = model.outputs[0]
    for _ in range(len(model.ops) + 1):  # a damaged file may hold a cycle
        op = model.producer(tensor)
        if op is None:
            return None
        if op.name in _KIND:
            return _KIND[op.name]
        if op.name not in _PASS or not op.inputs:
            return None
        tensor = op.inputs[0]
    return None


# -- is it an image classifier --------------------------------------------------------------------------------------------------------


def image_layout(shape: tuple[int, ...]) -> tuple[tuple[int, int, int], Literal["nhwc", "nchw"]] | None:
    """``(h, w, c)`` and the layout of an image batch's ``shape``; None where it is no image of 1 or 3 channels.

    ``(n, h, w)`` is a grey image. Channels last wins where both readings are possible.
    """
    sizes = shape[1:]
    if len(sizes) == 2 and min(sizes) > 1:
        return (sizes[0], sizes[1], 1), "nhwc"
    if len(sizes) == 3 and sizes[2] in (1, 3) and min(sizes[:2]) > 1:
        return (sizes[0], sizes[1], sizes[2]), "nhwc"
    if len(sizes) == 3 and sizes[0] in (1, 3) and min(sizes[1:]) > 1:
        return (sizes[1], sizes[2], sizes[0]), "nchw"
    return None


def classifier_problem(model: Model) -> str | None:
    """Why the model is no image classifier that can be attacked here, as a phrase that follows the file's name; None where it is one."""
    if not model.ops:
        return "holds no operators"
    customs = sorted({op.name for op in model.ops if op.custom})
    for name in customs:
        if name == "edgetpu-custom-op":
            return "is compiled for the Edge TPU (edgetpu-custom-op), which no CPU runtime runs; pass the .tflite it was made from"
        if "detection_postprocess" in name.lower():
            return f"is an object detector (custom op {name}), not an image classifier"
    if customs:
        return f"needs the custom op {customs[0]}, which no runtime here provides"
    if len(model.inputs) != 1:
        return f"takes {len(model.inputs)} inputs; an image classifier takes one image"
    if len(model.outputs) != 1:
        return f"returns {len(model.outputs)} outputs (a detector?); an image classifier returns one"
    given, answer = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    return _input_problem(given) or _output_problem(answer, given, output_kind(model))


def _show(shape: tuple[int, ...]) -> str:
    return "x".join("?" if d < 0 else str(d) for d in shape) or "scalar"


def _input_problem(given: Tensor) -> str | None:
    if given.dtype not in ("int8", "uint8", "float32"):
        return f"takes {given.dtype} input; images are int8, uint8 or float32"
    if any(d < 0 for d in given.shape[1:]):
        return f"leaves the size of its input open ({_show(given.shape)}); fix the image size when exporting"
    if image_layout(given.shape) is None:
        return f"takes input of shape {_show(given.shape)}, which is no image of 1 or 3 channels"
    return None


def _output_problem(answer: Tensor, given: Tensor, kind: Kind | None) -> str | None:
    if any(d < 0 for d in answer.shape[1:]):
        return f"returns output of open shape {_show(answer.shape)} (a detector?), not one score a class"
    if answer.shape[1:] == given.shape[1:]:
        return "returns an image of the input's size (an autoencoder?), not one score a class"
    big = [d for d in answer.shape[1:] if d > 1]
    if len(big) > 1:
        what = "a map" if len(answer.shape) == 4 else "several rows"
        guess = "segmentation or pose?" if len(answer.shape) == 4 else "a detector?"
        return f"returns {what} of shape {_show(answer.shape)} ({guess}), not one score a class"
    if answer.dtype in ("int32", "int64"):
        if big or kind != "label":
            return f"returns {answer.dtype} numbers of shape {_show(answer.shape)} that are neither scores nor one label"
        return None
    if answer.dtype not in ("int8", "uint8", "float32"):
        return f"returns {answer.dtype} output; scores are int8, uint8 or float32"
    if not big:
        return "has a single output unit; a classifier has one score a class"
    return None
