"""Rewrites of a graph into one that more runtimes run, or run rightly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer.graph import Graph, Op, Tensor


class _Growing:
    """The tensors and ops of a graph that is being rebuilt."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.tensors, self.ops = graph, list(graph.tensors), list[Op]()

    def tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def op(self, kind: str, inputs: tuple[int, ...], output: int, options: Mapping[str, Any]) -> int:
        self.ops.append(Op(kind, inputs, output, MappingProxyType(dict(options))))
        return output

    def done(self) -> Graph:
        return replace(self.graph, tensors=tuple(self.tensors), ops=tuple(self.ops))


def with_biases(graph: Graph) -> Graph:
    """Zeros for biases that are absent: LiteRT's float depthwise kernel reads a missing one and takes the process with it."""
    new = _Growing(graph)
    for op in graph.ops:
        if op.kind not in ("conv", "depthwise", "dense") or (len(op.inputs) > 2 and op.inputs[2] >= 0):
            new.ops.append(op)
            continue
        x, w, y = (graph.tensors[i] for i in (*op.inputs[:2], op.output))
        scale = x.scale * w.scale if y.quantised else np.empty(0, np.float32)
        dtype = ("int64" if x.dtype == "int16" else "int32") if y.quantised else "float32"
        zeros = np.zeros(y.shape[-1], dtype)
        bias = new.tensor(Tensor(y.name + "/bias", zeros.shape, dtype, scale, np.zeros(len(scale), np.int64), 0, zeros))
        new.op(op.kind, (*op.inputs[:2], bias), op.output, op.options)
    return new.done()


def dense_int4_as_conv(graph: Graph) -> Graph:
    """Dense layers with INT4 weights and a scale a channel as 1x1 convolutions, which TensorFlow Lite Micro runs.

    The same accumulators. LiteRT leaves INT4 convolutions to its builtin kernels, which round them as such.
    """
    new = _Growing(graph)
    for op in graph.ops:
        w = graph.tensors[op.inputs[1]] if op.kind == "dense" else None
        if w is None or w.data is None or w.dtype != "int4" or len(w.scale) == 1:
            new.ops.append(op)
            continue
        (out, depth), x, y = w.shape, graph.tensors[op.inputs[0]], graph.tensors[op.output]
        new.tensors[op.inputs[1]] = replace(w, shape=(out, 1, 1, depth), data=w.data.reshape(out, 1, 1, depth))
        wide = new.tensor(replace(x, name=x.name + "/1x1", shape=(1, 1, depth)))
        tall = new.tensor(replace(y, name=y.name + "/1x1", shape=(1, 1, out)))
        options = {"stride": (1, 1), "dilation": (1, 1), "padding": "valid", "activation": op.options["activation"]}
        new.op("reshape", op.inputs[:1], wide, {"shape": (1, 1, depth)})
        new.op("conv", (wide, *op.inputs[1:]), tall, options)
        new.op("reshape", (tall,), op.output, {"shape": y.shape})
    return new.done()


def scales_behind_layers(graph: Graph) -> Graph:
    """Float layers over dequantised weights with a scale a channel, in a form that TensorFlow Lite Micro computes rightly.

    Its DEQUANTIZE takes the first scale for all channels and says nothing. Here weights are dequantised with scale 1, and MUL and ADD with
    constants follow the layer: the same real function, while float32 may round differently.
    """
    new = _Growing(graph)
    weights = {op.output: op for op in graph.ops if op.kind == "dequantize" and len(graph.tensors[op.inputs[0]].scale) > 1}
    for op in graph.ops:
        if op.output in weights:
            stored = graph.tensors[op.inputs[0]]
            one = replace(stored, scale=np.ones(1, np.float32), zero=np.zeros(1, np.int64), axis=0)
            new.tensors[op.inputs[0]] = one
            new.ops.append(op)
        elif op.kind in ("conv", "depthwise", "dense") and op.inputs[1] in weights:
            y, scale = graph.tensors[op.output], graph.tensors[weights[op.inputs[1]].inputs[0]].scale
            has_bias = len(op.inputs) > 2 and op.inputs[2] >= 0
            bare = {"activation": "none"}
            product = new.op(op.kind, (*op.inputs[:2], -1), new.tensor(replace(y, name=y.name + "/unscaled")), {**op.options, **bare})
            factor = new.tensor(Tensor(y.name + "/scale", scale.shape, "float32", data=scale.copy()))
            if not has_bias:
                new.op("mul", (product, factor), op.output, {"activation": op.options["activation"]})
                continue
            scaled = new.op("mul", (product, factor), new.tensor(replace(y, name=y.name + "/scaled")), bare)
            new.op("add", (scaled, op.inputs[2]), op.output, {"activation": op.options["activation"]})
        else:
            new.ops.append(op)
    return new.done()
