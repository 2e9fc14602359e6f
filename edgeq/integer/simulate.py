"""Runs an integer graph in numpy with the rounding of a chosen runtime, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.engines import refused
from edgeq.integer.graph import Graph
from edgeq.integer.ops import Call, Step, convert, curves, elementwise, floats, join, linear, move, ort, pool, reduce, resize
from edgeq.integer.rounding import SIMULATED


def _choice(kernel: Callable[[Call], Step], own: Callable[[Call], Step]) -> Callable[[Call], Step]:
    return lambda call: (own if call.runtime == "ort" else kernel)(call)


KERNELS: dict[str, Callable[[Call], Step]] = {
    "conv": linear.conv,
    "depthwise": linear.depthwise,
    "dense": linear.dense,
    "add": elementwise.add,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "average_pool": pool.average_pool,
    "max_pool": pool.max_pool,
    "pad": move.pad,
    "reshape": move.reshape,
    "transpose": move.transpose,
    "strided_slice": move.strided_slice,
    "resize_nearest": resize.nearest,
    "resize_bilinear": resize.bilinear,
    "mean": reduce.mean,
    "quantize": convert.quantize,
    "dequantize": convert.dequantize,
    "concatenation": join.concatenation,
    "minimum": join.minimum,
    "maximum": join.maximum,
    "softmax": curves.softmax,
    "logistic": curves.logistic,
    "tanh": curves.tanh,
    "hard_swish": curves.hard_swish,
    "leaky_relu": curves.leaky_relu,
    **dict.fromkeys(("relu", "relu6", "relu_n1_to_1"), curves.relu),
}
KERNELS |= {kind: _choice(KERNELS[kind], own) for kind, own in ort.KERNELS.items()}


def ways(call: Call) -> list[Step]:
    """All functions of its input codes that the kernel of an elementwise op uses, broadcasting as numpy does; most kernels have one."""
    several = call.op.kind in ("add", "sub", "mul") and call.runtime != "ort"
    return elementwise.ways(call) if several else [KERNELS[call.op.kind](call)]


EXACT: dict[tuple[str, str], int] = {
    ("mean", "litert-xnnpack"): 1,  # where the mean lies between two codes and scales are equal: 9 of 32,424 elements
    ("resize_bilinear", "litert-builtin"): 1,  # uint8 only: 366 of 184,638 elements
}
"""Kind and runtime -> the largest error seen, in codes. What is not listed is equal to the runtime bit by bit.

For ops between float32 tensors see :mod:`edgeq.integer.ops.floats`. "ort" is ONNX Runtime on x86-64; where a processor there has no VNNI
it cuts sums of two products of uint8 activations and int8 weights at 16 bits (its issue 14642), and these layers are not what it answers.
"""


def simulate(
    graph: Graph, images: np.ndarray, runtime: str = "litert-xnnpack", keep: bool = False, *, chunk: int = 64
) -> np.ndarray | dict[int, np.ndarray]:
    """The answers of ``runtime`` to ``images``, input codes ``(n, *input shape)`` in the input's dtype: codes ``(n, *output shape)``.

    ``keep``: instead a dict from the tensor's index to the codes ``(n, *shape)`` of every activation, input included.
    ``chunk``: images at once; no result depends on it. Raises :class:`EdgeqError` for an op it has no kernel for.
    """
    if runtime not in SIMULATED:
        raise EdgeqError(f"{runtime}: is no runtime that can be simulated; take one of {', '.join(SIMULATED)}")
    given = graph.tensors[graph.input]
    if images.shape[1:] != given.shape or images.dtype != given.dtype:
        raise ValueError(f"input codes {images.dtype} {images.shape[1:]} for a network of {given.dtype} {given.shape}")
    steps, last = plan(graph, runtime), _last_uses(graph)
    parts: list[dict[int, np.ndarray]] = []
    for start in range(0, max(1, len(images)), chunk):
        values: dict[int, Any] = {i: t.data for i, t in graph.constants()} | {graph.input: images[start : start + chunk]}
        for at, (op, step) in enumerate(zip(graph.ops, steps, strict=True)):
            values[op.output] = step(*(values[i] if i >= 0 else None for i in op.inputs))
            if not keep:
                for i in set(op.inputs):
                    if last.get(i) == at and i != graph.output:
                        del values[i]
        wanted = [i for i in values if graph.tensors[i].data is None] if keep else [graph.output]
        parts.append({i: values[i] for i in wanted})
    joined = {i: np.concatenate([p[i] for p in parts]) for i in parts[0]}
    return joined if keep else joined[graph.output]


def plan(graph: Graph, runtime: str) -> list[Step]:
    """One function an op, from input arrays to the output array."""
    steps = []
    for op in graph.ops:
        out = graph.tensors[op.output]
        kernel = floats.KERNELS.get(op.kind, KERNELS.get(op.kind)) if out.dtype == "float32" else KERNELS.get(op.kind)
        if kernel is None or (kernel is resize.bilinear and out.dtype == "float32"):
            raise EdgeqError(f"{graph.name}: {op.kind} ({out.name}) of {out.dtype} cannot be simulated; convert the network without it")
        call = Call(op, tuple(graph.tensors[i] if i >= 0 else None for i in op.inputs), out, runtime)
        if "thresholds" not in op.options and (reason := refused(call)) is not None:  # levels are counted, no kernel multiplies
            raise EdgeqError(f"{graph.name}: {op.kind} ({out.name}) {reason}; export the network again")
        try:
            steps.append(kernel(call))
        except (ValueError, OverflowError):
            raise EdgeqError(f"{graph.name}: {op.kind} ({out.name}) has scales that no kernel takes; export the network again") from None
    return steps


def _last_uses(graph: Graph) -> dict[int, int]:
    """Activation -> position of the last op that reads it."""
    return {i: at for at, op in enumerate(graph.ops) for i in op.inputs if i >= 0 and graph.tensors[i].data is None}
