"""Makes a file's numbers of a frozen network's thresholds: weights, scales and biases under which kernels compute the trained levels.

Two ways to store the weights, which pull against each other. *Scaled*: int8, each channel as many times the trained integers as fit; the
bias then lies on a finer grid, and nearly every channel can be certified (:mod:`edgeq.integer.certify`). *Packed*: two INT4 weights a
byte, half the flash, and little room for the bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.certify import LARGEST, Certificate, certify_layer
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.rounding import RUNTIMES

SCALED, PACKED = "scaled", "packed"
STORES = (SCALED, PACKED)
"""The names of the two ways."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One realised op. ``name``: of its output; ``stored``: bits a weight; ``levels``: of its output."""

    name: str
    kind: str
    stored: int
    levels: int
    certificate: Certificate


def realise(graph: Graph, packed: bool = False, runtimes: Sequence[str] = RUNTIMES) -> tuple[Graph, tuple[Layer, ...]]:
    """The graph as kernels run it, its tensors and ops at the same indices, and the certificate of each op that had thresholds.

    ``packed``: INT4 where the trained weights fit -8..7. Raises :class:`EdgeqError` where weights do not fit int8.
    """
    tensors, ops, layers = list(graph.tensors), list[Op](), list[Layer]()
    reach = _reach(graph)
    for op in graph.ops:
        if "thresholds" not in op.options:
            ops.append(op)
            continue
        x, w, y = (tensors[i] for i in (*op.inputs[:2], op.output))
        assert w.data is not None
        if np.abs(w.data).max(initial=0) > LARGEST:
            raise EdgeqError(
                f"{y.name}: its trained weights go up to {np.abs(w.data).max()} steps, which int8 cannot hold (8-bit DoReFa has odd "
                "multiples up to 255); train with lsq:w8, or with fewer bits"
            )
        # a requantising layer of ones has no bits to save
        small = packed and bool(w.data.min() >= -8 and w.data.max() <= 7 and np.ptp(w.data) > 0)
        kind = "conv" if small and op.kind == "dense" else op.kind  # which the file makes of it: rewrite.dense_int4_as_conv
        certificate = certify_layer(
            w.data, op.options["thresholds"], reach[op.inputs[0]], low=op.options["low"], kind=kind,
            scale_in=float(x.scale[0]), scale_out=float(y.scale[0]), int4=small, runtimes=runtimes,
        )  # fmt: skip
        axis, zeros = 3 if op.kind == "depthwise" else 0, np.zeros(len(certificate.scale), np.int64)
        stored = Tensor(w.name, w.shape, "int4" if small else "int8", certificate.scale, zeros, axis, certificate.weights)
        tensors[op.inputs[1]] = stored
        bias_scale = (x.scale * certificate.scale).astype(np.float32)
        tensors.append(Tensor(y.name + "/bias", certificate.bias.shape, "int32", bias_scale, zeros, 0, certificate.bias))
        options = {k: v for k, v in op.options.items() if k not in ("thresholds", "low")}
        ops.append(Op(op.kind, (*op.inputs[:2], len(tensors) - 1), op.output, MappingProxyType(options)))
        layers.append(Layer(y.name, op.kind, 4 if small else 8, op.options["thresholds"].shape[1] + 1, certificate))
    return replace(graph, tensors=tuple(tensors), ops=tuple(ops)), tuple(layers)


def _reach(graph: Graph) -> dict[int, tuple[int, int]]:
    """Activation -> the least and greatest ``code - zero`` that it takes."""
    t = graph.tensors[graph.input]
    info, zero = np.iinfo(t.dtype), int(t.zero[0])
    reach = {graph.input: (int(info.min) - zero, int(info.max) - zero)}
    for op in graph.ops:
        given = [reach[i] for i in op.inputs if i in reach]
        if "thresholds" in op.options:
            reach[op.output] = (op.options["low"], op.options["low"] + op.options["thresholds"].shape[1])
        elif op.kind == "add":
            reach[op.output] = (sum(g[0] for g in given), sum(g[1] for g in given))
        else:  # what moves codes, or fills up with zeros
            reach[op.output] = (min(given[0][0], 0), max(given[0][1], 0))
    return reach
