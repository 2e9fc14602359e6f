"""The integer graph of a deployed file as a source of gradients: what an attacker who holds the file has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.core.answer import Answer
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Fused, Objective, Pullback
from edgeq.integer.classifier import image_layout
from edgeq.integer.engines import refused
from edgeq.integer.graph import Graph, Op, Tensor
from edgeq.integer.ops import Call
from edgeq.integer.rounding import SIMULATED
from edgeq.keras import engine
from edgeq.keras.gradients import Gradients
from edgeq.keras.ste.clamp import CLAMPS
from edgeq.keras.ste.codes import grid
from edgeq.keras.ste.real import REAL, dequantised
from edgeq.keras.ste.step import step
from edgeq.pipeline.codes import PixelCodes

DTYPES = ("int8", "uint8", "float32")
LARGEST = 2**26  # elements of a kernel, once dilated


def logits_of(graph: Graph) -> int:
    """The tensor that holds the logits: the output, or what enters a last softmax or logistic (seen through reshapes and the like)."""
    writers = {op.output: op for op in graph.ops}
    tensor = graph.output
    while (op := writers.get(tensor)) is not None and op.kind in ("reshape", "quantize", "dequantize", "softmax", "logistic"):
        tensor = op.inputs[0]
        if op.kind in ("softmax", "logistic"):
            return tensor
    return graph.output


def check(graph: Graph) -> None:
    """Raises :class:`EdgeqError` for an op on the way to the logits that has no gradient here. Needs no TensorFlow."""
    for op in _ops(graph):
        out, given = graph.tensors[op.output], [graph.tensors[i] for i in op.inputs if i >= 0]
        strange = sorted({t.dtype for t in (out, *given) if t.data is None} - {*DTYPES})
        if op.kind not in REAL or strange or (op.kind in ("conv", "depthwise") and _spread(given[1], op) > LARGEST):
            what = f"of {', '.join(strange)} " if strange else ""
            raise EdgeqError(
                f"{graph.name}: {op.kind} ({out.name}) {what}has no gradient here; attack the file by queries, or pass --source"
            )


def _spread(weights: Tensor, op: Op) -> int:
    """Elements of a kernel with the zeros that dilation puts into it."""
    first, kh, kw, last = weights.shape
    dh, dw = op.options["dilation"]
    return int(first * last * ((kh - 1) * dh + 1) * ((kw - 1) * dw + 1))


def executor(graph: Graph, runtime: str, clamp: str = "clipped", keep: bool = False) -> Callable[[Any], Any]:
    """A TensorFlow function from input codes ``(n, h, w, c)`` to the codes of the logits ``(n, classes)``, all float32, forwards equal to
    ``runtime``'s kernels; with ``keep`` to a dict of every activation up to there. Float tensors hold their reals.

    Raises :class:`EdgeqError` for an op without a gradient here, and for scales that no kernel takes.
    """
    if clamp not in CLAMPS or runtime not in SIMULATED:
        raise ValueError(f"clamp must be one of {', '.join(CLAMPS)}, runtime one of {', '.join(SIMULATED)}")
    check(graph)
    tensors, steps = dict(enumerate(graph.tensors)), []
    for op in _ops(graph):
        call = Call(op, tuple(tensors.get(i) for i in op.inputs), tensors[op.output], runtime)
        if all(t is None or t.data is not None for t in call.inputs):  # the weights of a float layer, stored as integers
            tensors[op.output] = replace(call.output, data=dequantised(call, call.given))
            continue
        what = f"{graph.name}: {op.kind} ({call.output.name})"
        if (reason := refused(call)) is not None:
            raise EdgeqError(f"{what} {reason}; export the network again")
        try:
            steps.append((op, step(call, clamp)))
        except (ValueError, OverflowError):
            raise EdgeqError(f"{what} has scales that no kernel takes; export the network again") from None
    last, given = logits_of(graph), graph.tensors[graph.input]

    def run(codes: Any) -> Any:
        with engine.tensorflow().device("CPU:0"):  # a GPU adds up in TensorFloat-32, or by Winograd's transform
            values = {graph.input: _shift(codes, given, -1)}
            for op, one in steps:
                values[op.output] = one(*(values[i] for i in op.inputs if i in values))
        wanted = values if keep else [last]
        shifted = {i: _shift(values[i], graph.tensors[i], 1) for i in wanted}
        return shifted if keep else shifted[last]

    return run


def _ops(graph: Graph) -> list[Op]:
    """The ops up to the logits."""
    last = logits_of(graph)
    at = next((i for i, op in enumerate(graph.ops) if op.output == last), -1)
    return list(graph.ops[: at + 1])


def _shift(values: Any, tensor: Tensor, sign: int) -> Any:
    """Between codes and codes less the zero point (``sign`` -1 subtracts it), and between the gradients of codes and of reals."""
    scale, zero = grid(tensor)
    shifted = engine.tensorflow().custom_gradient(lambda v: (v + sign * zero, lambda upstream: upstream * scale**-sign))
    return shifted(values)


class SteSource:
    """A :class:`~edgeq.core.protocols.Differentiable` on the dequantised logits of an integer graph.

    ``codes``: pixels to input codes. Images are rounded to pixels forwards and passed straight through backwards.
    """

    def __init__(self, graph: Graph, codes: PixelCodes, runtime: str = "litert-xnnpack", clamp: str = "clipped", batch: int = 128) -> None:
        tf = engine.tensorflow()
        self.name, self.batch, self.graph, self._runtime = f"ste of {runtime}", batch, graph, runtime
        given, answer = graph.tensors[graph.input], graph.tensors[logits_of(graph)]
        self._scale, self._zero = grid(answer)
        table = tf.constant(codes.table.astype(np.float32))
        pixels = np.arange(256.0)
        centred = pixels - pixels.mean()
        slope = tf.constant(255 * (centred @ codes.table.astype(np.float64)) / (centred @ centred), tf.float32)  # codes per unit of x
        network, found = executor(graph, runtime, clamp), image_layout((1, *given.shape))
        assert found is not None  # it was probed as a classifier of images
        shape, layout = found
        channels = np.arange(shape[2])

        @tf.custom_gradient
        def enter(x: Any) -> Any:
            if codes.shift is not None:
                return tf.round(255 * x) + codes.shift, lambda upstream: upstream * slope
            pixel = tf.cast(tf.round(255 * x), tf.int32)
            where = tf.stack([pixel, tf.broadcast_to(channels.astype(np.int32), tf.shape(pixel))], axis=-1)
            return tf.gather_nd(table, where), lambda upstream: upstream * slope

        def forward(x: Any) -> Any:
            entered = enter(x) if layout == "nhwc" else tf.transpose(enter(x), (0, 3, 1, 2))
            return (network(tf.reshape(entered, (-1, *given.shape))) - self._zero) * self._scale

        self._gradients = Gradients(forward, shape, batch)

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, Pullback]:
        """``(n, classes) float32`` logits of ``x (n, h, w, c) float32`` in [0, 1], rounded to pixels as the sensor does; and their
        pullback, straight through every rounding."""
        return self._gradients.logits(x)

    def fused(self, objective: Objective) -> Fused | None:
        """Of cross-entropy and margin; see :class:`~edgeq.core.protocols.Fuses`."""
        return self._gradients.fused(objective)

    def answer_float(self, x: np.ndarray) -> Answer:
        """Logits of ``(n, h, w, c) float32`` images in [0, 1], rounded to pixels as the sensor does."""
        return Answer("logits", self._gradients.values(x))

    def identity(self) -> dict[str, Any]:
        """What its gradients depend on beside the file, in their last bits."""
        return {"rounding": self._runtime, **engine.identity(), "batch": self.batch}
