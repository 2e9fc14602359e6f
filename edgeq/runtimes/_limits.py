"""What a worker may take of the machine, from what its file declares: so that a small file is small, whatever its ops make at run time."""

from __future__ import annotations

import math

from edgeq.integer.model import Model, Op

BASE = 3 * 2**27  # bytes of memory that every worker may take: Python, numpy and an engine are a quarter of it
LANE = 2**24  # bytes more for a lane: a thread's stack, and the allocator's share
MOST = 2**29  # bytes for what the graph declares to hold at run time; a large file may declare more
SPEED = 1e8  # multiply-accumulates a second: of plain loops on a small machine, which try a quarter of the following
PROBED = 64  # images a file is tried on while it is opened, at most
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BATCH_MATMUL")  # ops whose weights may come out of another op


def activations(model: Model) -> int:
    """Bytes of all activations that a file declares for one image, in 4-byte numbers."""
    return sum(4 * t.elements for t in model.tensors if t.data is None)


def memory(size: int, activations: int, lanes: int) -> int:
    """Bytes of memory that most engines may take with a file open in so many lanes: below a GiB for a small file in two.

    Copies of the file, of ``size`` bytes, which every lane packs anew, and 16 times the declared ``activations`` a lane: a lane takes
    several images at once, quantised values are widened, and a convolution's windows unrolled.
    """
    declared = min(16 * lanes * activations, MOST + 16 * lanes * size)
    return BASE + lanes * LANE + (8 + 4 * lanes) * size + declared


def reading(size: int) -> float:
    """Seconds of processor time to read a file of ``size`` bytes."""
    return 1 + size / 2**20


def opening(model: Model, threads: int) -> float:
    """Seconds of processor time to open a file, every lane of it, and to try it."""
    return reading(model.size) * (1 + threads / 4) + (PROBED + threads) * sum(_work(model, op) for op in model.ops) / SPEED


def calibrating(model: Model, images: int) -> float:
    """Seconds of processor time to quantise a file by the ranges that so many images set."""
    return 3 + 4 * reading(model.size) + images * (0.01 + sum(_work(model, op) for op in model.ops) / SPEED)


def _work(model: Model, op: Op) -> float:
    """Multiply-accumulates of an op for one image, about: its weights at every position of its output, and 100 an element."""
    given, made = ([model.tensors[i] for i in which if i >= 0] for which in (op.inputs, op.outputs))
    positions = max((math.prod(abs(d) for d in t.shape[:-1]) for t in made), default=1)
    weights = sum(t.elements for i, t in enumerate(given) if t.data is not None or (i == 1 and op.name in _WEIGHTED))
    return float(positions) * weights + 100.0 * sum(t.elements for t in (*given, *made) if t.data is None)
