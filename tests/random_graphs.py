"""Small integer graphs for tests, built by hand with :class:`Builder` or at random, and what the interpreters make of them.

``random_graph(seed)`` is an ordinary int8 network with per-channel scales. ``random_graph(seed, portable=True)`` keeps to the construction
on which every runtime's rounding agrees: weights on a 4-grid, power-of-two multipliers, biases that are 1 or 2 mod 4, sums and pools
with equal scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer.graph import Graph, Op, Tensor

LITERT = {"litert-xnnpack": "AUTO", "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "litert-reference": "BUILTIN_REF"}
TFLITE = (*LITERT, "tflm")


class Builder:
    """A graph being built, op by op. Methods take and return indices of tensors; the last tensor added is the output unless said."""

    def __init__(self, seed: int = 0, portable: bool = False) -> None:
        self.rng, self.portable = np.random.default_rng(seed), portable
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []

    def tensor(self, shape: Sequence[int], scale: Any = None, zero: int = 0, dtype: str = "int8", data: Any = None, axis: int = 0) -> int:
        scales = np.empty(0, np.float32) if scale is None else np.atleast_1d(np.array(scale, np.float32))
        if data is not None:
            data = np.array(data, "int8" if dtype == "int4" else dtype).reshape(shape)
        zeros = np.full(scales.size, zero, np.int64)
        self.tensors.append(Tensor(f"t{len(self.tensors)}", tuple(shape), dtype, scales, zeros, axis, data))
        return len(self.tensors) - 1

    def op(self, kind: str, inputs: Sequence[int], output: int, **options: Any) -> int:
        self.ops.append(Op(kind, tuple(inputs), output, MappingProxyType(options)))
        return output

    def like(self, x: int, shape: Sequence[int]) -> int:
        """A new activation of another shape, quantised like ``x``."""
        t = self.tensors[x]
        return self.tensor(shape, t.scale if t.quantised else None, int(t.zero[0]) if t.quantised else 0, t.dtype)

    def image(self, shape: Sequence[int] = (6, 6, 3), scale: float = 2**-8, zero: int = -128, dtype: str = "int8") -> int:
        return self.tensor(shape, scale, zero, dtype)

    def linear(
        self,
        x: int,
        kind: str = "conv",
        channels: int = 4,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
        padding: str = "same",
        activation: str = "relu",
        bits: int = 8,
        out: tuple[float, int] | None = None,
        weights: np.ndarray | None = None,
        multipliers: np.ndarray | None = None,
        bias: np.ndarray | None = None,
    ) -> int:
        """A conv, depthwise or dense layer; what is not given is random. ``channels`` of a depthwise layer is its multiplier.

        ``multipliers``: ``s_in * s_w / s_out`` per channel; ``out``: scale and zero point of the output.
        """
        given, rng = self.tensors[x], self.rng
        if kind == "dense":
            shape: tuple[int, ...] = (channels, given.shape[0])
        elif kind == "conv":
            shape = (channels, kernel, kernel, given.shape[2])
        else:
            channels = channels * given.shape[2]
            shape = (1, kernel, kernel, channels)
        axis = 3 if kind == "depthwise" else 0
        top = 2 ** (bits - 1) - 1
        if weights is None:
            weights = 4 * rng.integers(-(top // 4), top // 4 + 1, shape) if self.portable else rng.integers(-top, top + 1, shape)
        fan_in = max(1, weights.size // channels)
        rms = 45.0 if any(op.output == x for op in self.ops) else np.hypot(74, float(given.zero[0]))  # of code - zero; an image is noise
        spread = top / np.sqrt(3) * np.sqrt(fan_in) * rms  # of the accumulator
        if multipliers is None:
            multipliers = 50 / spread * rng.uniform(0.5, 2, channels)
            if self.portable:
                multipliers = 2.0 ** np.rint(np.log2(multipliers))
        if bias is None:
            bias = np.rint(spread * rng.uniform(-0.4, 0.6, channels)).astype(np.int64)
            if self.portable:
                bias = bias // 4 * 4 + rng.integers(1, 3, channels)
        if out is None:
            scale = 2.0 ** rng.integers(-6, -2) * (1 if self.portable else rng.uniform(1, 2))
            out = scale, (-128 if activation in ("relu", "relu6") and rng.random() < 0.7 else int(rng.integers(-100, 100)))
        scales = (np.asarray(multipliers) * out[0] / float(given.scale[0])).astype(np.float32)
        w = self.tensor(shape, scales, 0, "int4" if bits <= 4 else "int8", weights, axis)
        b = self.tensor((channels,), scales * given.scale[0], 0, "int32", bias)
        if kind == "dense":
            return self.op(kind, (x, w, b), self.tensor((channels,), *out), activation=activation)
        reach = (kernel - 1) * dilation + 1
        size = [-(-(d if padding == "same" else d - reach + 1) // stride) for d in given.shape[:2]]
        options = {"stride": (stride, stride), "dilation": (dilation, dilation), "padding": padding, "activation": activation}
        if kind == "depthwise":
            options["multiplier"] = channels // given.shape[2]
        return self.op(kind, (x, w, b), self.tensor((*size, channels), *out), **options)

    def pool(
        self, x: int, kind: str = "max_pool", window: int = 2, stride: int = 2, padding: str = "valid", activation: str = "none"
    ) -> int:
        h, w, c = self.tensors[x].shape
        size = [-(-(d if padding == "same" else d - window + 1) // stride) for d in (h, w)]
        options = {"window": (window, window), "stride": (stride, stride), "padding": padding, "activation": activation}
        return self.op(kind, (x,), self.like(x, (*size, c)), **options)

    def flat(self, x: int) -> int:
        n = int(np.prod(self.tensors[x].shape))
        return self.op("reshape", (x,), self.like(x, (n,)), shape=(n,))

    def pad(self, x: int, before: Sequence[int] = (1, 1, 0), after: Sequence[int] = (1, 1, 0)) -> int:
        shape = [d + a + b for d, a, b in zip(self.tensors[x].shape, before, after, strict=True)]
        return self.op("pad", (x,), self.like(x, shape), before=tuple(before), after=tuple(after))

    def add(self, a: int, b: int, out: tuple[float, int] | None = None, activation: str = "none") -> int:
        t = self.tensors[a]
        return self.op("add", (a, b), self.tensor(t.shape, *(out or (float(t.scale[0]), int(t.zero[0])))), activation=activation)

    def softmax(self, x: int, beta: float = 1.0) -> int:
        return self.op("softmax", (x,), self.tensor(self.tensors[x].shape, 1 / 256, -128), beta=beta)

    def done(self, x: int = 0, output: int | None = None) -> Graph:
        return Graph(tuple(self.tensors), tuple(self.ops), x, len(self.tensors) - 1 if output is None else output)


def random_graph(seed: int, portable: bool = False, softmax: bool = False, bits: int = 8, classes: int = 5) -> Graph:
    """Two to five random blocks over a 6x6 to 9x9 image of 1 or 3 channels, then a dense layer, and softmax or not."""
    b = Builder(seed, portable)
    rng = b.rng
    last = x = b.image((*rng.integers(6, 10, 2).tolist(), int(rng.choice([1, 3]))), 2**-8 if portable else float(rng.uniform(1e-3, 1e-2)))
    blocks = rng.choice(["conv", "depthwise", "residual", "max_pool", "average_pool", "pad"], int(rng.integers(2, 6)))
    for block in ("conv", *map(str, blocks)):
        small = min(b.tensors[last].shape[:2])
        some = {"activation": str(rng.choice(["none", "relu", "relu6"])), "bits": bits}
        if block == "conv":
            padding, dilation = ("same", int(rng.integers(1, 3))) if small < 5 else (str(rng.choice(["same", "valid"])), 1)
            stride = int(rng.integers(1, 3)) if dilation == 1 else 1
            last = b.linear(last, "conv", int(rng.integers(1, 7)), int(rng.choice([1, 3])), stride, dilation, padding, **some)
        elif block == "depthwise":
            stride = int(rng.integers(1, 3)) if small > 2 else 1
            last = b.linear(last, "depthwise", int(rng.integers(1, 3)) if b.tensors[last].shape[2] < 8 else 1, 3, stride, **some)
        elif block == "residual":
            t = b.tensors[last]
            scale = float(t.scale[0]) * (1 if portable else float(rng.uniform(0.5, 2)))
            zero = int(rng.integers(-20, 20))
            side = b.linear(last, "conv", t.shape[2], 3, bits=bits, activation="none", out=(scale, zero))
            out = (float(t.scale[0]), int(t.zero[0])) if portable else (float(t.scale[0]) * float(rng.uniform(1, 2)), int(t.zero[0]))
            last = b.add(last, side, out, str(rng.choice(["none", "relu"])))
        elif block == "pad":
            last = b.pad(last, *rng.integers(0, 2, (2, 3)).tolist()) if portable else b.pad(last)
        elif small >= 2:
            last = b.pool(last, block, 2, int(rng.integers(1, 3)), str(rng.choice(["same", "valid"])))
    last = b.linear(b.flat(last), "dense", classes, activation="none", bits=8, out=(0.125 if portable else 0.1, 0))
    if softmax:
        last = b.softmax(last)
    return b.done(x, last)


def random_codes(graph: Graph, n: int, seed: int = 0) -> np.ndarray:
    """``(n, *input shape)`` in the input's dtype: noise all over the codes, with flat and black images among it."""
    given = graph.tensors[graph.input]
    rng = np.random.default_rng(seed)
    if given.dtype == "float32":
        return rng.uniform(-1, 1, (n, *given.shape)).astype(np.float32)
    bounds = np.iinfo(given.dtype)
    codes = rng.integers(bounds.min, bounds.max + 1, (n, *given.shape)).astype(given.dtype)
    codes[::8] = rng.integers(bounds.min, bounds.max + 1, (len(codes[::8]), *[1] * len(given.shape)))
    codes[:1] = bounds.min
    return codes


def interpret(name: str, content: bytes, codes: np.ndarray) -> np.ndarray:
    """``(n, *output shape)``: the raw outputs of a ``.tflite`` or (``ort``) ``.onnx`` file in the interpreter ``name``, in this process."""
    if name == "ort":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(None, {session.get_inputs()[0].name: codes})[0]
    if name == "tflm":
        from tflite_micro.python.tflite_micro import runtime

        micro = runtime.Interpreter.from_bytes(content, arena_size=2**22)
        rows = []
        for image in codes:
            micro.set_input(image[None], 0)
            micro.invoke()
            rows.append(micro.get_output(0).copy())
        return np.concatenate(rows)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=OpResolverType[LITERT[name]])
    given = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(given["index"], [len(codes), *given["shape"][1:]])
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], codes)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
