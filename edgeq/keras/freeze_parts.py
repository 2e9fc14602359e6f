"""What both ways of freezing share: the graph as it grows, kernels as the graph lays them out, and layers that only move numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.keras.lowbit.trained import inner

KINDS = {"Conv2D": "conv", "DepthwiseConv2D": "depthwise", "Dense": "dense"}


@dataclass
class Builder:
    """The graph as it grows. ``values``: a layer's name -> its output, a tensor or a sum."""

    tensors: list[Tensor] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)

    def tensor(self, name: str, shape: Sequence[int], dtype: str, scale: Any = (), zero: int = 0, axis: int = 0, data: Any = None) -> int:
        scales = np.atleast_1d(np.asarray(scale, np.float32))
        self.tensors.append(Tensor(name, tuple(shape), dtype, scales, np.full(scales.size, zero, np.int64), axis, data))
        return len(self.tensors) - 1

    def like(self, x: int, name: str, shape: Sequence[int]) -> int:
        """A tensor whose codes mean what those of ``x`` do."""
        t = self.tensors[x]
        return self.tensor(name, shape, t.dtype, t.scale, int(t.zero[0]) if t.quantised else 0)

    def op(self, kind: str, inputs: tuple[int, ...], output: int, **options: Any) -> int:
        self.ops.append(Op(kind, inputs, output, MappingProxyType(options)))
        return output

    def graph(self, output: int, name: str) -> Graph:
        return Graph(tuple(self.tensors), tuple(self.ops), 0, output, name)


def passes(layer: Any) -> bool:
    """Whether the layer's output is its input."""
    part = inner(layer)
    return type(part).__name__ == "Dropout" or (type(part).__name__, part.get_config().get("activation")) == ("Activation", "linear")


def moved(b: Builder, layer: Any, x: int) -> int | None:
    """The output of a layer whose numbers are some of its input's, or zeros beside them; None for any other layer."""
    part, size = inner(layer), b.tensors[x].shape
    kind, config, shape = type(part).__name__, part.get_config(), tuple(int(d) for d in layer.output_shape[1:])

    def pool(name: str, shape: Sequence[int], window: Sequence[int], stride: Sequence[int], padding: str) -> int:
        options = {"window": tuple(window), "stride": tuple(stride), "padding": padding, "activation": "none"}
        return b.op("max_pool", (x,), b.like(x, name, shape), **options)

    if kind == "MaxPooling2D":
        return pool(part.name, shape, config["pool_size"], config["strides"], config["padding"])
    if kind == "GlobalMaxPooling2D":
        if len(shape) == 3:
            return pool(part.name, shape, size[:2], size[:2], "valid")
        most = pool(part.name + "/window", (1, 1, size[2]), size[:2], size[:2], "valid")
        return b.op("reshape", (most,), b.like(x, part.name, shape), shape=shape)
    if kind in ("Flatten", "Reshape"):
        return b.op("reshape", (x,), b.like(x, part.name, shape), shape=shape)
    if kind == "ZeroPadding2D":
        (top, bottom), (left, right) = config["padding"]
        return b.op("pad", (x,), b.like(x, part.name, shape), before=(top, left, 0), after=(bottom, right, 0))
    return None


def laid_out(part: Any, stored: np.ndarray) -> tuple[np.ndarray, int, dict[str, Any]]:
    """A layer's kernel, from Keras's layout into the graph's; the axis of its output channels there; and the op's options."""
    kind, config = KINDS[type(part).__name__], part.get_config()
    if kind == "dense":
        return stored.T, 0, {}
    options = {"stride": tuple(config["strides"]), "dilation": tuple(config["dilation_rate"]), "padding": config["padding"]}
    if kind == "conv":
        return stored.transpose(3, 0, 1, 2), 0, options
    return stored.reshape(1, *stored.shape[:2], -1), 3, {**options, "multiplier": stored.shape[3]}


def along(axis: int, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """``weights`` times a ``factor`` a channel."""
    return np.moveaxis(np.moveaxis(weights, axis, -1) * factor, -1, axis)
