"""A ``.tflite`` model as the integer graph. The file is untrusted: what it declares is checked against what its ops would give.

Files of the stock converter (PTQ, QAT, the uint8 of TensorFlow 1) and of our own writer; INT4 weights are unpacked. The batch axis goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer import model as models
from edgeq.integer import shapes, tflite_file
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.tflite_ops import READERS, UnfitError

MAX_ELEMENTS = 2**24  # of one image's activation: five times the largest of ImageNet's networks
MAX_COLUMNS = 2**26  # elements of all windows of one convolution, once unrolled
MAX_TAPS = 2**12  # of a pooling window
SCALES = 2.0**-40, 2.0**40
SMALLEST = float(np.finfo(np.float32).tiny)  # of a channel of weights: where training left nothing in it, its scale is next to nothing
REMEDY = "attack it by queries, or pass its float network as --source"
DTYPES = ("int8", "uint8", "int16", "int32", "int4", "float32", "int64", "bool")


def room(model: models.Model) -> int:
    """Numbers in all constants of a graph: twice what int4 needs. Of a damaged file any number of tensors may lie on the same bytes, and
    each is copied."""
    return 4 * model.size + 2**16


def read(path: str | Path) -> Graph:
    """The graph in the file ``path``. Raises :class:`EdgeqError`."""
    return from_model(tflite_file.read(str(path)))


def from_model(model: models.Model) -> Graph:
    """The graph of a parsed file. :class:`EdgeqError` names the file, the op, and what to do."""
    return _Reader(model).graph()


class _Reader:
    def __init__(self, model: models.Model) -> None:
        self.model = model
        self.tensors: dict[int, Tensor] = {}
        self.room = room(model)
        self.fixed: set[int] = set()  # constants, and what is computed of constants alone: without a batch

    def graph(self) -> Graph:
        m = self.model
        if m.format != "tflite":
            raise EdgeqError(f"{m.path}: is no .tflite model")
        if len(m.inputs) != 1 or len(m.outputs) != 1:
            raise EdgeqError(f"{m.path}: has {len(m.inputs)} inputs and {len(m.outputs)} outputs; only one of each can be read as a graph")
        if m.graphs != 1 or not 1 <= len(m.ops) <= models.MAX_OPS:
            raise EdgeqError(f"{m.path}: has {m.graphs} subgraphs and {len(m.ops)} ops; one of 1 to {models.MAX_OPS} ops can be read")
        if m.variables:
            what = f"keeps the tensor {m.variables[0]} from one image to the next, and the integer graph knows no state"
            raise EdgeqError(f"{m.path}: {what}; the runtimes reset it, so attack it by queries")
        try:
            self.activation(m.inputs[0])
        except UnfitError as error:
            raise EdgeqError(f"{m.path}: the input: {error}; {REMEDY}") from None
        ops = []
        for op in m.ops:
            try:
                ops.append(self.op(op))
            except (UnfitError, ValueError, IndexError, OverflowError, TypeError) as error:
                where = f"{op.name} ({self.name(op.outputs[0])})" if op.outputs else op.name
                raise EdgeqError(f"{m.path}: {where} cannot be read: {error}; {REMEDY}") from None
        if m.outputs[0] not in self.tensors or m.outputs[0] in self.fixed:
            raise EdgeqError(f"{m.path}: no op writes its output; the file is damaged: export it again")
        order = sorted(self.tensors)
        at = {old: new for new, old in enumerate(order)} | {-1: -1}
        return Graph(
            tuple(self.tensors[i] for i in order),
            tuple(Op(o.kind, tuple(at[i] for i in o.inputs), at[o.output], o.options) for o in ops),
            at[m.inputs[0]],
            at[m.outputs[0]],
            m.path,
        )

    def name(self, index: int) -> str:
        return self.model.tensors[index].name

    def op(self, op: models.Op) -> Op:
        if op.custom or op.name not in READERS:
            raise UnfitError("it is no op of the integer graph")
        if len(op.outputs) != 1 or not op.inputs or op.inputs[0] < 0:
            raise UnfitError("it lacks its input, or has several outputs")
        kind, inputs, options = READERS[op.name](self.model, op)
        for i in inputs:
            if i >= 0 and i not in self.tensors:
                self.constant(i)
        if op.outputs[0] in self.tensors:
            raise UnfitError("its output is written twice")
        constant = [i in self.fixed for i in inputs if i >= 0]
        given = [self.tensors[i].shape for i in inputs if i >= 0]
        if kind == "dequantize" and all(constant):
            self.fixed.add(op.outputs[0])
        elif all(constant):
            raise UnfitError("it computes with constants alone")
        elif constant[0] and kind not in ("add", "sub", "mul", "minimum", "maximum", "concatenation"):
            raise UnfitError("its input is a constant")
        shape = shapes.infer(kind, options, given, constant)
        out = self.activation(op.outputs[0], fixed=op.outputs[0] in self.fixed)
        if out.shape != shape:
            raise UnfitError(f"it gives {shape}, and the file says {out.shape}")
        self.check(kind, inputs, out, options)
        return Op(kind, inputs, op.outputs[0], MappingProxyType(options))

    def check(self, kind: str, inputs: tuple[int, ...], out: Tensor, options: Mapping[str, Any]) -> None:
        """Types, quantisation and sizes of an op whose shapes fit."""
        given = [self.tensors[i] for i in inputs if i >= 0]
        x = given[0]
        if kind in ("conv", "depthwise", "dense"):
            self.weights(kind, [self.tensors[i] if i >= 0 else None for i in inputs], out)
            window = math.prod(given[1].shape[1:3]) * (x.shape[-1] if kind == "conv" else 1) if kind != "dense" else 1
            if math.prod(out.shape[:2]) * window > MAX_COLUMNS:
                raise UnfitError("it is too large")
        elif kind not in ("quantize", "dequantize") and any(t.dtype != out.dtype for t in given):
            raise UnfitError(f"it mixes {' and '.join(sorted({t.dtype for t in (*given, out)}))}")
        elif "window" in options and math.prod(options["window"]) > MAX_TAPS:
            raise UnfitError("its window is too large")
        if (kind == "dequantize" and not x.quantised and x.data is None) or (kind == "quantize" and not out.quantised):
            raise UnfitError("its codes have no scale")
        for t in (*given, out):
            if t.dtype in ("int8", "uint8", "int16") and not t.quantised:
                raise UnfitError(f"{t.name} has no scale")
            if t.data is None and len(t.scale) > 1:
                raise UnfitError(f"{t.name} has a scale a channel, which activations cannot have")
        moves = kind in ("average_pool", "max_pool", "pad", "reshape", "transpose", "strided_slice") or kind.startswith("resize")
        if moves and x.quantised and (x.scale[0] != out.scale[0] or x.zero[0] != out.zero[0]):
            raise UnfitError("its input and output have different scales")

    def weights(self, kind: str, inputs: list[Tensor | None], out: Tensor) -> None:
        x, w, bias = (*inputs, None)[:3]
        assert x is not None
        assert w is not None
        floating = x.dtype == "float32"
        allowed = ("float32",) if floating else {"int8": ("int8", "int4"), "uint8": ("uint8",)}.get(x.dtype, ())
        if x.dtype == "int16":
            raise UnfitError("its activations are of int16, whose kernels are not followed bit by bit")
        if floating and w.dtype in ("int8", "uint8", "int4"):
            raise UnfitError(f"weights of {w.dtype} meet floats (dynamic range), which each runtime quantises in its own way")
        if w.dtype not in allowed or out.dtype != x.dtype:
            raise UnfitError(f"{x.dtype} with weights of {w.dtype} to {out.dtype} is no integer kernel")
        channels = w.shape[3 if kind == "depthwise" else 0]
        if not floating and (w.data is None or len(w.scale) not in (1, channels)):
            raise UnfitError("its weights are no constant, or have the wrong number of scales")
        if len(w.scale) > 1 and w.axis != (3 if kind == "depthwise" else 0):
            raise UnfitError("its weights have a scale along another axis than the outputs")
        if bias is not None and (bias.dtype != ("float32" if floating else "int32") or math.prod(bias.shape) != channels):
            raise UnfitError(f"its bias of {bias.dtype} {bias.shape} does not fit {channels} outputs")

    def activation(self, index: int, fixed: bool = False) -> Tensor:
        t = self.model.tensors[index]
        if t.data is not None:
            raise UnfitError(f"{t.name} contains data")
        if not fixed and (not t.shape or t.shape[0] != 1):
            raise UnfitError(f"{t.name} has shape {t.shape}, which does not start with a batch of one")
        shape = t.shape if fixed else t.shape[1:]
        self.tensors[index] = self.tensor(t, shape, None)
        return self.tensors[index]

    def constant(self, index: int) -> Tensor:
        t = self.model.tensors[index]
        codes = t.codes()
        if codes is None:
            raise UnfitError(f"{t.name} is no constant, or does not hold what its shape says" if t.data else f"nothing writes {t.name}")
        self.room -= codes.size
        if self.room < 0:
            raise UnfitError("with it, constants have more numbers than the file can hold: several share one piece of data")
        if t.dtype == "float16":  # each is a float32
            t, codes = replace(t, dtype="float32"), codes.astype(np.float32)
        self.tensors[index] = self.tensor(t, t.shape, codes.astype("int8" if t.dtype == "int4" else codes.dtype.newbyteorder("=")))
        self.fixed.add(index)
        return self.tensors[index]

    def tensor(self, t: models.Tensor, shape: tuple[int, ...], data: np.ndarray | None) -> Tensor:
        if t.dtype not in DTYPES:
            raise UnfitError(f"{t.name} is of {t.dtype}")
        if (math.prod(shape) > MAX_ELEMENTS and data is None) or 0 in shape:
            raise UnfitError(f"{t.name} of shape {t.shape} is too large, or empty")
        scale, zero = np.array(t.scales, np.float32).reshape(-1), np.array(t.zeros, np.int64).reshape(-1)
        if len(scale) and not len(zero):
            zero = np.zeros(len(scale), np.int64)
        if t.dtype == "int32" and data is not None:  # a bias: kernels add its codes, and engines.doubt looks at what the file states
            return Tensor(t.name, shape, t.dtype, scale, np.resize(zero, len(scale)), t.axis, data)
        if t.dtype not in ("float32", "int64", "bool") and len(scale):
            least = SMALLEST if data is not None and len(scale) > 1 else SCALES[0]
            if len(scale) != len(zero) or not ((scale >= least) & (scale <= SCALES[1])).all():
                raise UnfitError(f"{t.name} has a scale that is not positive or beyond all reason, or too few zero points")
            if len(scale) > 1 and not (0 <= t.axis < len(shape) and shape[t.axis] == len(scale)):
                raise UnfitError(f"{t.name} has {len(scale)} scales for shape {shape}")
            lo, hi = (-8, 7) if t.dtype == "int4" else (int(np.iinfo(t.dtype).min), int(np.iinfo(t.dtype).max))
            if ((zero < lo) | (zero > hi)).any():
                raise UnfitError(f"{t.name} has a zero point beyond {t.dtype}")
        elif len(scale):
            scale, zero = scale[:0], zero[:0]
        return Tensor(t.name, shape, t.dtype, scale, zero, t.axis, data)
