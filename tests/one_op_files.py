"""Random one-op ``.tflite`` files, to hold the simulator against the interpreters; and those interpreters.

``make(kind, rng, dtype)`` gives the bytes of a file whose shapes, scales, zero points, padding, strides and fused activation are drawn.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from tiny_tflite import B, Graph

KERNELS = {"litert-xnnpack": "AUTO", "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "litert-reference": "BUILTIN_REF"}


class Draw:
    """A graph with one image going in, and what is drawn for it."""

    def __init__(self, rng: np.random.Generator, dtype: str, rank: int = 3) -> None:
        self.rng, self.dtype, self.g = rng, dtype, Graph()
        self.ties = self.flip()  # all scales powers of two, so that results fall between two codes
        self.lo = -128 if dtype == "int8" else 0
        h, w, c = (int(v) for v in (rng.integers(4, 9), rng.integers(4, 9), rng.integers(1, 20)))
        self.shape = (h, w, c) if rank == 3 else (c,)
        self.scale, self.zero = self.quantisation()
        self.x = self.tensor("x", self.shape, self.scale, self.zero)

    def quantisation(self) -> tuple[float, int]:
        exponent = float(self.rng.integers(-7, -3)) if self.ties else self.rng.uniform(-7, -3)
        return float(np.float32(2.0**exponent)), int(self.rng.integers(self.lo, self.lo + 256))

    def tensor(self, name: str, shape: Any, scale: float, zero: int, data: Any = None) -> int:
        return self.g.tensor(name, (1, *shape), self.dtype, scale, zero, data)

    def done(self, out: int) -> bytes:
        return self.g.done([self.x], [out])

    def activation(self) -> int:
        return int(self.rng.choice([0, 1, 3, 2]))

    def flip(self) -> bool:
        return bool(self.rng.integers(2))


def _linear(d: Draw, kind: str) -> bytes:
    kind, int4 = kind.removesuffix("4"), kind.endswith("4")
    rng, c = d.rng, d.shape[-1]
    kh, kw, sh, sw = (int(v) for v in rng.integers(1, 4, 4))
    dh, dw = (1, 1) if d.flip() else (int(v) for v in rng.integers(1, 3, 2))
    if (dh, dw) != (1, 1):
        sh = sw = 1
    multiplier = int(rng.integers(1, 4)) if kind == "depthwise" and d.flip() else 1
    out = {"conv": int(rng.integers(1, 20)), "depthwise": c * multiplier, "dense": int(rng.integers(1, 20))}[kind]
    fan = {"conv": kh * kw * c, "depthwise": kh * kw, "dense": c}[kind]
    shape = {"conv": (out, kh, kw, c), "depthwise": (1, kh, kw, out), "dense": (out, c)}[kind]
    per_channel = d.dtype == "int8" and d.flip()
    out_scale, out_zero = d.quantisation()
    target = out_scale * 128 / (d.scale * 128 * 64 * np.sqrt(fan))
    scales = (target * 2.0 ** rng.uniform(-1, 1, out if per_channel else 1)).astype(np.float32)
    w_zero = 0 if d.dtype == "int8" else int(rng.integers(1, 256))
    low = -127 if d.dtype == "int8" else 0
    data = rng.integers(low, low + 255, shape)
    if d.dtype == "int8" and (int4 or d.ties or d.flip()):
        data = data // 16
        scales = (2.0 ** np.round(np.log2(scales * 8 / out_scale * d.scale))).astype(np.float32) * np.float32(out_scale / d.scale)
    if int4:
        data = np.clip(data, -7, 7)
        flat = np.append(data.reshape(-1), np.zeros(data.size % 2, np.int64))
        packed = (flat[0::2] & 15) | ((flat[1::2] & 15) << 4)
        weights = d.g.tensor("w", shape, "uint8", scales, w_zero, packed)
        d.g.graph.tensors[-1].type = schema.TensorType.INT4
    else:
        weights = d.g.tensor("w", shape, d.dtype, scales, w_zero, data)
    if per_channel and kind == "depthwise":
        d.g.graph.tensors[-1].quantization.quantizedDimension = 3
    bias = d.g.tensor("b", (out,), "int32", scales * np.float32(d.scale), 0, rng.integers(-3000, 3000, out))
    if kind == "dense":
        y = d.tensor("y", (out,), out_scale, out_zero)
        options: Any = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = d.activation()
        d.g.op(B.FULLY_CONNECTED, [d.x, weights, bias], [y], options)
        return d.done(y)
    options = schema.Conv2DOptionsT() if kind == "conv" else schema.DepthwiseConv2DOptionsT()
    y = d.tensor("y", (*_window(d, options, (kh, kw), (sh, sw), (dh, dw)), out), out_scale, out_zero)
    options.dilationHFactor, options.dilationWFactor = dh, dw
    if kind == "depthwise":
        options.depthMultiplier = multiplier
    d.g.op(B.CONV_2D if kind == "conv" else B.DEPTHWISE_CONV_2D, [d.x, weights, bias], [y], options)
    return d.done(y)


def _window(d: Draw, options: Any, kernel: Any, stride: Any, dilation: Any = (1, 1)) -> tuple[int, ...]:
    """Fills in padding, strides and activation; gives the output's size."""
    reach = [(k - 1) * e + 1 for k, e in zip(kernel, dilation, strict=True)]
    same = d.flip() or any(r > s for r, s in zip(reach, d.shape[:2], strict=True))
    options.padding, (options.strideH, options.strideW) = int(not same), stride
    options.fusedActivationFunction = d.activation()
    return tuple(-(-s // t) if same else (s - r) // t + 1 for s, t, r in zip(d.shape[:2], stride, reach, strict=True))


def _pool(d: Draw, kind: str) -> bytes:
    options = schema.Pool2DOptionsT()
    kernel = [int(v) for v in d.rng.integers(1, 5, 2)]
    options.filterHeight, options.filterWidth = kernel
    size = _window(d, options, kernel, [int(v) for v in d.rng.integers(1, 4, 2)])
    y = d.tensor("y", (*size, d.shape[2]), d.scale, d.zero)
    d.g.op(B.AVERAGE_POOL_2D if kind == "average_pool" else B.MAX_POOL_2D, [d.x], [y], options)
    return d.done(y)


def _binary(d: Draw, kind: str) -> bytes:
    """With a constant of the whole shape, of one a channel, or with itself."""
    other, same = d.quantisation(), d.flip()
    scale, zero = d.quantisation()
    if same or kind in ("minimum", "maximum"):
        other = (d.scale, d.zero)
    if kind in ("minimum", "maximum"):
        scale, zero = d.scale, d.zero
    if kind == "mul":
        scale *= 8 * 2.0**-3 * 16
    shape = d.shape if d.flip() else (1, 1, d.shape[2])
    data = d.rng.integers(d.lo, d.lo + 256, (1, *shape))
    y_at = d.tensor("b", shape, *other, data)
    y = d.tensor("y", d.shape, scale, zero)
    code = getattr(B, kind.upper())
    if kind in ("minimum", "maximum"):
        options: Any = schema.MaximumMinimumOptionsT()
    else:
        options = getattr(schema, f"{kind.capitalize()}OptionsT")()
        options.fusedActivationFunction = d.activation()
    inputs = [y_at, d.x] if d.flip() else [d.x, y_at]
    d.g.op(code, inputs, [y], options)
    return d.done(y)


def _curve(d: Draw, kind: str) -> bytes:
    scale, zero, options = d.scale, d.zero, None
    if kind in ("softmax", "logistic"):
        scale, zero = 1 / 256, d.lo
    elif kind == "tanh":
        scale, zero = 1 / 128, d.lo + 128
    elif kind == "hard_swish":
        scale, zero = d.scale * float(d.rng.uniform(0.5, 1.5)), d.zero
        options = schema.HardSwishOptionsT()
    elif kind == "leaky_relu":
        scale, zero = d.quantisation() if d.flip() else (d.scale, d.zero)
        options = schema.LeakyReluOptionsT()
        options.alpha = float(d.rng.uniform(0.01, 0.9))
    elif kind.startswith("relu") and d.flip():
        scale, zero = d.quantisation()
    if kind == "softmax":
        options = schema.SoftmaxOptionsT()
        options.beta = float(d.rng.choice([1.0, 0.5, 2.0]))
    y = d.tensor("y", d.shape, scale, zero)
    d.g.op(getattr(B, kind.upper()), [d.x], [y], options)
    return d.done(y)


def _move(d: Draw, kind: str) -> bytes:
    rng, (h, w, c) = d.rng, d.shape
    if kind == "pad":
        pads = np.concatenate([np.zeros((1, 2), int), rng.integers(0, 3, (2, 2)), np.zeros((1, 2), int)])
        shape = tuple(int(s + p.sum()) for s, p in zip(d.shape, pads[1:], strict=True))
        y = d.tensor("y", shape, d.scale, d.zero)
        d.g.op(B.PAD, [d.x, d.g.tensor("p", (4, 2), "int32", data=pads)], [y], schema.PadOptionsT())
    elif kind == "reshape":
        y = d.tensor("y", (h * w * c,), d.scale, d.zero)
        d.g.op(B.RESHAPE, [d.x, d.g.tensor("s", (2,), "int32", data=[1, h * w * c])], [y], schema.ReshapeOptionsT())
    elif kind == "transpose":
        order = [0, *(rng.permutation(3) + 1).tolist()]
        y = d.tensor("y", [d.shape[i - 1] for i in order[1:]], d.scale, d.zero)
        d.g.op(B.TRANSPOSE, [d.x, d.g.tensor("o", (4,), "int32", data=order)], [y], schema.TransposeOptionsT())
    elif kind == "strided_slice":
        begin, stride = [0, *rng.integers(0, 2, 2).tolist(), 0], [1, *rng.integers(1, 3, 2).tolist(), 1]
        end = [1, h, w - 1, c]
        shape = [len(range(b, e, s)) for b, e, s in zip(begin[1:], end[1:], stride[1:], strict=True)]
        y = d.tensor("y", shape, d.scale, d.zero)
        numbers = [d.g.tensor(n, (4,), "int32", data=v) for n, v in (("b", begin), ("e", end), ("t", stride))]
        options = schema.StridedSliceOptionsT()
        d.g.op(B.STRIDED_SLICE, [d.x, *numbers], [y], options)
    elif kind == "concatenation":
        axis = int(rng.integers(1, 4))
        shape = list(d.shape)
        shape[axis - 1] *= 2
        other = d.tensor("c", d.shape, d.scale, d.zero, rng.integers(d.lo, d.lo + 256, (1, *d.shape)))
        y = d.tensor("y", shape, d.scale, d.zero)
        options = schema.ConcatenationOptionsT()
        options.axis = axis if d.flip() else axis - 4
        d.g.op(B.CONCATENATION, [d.x, other], [y], options)
    elif kind.startswith("resize"):
        size = [int(v) for v in rng.integers(2, 17, 2)]
        y = d.tensor("y", (*size, c), d.scale, d.zero)
        bilinear = kind == "resize_bilinear"
        options = schema.ResizeBilinearOptionsT() if bilinear else schema.ResizeNearestNeighborOptionsT()
        choice = int(rng.integers(3))
        options.alignCorners, options.halfPixelCenters = choice == 1, choice == 2
        code = B.RESIZE_BILINEAR if bilinear else B.RESIZE_NEAREST_NEIGHBOR
        d.g.op(code, [d.x, d.g.tensor("s", (2,), "int32", data=size)], [y], options)
    return d.done(y)


def _mean(d: Draw, kind: str) -> bytes:
    keep, same = d.flip(), d.flip()
    axes = [1, 2] if d.rng.integers(4) else [3]
    shape = [1 if i + 1 in axes else s for i, s in enumerate(d.shape)] if keep else [s for i, s in enumerate(d.shape) if i + 1 not in axes]
    y = d.tensor("y", shape, *((d.scale, d.zero) if same else d.quantisation()))
    options = schema.ReducerOptionsT()
    options.keepDims = keep
    d.g.op(B.MEAN, [d.x, d.g.tensor("a", (len(axes),), "int32", data=axes)], [y], options)
    return d.done(y)


def _convert(d: Draw, kind: str) -> bytes:
    if kind == "dequantize":
        y = d.g.tensor("y", (1, *d.shape), "float32")
        d.g.op(B.DEQUANTIZE, [d.x], [y], schema.DequantizeOptionsT())
    else:
        scale, _ = d.quantisation()
        to = d.dtype if d.flip() else {"int8": "uint8", "uint8": "int8"}[d.dtype]
        y = d.g.tensor("y", (1, *d.shape), to, scale, int(d.rng.integers(*((-128, 128) if to == "int8" else (0, 256)))))
        d.g.op(B.QUANTIZE, [d.x], [y], schema.QuantizeOptionsT())
    return d.done(y)


MAKERS = {
    **dict.fromkeys(("conv", "depthwise", "dense", "conv4", "depthwise4", "dense4"), _linear),
    **dict.fromkeys(("average_pool", "max_pool"), _pool),
    **dict.fromkeys(("add", "sub", "mul", "minimum", "maximum"), _binary),
    **dict.fromkeys(("softmax", "logistic", "tanh", "hard_swish", "leaky_relu", "relu", "relu6", "relu_n1_to_1"), _curve),
    **dict.fromkeys(("pad", "reshape", "transpose", "strided_slice", "concatenation", "resize_nearest", "resize_bilinear"), _move),
    "mean": _mean,
    **dict.fromkeys(("quantize", "dequantize"), _convert),
}


def make(kind: str, rng: np.random.Generator, dtype: str = "int8") -> bytes:
    """A file with one op of the kind."""
    return MAKERS[kind](Draw(rng, dtype, 1 if kind.startswith("dense") else 3), kind)


def answers(content: bytes, runtime: str, images: np.ndarray) -> np.ndarray:
    """The outputs of the real interpreter, image by image: ``(n, *output shape)``. ``RuntimeError`` where it cannot run the file."""
    if runtime == "tflm":
        from tflite_micro.python.tflite_micro import runtime as micro

        try:
            interpreter = micro.Interpreter.from_bytes(content, arena_size=1 << 20)
        except Exception as error:
            raise RuntimeError(str(error)) from None
        outs = []
        for image in images:
            interpreter.set_input(image[None], 0)
            interpreter.invoke()
            outs.append(interpreter.get_output(0)[0].copy())
        return np.stack(outs)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        lite = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType[KERNELS[runtime]],
            experimental_preserve_all_tensors=runtime != "litert-xnnpack",
        )
        lite.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise RuntimeError(str(error)) from None
    given, answer = lite.get_input_details()[0]["index"], lite.get_output_details()[0]["index"]
    outs = []
    for image in images:
        lite.set_tensor(given, image[None])
        lite.invoke()
        outs.append(lite.get_tensor(answer)[0].copy())
    return np.stack(outs)
