"""Writes a graph as an ``.onnx`` file whose layers are integer kernels of ONNX Runtime.

Activations are uint8 and NCHW inside; the input stays NHWC in the graph's own dtype, as in the ``.tflite``. QLinearConv computes bit for
bit as XNNPACK's int8 kernels do; a fused activation becomes a Min on the codes. x86 processors without VNNI add pairs of uint8 times
int8 in 16 bits and saturate (onnxruntime issue 14642), so the file may not leave it to the processor: each activation is stored from its
lowest code on, one of b bits as 0 .. 2^b - 1, and where a pair could still overflow weights are uint8, for which kernels add in 32 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.ops import Call, clamp_range, padding
from edgeq.integer.ops.floats import BOUNDS

OPSET = 17
_NCHW, _NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_MICROSOFT = {"QLinearAdd", "QLinearMul", "QLinearConcat"}
_PASSES = {"reshape", "max_pool", "average_pool", "pad", "strided_slice"}  # output codes are input codes, or between them


def write_onnx(graph: Graph) -> bytes:
    """The file's content, with a free batch axis. Equal graphs give equal bytes.

    Raises :class:`EdgeqError` for ops and types that have no such form, and where the ``onnx`` extra is missing.
    """
    try:
        return _Writer(graph).write()
    except ModuleNotFoundError:
        raise EdgeqError('writing .onnx files needs the onnx package; pip install "edgeq[onnx]"') from None


class _Writer:
    def __init__(self, graph: Graph) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self.helper, self.from_array = helper, numpy_helper.from_array
        self.types = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.names: dict[int, str] = {}  # tensor -> the value that holds it, once it is written
        self.low = {graph.input: _first(graph.tensors[graph.input])}  # activation -> the code that is stored as 0
        self.high = {graph.input: 255}  # activation -> its largest stored code

    def write(self) -> bytes:
        g, helper = self.graph, self.helper
        x, y = g.tensors[g.input], g.tensors[g.output]
        for t in (x, y):
            if t.dtype not in self.types:
                raise EdgeqError(f"{t.name}: {t.dtype} codes have no integer kernels in ONNX Runtime; use int8, uint8 or float32")
        self._enter(x)
        for op in g.ops:
            if op.kind not in _OPS:
                raise EdgeqError(f"{g.tensors[op.output].name}: {op.kind} has no integer form in ONNX; write a .tflite instead")
            out = g.tensors[op.output]
            if out.quantised:
                passes = op.kind in _PASSES and op.inputs[0] in self.low
                low, high = clamp_range(Call(op, (), out, "litert-xnnpack"))
                self.low[op.output] = self.low[op.inputs[0]] if passes else low
                self.high[op.output] = min(high - self.low[op.output], self.high[op.inputs[0]] if passes else 255)
            self.names[op.output] = self._activate(op, _OPS[op.kind](self, op))
        self._leave(y)
        image = helper.make_tensor_value_info("image", self.types[x.dtype], ["n", *x.shape])
        answer = helper.make_tensor_value_info("answer", self.types[y.dtype], ["n", *y.shape])
        proto = helper.make_graph(self.nodes, "edgeq", [image], [answer], list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(proto, opset_imports=opsets, ir_version=8, producer_name="edgeq")
        return bytes(model.SerializeToString(deterministic=True))

    def constant(self, value: Any, dtype: str) -> str:
        """The name of a constant; equal numbers are stored once."""
        array = np.array(value, dtype)
        name = f"{dtype} {array}" if array.ndim == 0 else f"c{len(self.constants)}"
        self.constants.setdefault(name, self.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"v{len(self.nodes)}"
        domain = "com.microsoft" if kind in _MICROSOFT else ""
        self.nodes.append(self.helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def tensor(self, i: int) -> Tensor:
        return self.graph.tensors[i]

    def value(self, i: int) -> str:
        """The name of an activation's value."""
        if i not in self.names:
            raise EdgeqError(f"{self.tensor(i).name}: a constant in this place has no integer form in ONNX; write a .tflite instead")
        return self.names[i]

    def step(self, i: int) -> list[str]:
        """Scale and zero point of an activation as it is stored."""
        t = self.tensor(i)
        return [self.constant(t.scale[0], "float32"), self.constant(int(t.zero[0]) - self.low[i], "uint8")]

    def recode(self, name: str, before: tuple[str, int], after: tuple[str, int], scale: Any, output: str | None = None) -> str:
        """Codes of another type: ``before`` and ``after`` are one code as it is and as it shall be. There and back with one ``scale`` is
        exact, and the scale tells readers the real value of a code."""
        step = self.constant(scale, "float32")
        real = self.node("DequantizeLinear", name, step, self.constant(before[1], before[0]))
        return self.node("QuantizeLinear", real, step, self.constant(after[1], after[0]), output=output)

    def _enter(self, x: Tensor) -> None:
        name = self.recode("image", ("int8", int(x.zero[0])), ("uint8", int(x.zero[0]) + 128), x.scale[0]) if x.dtype == "int8" else "image"
        self.names[self.graph.input] = self.node("Transpose", name, perm=_NCHW) if len(x.shape) == 3 else name

    def _leave(self, y: Tensor) -> None:
        name = self.names[self.graph.output]
        if len(y.shape) == 3:
            name = self.node("Transpose", name, perm=_NHWC)
        if y.quantised:
            zero, low = int(y.zero[0]), self.low[self.graph.output]
            self.recode(name, ("uint8", zero - low), (y.dtype, zero), y.scale[0], "answer")
        else:
            self.node("Identity", name, output="answer")

    def _activate(self, op: Op, name: str) -> str:
        """The fused activation. Saturation at 0 and 255 does what it can; the rest is done on stored codes."""
        y, activation = self.tensor(op.output), op.options.get("activation", "none")
        if not y.quantised:
            if activation == "none":
                return name
            return self.node("Clip", name, *(self.constant(bound, "float32") for bound in BOUNDS[activation]))
        (low, high), start = clamp_range(Call(op, (), y, "litert-xnnpack")), self.low[op.output]
        if low > start:
            name = self.node("Max", name, self.constant(low - start, "uint8"))
        return self.node("Min", name, self.constant(high - start, "uint8")) if high < start + 255 else name


def _first(tensor: Tensor) -> int:
    return int(np.iinfo(tensor.dtype).min) if tensor.quantised else 0


def _window(op: Op, size: Sequence[int], kernel: Sequence[int]) -> dict[str, Any]:
    """Attributes of a sliding window, padded as TensorFlow does."""
    stride, dilation = op.options["stride"], op.options.get("dilation", (1, 1))
    (top, bottom), (left, right) = padding((size[0], size[1]), (kernel[0], kernel[1]), stride, dilation, op.options["padding"] == "same")
    attributes = {"strides": stride, "pads": [top, left, bottom, right]}
    return attributes | ({"dilations": dilation} if tuple(dilation) != (1, 1) else {})


def _linear(w: _Writer, op: Op) -> str:
    """conv, depthwise, and dense as a 1x1 convolution: QLinearMatMul has no bias."""
    x, weights, y = (w.tensor(i) for i in (op.inputs[0], op.inputs[1], op.output))
    if not y.quantised:
        return _float_linear(w, op)
    if weights.data is None or weights.dtype not in ("int8", "int4", "uint8") or np.ptp(weights.zero) or x.dtype == "int16":
        raise EdgeqError(f"{y.name}: ONNX Runtime's integer kernels want constant weights, one zero point for all, and 8-bit activations")
    name, attributes = w.value(op.inputs[0]), {}
    if op.kind == "dense":
        data = weights.data[:, :, None, None]
        name = w.node("Reshape", name, w.constant([-1, data.shape[1], 1, 1], "int64"))
    else:
        data = weights.data.transpose((3, 0, 1, 2) if op.kind == "depthwise" else _NCHW)
        attributes = {"group": x.shape[2] // data.shape[1], **_window(op, x.shape, data.shape[2:])}
    out = len(data)
    fits = 2 * w.high[op.inputs[0]] * int(np.abs(data.astype(int)).max(initial=0)) < 2**15
    dtype, shift = ("uint8", 0) if weights.dtype == "uint8" else ("int8", 0) if fits else ("uint8", 128)
    scales = w.constant(np.broadcast_to(weights.scale, out), "float32")
    kernel = [w.constant(data.astype(int) + shift, dtype), scales, w.constant(np.full(out, weights.zero[0] + shift), dtype)]
    inputs = [name, *w.step(op.inputs[0]), *kernel, *w.step(op.output)]
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        inputs.append(w.constant(w.tensor(op.inputs[2]).data, "int32"))
    name = w.node("QLinearConv", *inputs, **attributes)
    return w.node("Reshape", name, w.constant([-1, out], "int64")) if op.kind == "dense" else name


def _float_linear(w: _Writer, op: Op) -> str:
    """A float layer, where only the weights are quantised (a dequantize in front) or nothing is."""
    x, weights = w.tensor(op.inputs[0]), w.tensor(op.inputs[1])
    names = [_operand(w, i, whole=True) for i in op.inputs if i >= 0]
    if op.kind == "dense":
        return w.node("Gemm", *names, transB=1)
    names[1] = w.node("Transpose", names[1], perm=(3, 0, 1, 2) if op.kind == "depthwise" else _NCHW)
    group = x.shape[2] if op.kind == "depthwise" else x.shape[2] // weights.shape[3]
    return w.node("Conv", *names, group=group, **_window(op, x.shape, weights.shape[1:3]))


def _operand(w: _Writer, i: int, whole: bool = False, rank: int = 0) -> str:
    """A float tensor's value. A constant that is broadcast (not ``whole``) over images gets its channels in front."""
    t = w.tensor(i)
    if t.data is None:
        return w.value(i)
    if t.dtype != "float32":
        raise EdgeqError(f"{t.name}: {t.dtype} constants in arithmetic have no integer form in ONNX; write a .tflite instead")
    if whole or rank < 3 or t.data.size == 1:
        return w.constant(t.data, "float32")
    data = t.data.reshape((1,) * (4 - t.data.ndim) + t.data.shape)
    return w.constant(data.transpose(_NCHW), "float32")


def _arithmetic(w: _Writer, op: Op) -> str:
    names, kind = [], {"add": "Add", "sub": "Sub", "mul": "Mul"}[op.kind]
    quantised = w.tensor(op.output).quantised
    for i in op.inputs:
        names.append(_operand(w, i, rank=len(w.tensor(op.output).shape)))
        if quantised:
            names += w.step(i)
    if not quantised:
        return w.node(kind, *names)
    if kind == "Sub":
        raise EdgeqError(f"{w.tensor(op.output).name}: sub has no integer form in ONNX; write a .tflite instead")
    return w.node("QLinear" + kind, *names, *w.step(op.output))


def _average_pool(w: _Writer, op: Op) -> str:
    """TFLite's mean of codes: halves away from code 0 (in ``sum / count`` of int32), the padding not counted."""
    x, y = w.tensor(op.inputs[0]), w.tensor(op.output)
    kernel, attributes = op.options["window"], _window(op, x.shape, op.options["window"])
    name = w.value(op.inputs[0])
    if not x.quantised:
        return w.node("AveragePool", name, kernel_shape=kernel, **attributes)
    start, ones = w.low[op.inputs[0]], w.constant(np.ones((x.shape[2], 1, *kernel)), "uint8")
    total = w.node("ConvInteger", name, ones, w.constant(max(-start, 0), "uint8"), group=x.shape[2], **attributes)
    count = _counts(x.shape, y.shape, kernel, attributes)
    half = count // 2
    if start < 0:
        nought = w.constant(0, "int32")
        away = w.node("Where", w.node("Less", total, nought), w.constant(half, "int32"), w.constant(-half, "int32"))
    else:
        away = w.constant(-half, "int32")
    mean = w.node("Div", w.node("Sub", total, away), w.constant(count, "int32"))  # int32 division truncates
    return w.node("Cast", w.node("Sub", mean, w.constant(min(start, 0), "int32")), to=w.types["uint8"])


def _counts(size: Sequence[int], out: Sequence[int], kernel: Sequence[int], attributes: dict[str, Any]) -> np.ndarray:
    """``(h, w)``: how many pixels of each window lie inside the image."""
    inside = []
    for n, m, k, s, before in zip(size, out, kernel, attributes["strides"], attributes["pads"], strict=False):
        first = np.arange(m) * s - before
        inside.append(np.minimum(first + k, n) - np.maximum(first, 0))
    return np.outer(*inside)


def _max_pool(w: _Writer, op: Op) -> str:
    window = op.options["window"]
    return w.node("MaxPool", w.value(op.inputs[0]), kernel_shape=window, **_window(op, w.tensor(op.inputs[0]).shape, window))


def _mean(w: _Writer, op: Op) -> str:
    """Over all pixels: a depthwise convolution by 1 with scale 1/n, which rounds once as XNNPACK does."""
    x, y, axes = w.tensor(op.inputs[0]), w.tensor(op.output), tuple(sorted(op.options["axes"]))
    if len(x.shape) != 3 or axes != (1, 2):
        raise EdgeqError(f"{y.name}: only a mean over all pixels has an integer form in ONNX; write a .tflite instead")
    name, (h, width, c) = w.value(op.inputs[0]), x.shape
    if not y.quantised:
        return w.node("ReduceMean", name, axes=(2, 3), keepdims=len(y.shape) == 3)
    ones, scales = w.constant(np.ones((c, 1, h, width)), "int8"), w.constant(np.full(c, 1 / (h * width)), "float32")
    name = w.node("QLinearConv", name, *w.step(op.inputs[0]), ones, scales, w.constant(np.zeros(c), "int8"), *w.step(op.output), group=c)
    return name if len(y.shape) == 3 else w.node("Reshape", name, w.constant([-1, c], "int64"))


def _reshape(w: _Writer, op: Op) -> str:
    before, after, name = w.tensor(op.inputs[0]).shape, w.tensor(op.output).shape, w.value(op.inputs[0])
    if len(before) == 3 and before[0] * before[1] > 1 and before[2] > 1:  # else both layouts hold the codes in one order
        name = w.node("Transpose", name, perm=_NHWC)
    name = w.node("Reshape", name, w.constant([-1, *after], "int64"))
    return w.node("Transpose", name, perm=_NCHW) if len(after) == 3 else name


def _pad(w: _Writer, op: Op) -> str:
    x = w.tensor(op.inputs[0])
    move = (2, 0, 1) if len(x.shape) == 3 else range(len(x.shape))
    pads = [0, *(op.options["before"][i] for i in move), 0, *(op.options["after"][i] for i in move)]
    fill = w.step(op.inputs[0])[1] if x.quantised else w.constant(0, "float32")
    name = w.node("Pad", w.value(op.inputs[0]), w.constant(pads, "int64"), fill)
    # a Max with 0 keeps ONNX Runtime from moving these pads into a MaxPool behind, which refuses them if they outgrow its window
    pooled = x.quantised and any(o.kind == "max_pool" and o.inputs[0] == op.output for o in w.graph.ops)
    return w.node("Max", name, w.constant(0, "uint8")) if pooled else name


def _concatenation(w: _Writer, op: Op) -> str:
    y = w.tensor(op.output)
    axis = {0: 2, 1: 3, 2: 1}[op.options["axis"]] if len(y.shape) == 3 else op.options["axis"] + 1
    if not y.quantised:
        return w.node("Concat", *(w.value(i) for i in op.inputs), axis=axis)
    return w.node("QLinearConcat", *w.step(op.output), *(n for i in op.inputs for n in (w.value(i), *w.step(i))), axis=axis)


def _softmax(w: _Writer, op: Op) -> str:
    x, y, name = w.tensor(op.inputs[0]), w.tensor(op.output), w.value(op.inputs[0])
    beta = float(op.options.get("beta", 1.0))
    if x.quantised:
        name = w.node("DequantizeLinear", name, w.constant(x.scale[0] * np.float32(beta), "float32"), w.step(op.inputs[0])[1])
    elif beta != 1:
        name = w.node("Mul", name, w.constant(beta, "float32"))
    name = w.node("Softmax", name, axis=1 if len(x.shape) == 3 else -1)
    return w.node("QuantizeLinear", name, *w.step(op.output)) if y.quantised else name


def _relu(w: _Writer, op: Op) -> str:
    """Between floats alone: int8 networks have it fused into the layer before."""
    y = w.tensor(op.output)
    if y.quantised:
        raise EdgeqError(f"{y.name}: {op.kind} by itself has no integer form in ONNX; write a .tflite instead")
    return w.node("Clip", w.value(op.inputs[0]), *(w.constant(bound, "float32") for bound in BOUNDS[op.kind]))


def _dequantize(w: _Writer, op: Op) -> str:
    x = w.tensor(op.inputs[0])
    if x.data is None:
        return w.node("DequantizeLinear", w.value(op.inputs[0]), *w.step(op.inputs[0]))
    many = len(x.scale) > 1
    scale, zero = (w.constant(v if many else v[0], d) for v, d in ((x.scale, "float32"), (x.zero, "int8")))
    return w.node("DequantizeLinear", w.constant(x.data, "int8"), scale, zero, axis=x.axis if many else 0)


def _quantize(w: _Writer, op: Op) -> str:
    real = _dequantize(w, op) if w.tensor(op.inputs[0]).quantised else w.value(op.inputs[0])
    return w.node("QuantizeLinear", real, *w.step(op.output))


_OPS: dict[str, Callable[[_Writer, Op], str]] = {
    "conv": _linear,
    "depthwise": _linear,
    "dense": _linear,
    "add": _arithmetic,
    "sub": _arithmetic,
    "mul": _arithmetic,
    "average_pool": _average_pool,
    "max_pool": _max_pool,
    "mean": _mean,
    "reshape": _reshape,
    "pad": _pad,
    "concatenation": _concatenation,
    "softmax": _softmax,
    "dequantize": _dequantize,
    "quantize": _quantize,
    **dict.fromkeys(("relu", "relu6", "relu_n1_to_1"), _relu),
}
