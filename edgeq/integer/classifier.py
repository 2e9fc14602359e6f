"""What can be said of a model without running it: whether it is an image classifier, and what its output is."""

from __future__ import annotations

from typing import Literal

from edgeq.core.answer import Kind
from edgeq.integer.model import Model, Tensor

MAX_PIXELS = 2**24  # numbers of one image at the input: 2,300 x 2,300 in colour
MAX_CLASSES = 2**16  # three times those of ImageNet-21k
PASS = {"QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST", "EXPAND_DIMS", "TRANSPOSE"} | {
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
_CHIPS = {"edgetpu-custom-op": "Edge TPU", "ethos-u": "Arm Ethos-U"}
_KIND = {op: kind for kind, ops in _KINDS.items() for op in ops}
SIGMOIDS = {"LOGISTIC", "Sigmoid", "QLinearSigmoid"}


def output_kind(model: Model) -> Kind | None:
    """``probs``, ``logits`` or ``label``: the op behind the output, seen through casts and reshapes; None where that does not say."""
    return _KIND.get(_last(model))


def _last(model: Model) -> str:
    """The op that makes the scores; "" where that is not plain."""
    tensor = model.outputs[0]
    for _ in range(len(model.ops) + 1):  # a damaged file may hold a cycle
        op = model.producer(tensor)
        if op is None:
            return ""
        if op.name in _KIND:
            return op.name
        if op.name not in PASS or not op.inputs:
            return ""
        tensor = op.inputs[0]
    return ""


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


def classifier_problem(model: Model, output: str | None = None) -> str | None:
    """Why the model is no image classifier that can be attacked here, as a phrase that follows the file's name; None where it is one.

    ``output``: what its output is, where that was stated.
    """
    if not model.ops:
        return "contains no operators"
    customs = sorted({op.name for op in model.ops if op.custom})
    for name in customs:
        if name in _CHIPS:
            return f"is compiled for the {_CHIPS[name]} ({name}), which no CPU runtime runs; pass the .tflite it was made from"
        if "detection_postprocess" in name.lower():
            return f"is an object detector (custom op {name}), not an image classifier"
    if customs:
        other = _border_problem(model, output) or "networks of built-in ops alone can be attacked; convert it without custom ops"
        return f"contains the custom op {customs[0]}, and {other}"
    if model.restless:
        names = ", ".join(model.restless)
        where = "chance or on earlier images, which nothing here resets"
        return f"contains {names}: its answer to an image depends on {where}; export it without"
    return _border_problem(model, output)


def _border_problem(model: Model, output: str | None) -> str | None:
    if len(model.inputs) != 1:
        return f"takes {len(model.inputs)} inputs; an image classifier takes one image"
    if len(model.outputs) != 1:
        return f"returns {len(model.outputs)} outputs (a detector or pose network?); an image classifier returns one"
    given, answer = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    last = _last(model)
    return _input_problem(given) or _output_problem(answer, given, _KIND.get(last)) or (None if output else _single_problem(answer, last))


def _show(shape: tuple[int, ...]) -> str:
    return "x".join("?" if d < 0 else str(d) for d in shape) or "scalar"


def _input_problem(given: Tensor) -> str | None:
    if given.dtype not in ("int8", "uint8", "int16", "float32"):
        return f"takes {given.dtype} input; images are int8, uint8, int16 or float32"
    if any(d < 0 for d in given.shape[1:]):
        return f"leaves the size of its input open ({_show(given.shape)}); fix the image size when exporting"
    if given.elements > MAX_PIXELS:
        return f"takes input of shape {_show(given.shape)}; images of up to {MAX_PIXELS:,} numbers can be attacked"
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
        every = answer.shape[1:] == given.shape[1:3] and len(given.shape) == 4  # a number a pixel
        what, guess = ("a map", "segmentation or pose?") if every or len(answer.shape) == 4 else ("several rows", "a detector?")
        return f"returns {what} of shape {_show(answer.shape)} ({guess}), not one score a class"
    if answer.dtype in ("int32", "int64"):
        if big or kind != "label":
            return f"returns {answer.dtype} numbers of shape {_show(answer.shape)} that are neither scores nor one label"
        return None
    if answer.dtype not in ("int8", "uint8", "int16", "float32"):
        return f"returns {answer.dtype} output; scores are int8, uint8, int16 or float32"
    if big and big[0] > MAX_CLASSES:
        return f"has {big[0]:,} output units; up to {MAX_CLASSES:,} classes are supported"
    return None


def _single_problem(answer: Tensor, last: str) -> str | None:
    """Of a file with one score: that of two classes comes out of a sigmoid. ``last``: the op that makes it."""
    if answer.dtype in ("int32", "int64") or any(d > 1 for d in answer.shape[1:]) or last in SIGMOIDS:
        return None
    if _KIND.get(last) == "probs":
        return "ends in a softmax of a single unit, which is 1 for every image; train it with a sigmoid, or with a unit a class"
    return (
        "returns a single number and no sigmoid makes it: a score of two classes, or a measurement; pass --output logits if above 0 means "
        "class 1, --output probs if above .5 does"
    )
