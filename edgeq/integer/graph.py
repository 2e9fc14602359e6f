"""The integer graph: a deployed network as a small immutable value.

``.tflite`` and ``.onnx`` files are read into it, frozen Keras networks become it, files are written from it, and
:mod:`edgeq.integer.simulate` runs it with any runtime's rounding. Activations are NHWC and carry no batch axis in their shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from edgeq.integer import model as models

KINDS = frozenset(
    (
        *("conv", "depthwise", "dense", "add", "sub", "mul", "minimum", "maximum"),
        *("average_pool", "max_pool", "mean", "pad", "reshape", "transpose", "concatenation", "strided_slice"),
        *("relu", "relu6", "relu_n1_to_1", "leaky_relu", "hard_swish", "hard_sigmoid", "logistic", "tanh", "softmax"),
        *("quantize", "dequantize", "dynamic_quantize", "resize_bilinear", "resize_nearest"),
    )
)
"""What an op can be. Its options, where it has any:

``conv``, ``depthwise``: ``stride (h, w)``, ``dilation (h, w)``, ``padding`` "same" or "valid", ``activation``; inputs are activation,
weights ``(out, kh, kw, in)``, for ``depthwise`` ``(1, kh, kw, out)`` with ``multiplier``, and bias (int32) or -1.
``dense``: ``activation``; weights ``(out, in)``. ``average_pool``, ``max_pool``: ``window (h, w)``, ``stride``, ``padding``,
``activation``; of an average, where it is stated, ``centre``, the code that halves are rounded away from. ``add``, ``sub``, ``mul``:
``activation``. ``mean``: ``axes`` (of the NHWC batch), ``keep``. ``pad``: ``before``, ``after`` per axis without the batch.
``reshape``: ``shape``. ``softmax``: ``beta``. ``leaky_relu``: ``alpha``. ``hard_sigmoid``: ``alpha``, ``beta``.
``concatenation``: ``axis``, ``activation``. ``transpose``: ``order``. ``strided_slice``: ``begin``, ``end``, ``stride``.
``resize_*``: ``size``, ``align_corners``, ``half_pixel_centers``.
``dynamic_quantize``: reals rounded to the nearest of 256 steps between the least and the greatest of their image, 0 among them.
``activation`` is "none", "relu", "relu6" or "relu_n1_to_1". Axes count without the batch,
from 0; those of ``mean`` with it.

In a graph that was frozen from a trained network (:mod:`edgeq.keras.freeze`) ``conv``, ``depthwise`` and ``dense`` have ``low`` and
``thresholds``, ``(out, levels - 1) int64`` that ascend, and no bias: the output is ``low + k`` steps from its zero point where the
accumulator reaches ``k`` of them. Their weights are int32 codes as trained. :mod:`edgeq.integer.realise` makes scales and biases of it.
"""


@dataclass(frozen=True, eq=False)
class Tensor:
    """``value = scale * (code - zero)``.

    ``shape``: of one image's activation, or of a constant. ``dtype``: int8, uint8, int16, int32, float32, or int4 for constants, whose
    ``data`` is then stored as int8. ``scale`` ``(1,)`` or, along ``axis`` of a constant, ``(channels,)`` float32, empty where the tensor is
    not quantised; ``zero`` int64 of the same length. ``data``: a constant's codes in ``shape``, not writeable; None for activations.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    zero: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    axis: int = 0
    data: np.ndarray | None = None

    def __post_init__(self) -> None:
        for array in (self.scale, self.zero, self.data):
            if array is not None:
                array.flags.writeable = False

    @property
    def quantised(self) -> bool:
        return len(self.scale) > 0


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. ``inputs``: indices into the graph's tensors, -1 for an absent bias; ``output``: one index."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no op of kind {self.kind!r}")


@dataclass(frozen=True, eq=False)
class Graph:
    """Ops in an order in which they can run; one image goes in, one vector of scores (or one more image) comes out."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    input: int
    output: int
    name: str = ""

    @property
    def floating(self) -> bool:
        """Whether nothing in it is rounded to codes."""
        return not any(op.kind == "dynamic_quantize" or self.tensors[op.output].quantised for op in self.ops)

    def constants(self) -> Iterator[tuple[int, Tensor]]:
        return ((i, t) for i, t in enumerate(self.tensors) if t.data is not None)


def as_model(graph: Graph) -> models.Model:
    """The graph in the form of a file whose ops are the graph's, tensor by tensor."""

    def tensor(t: Tensor) -> models.Tensor:
        shape = t.shape if t.data is not None else (1, *t.shape)
        data = None if t.data is None else memoryview(t.data.tobytes())
        return models.Tensor(t.name, shape, shape, t.dtype, t.scale, t.zero, t.axis, data)

    ops = tuple(models.Op(op.kind, op.inputs, (op.output,), op.options) for op in graph.ops)
    return models.Model(graph.name, "onnx", 0, tuple(map(tensor, graph.tensors)), ops, (graph.input,), (graph.output,))
