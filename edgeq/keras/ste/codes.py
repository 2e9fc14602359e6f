"""Forward passes of quantised ops out of the simulator's own kernels: a table of all codes, float arithmetic that was compared with such a
table, or the kernel itself in numpy.

Codes go in less their zero points, float32, constants included. What comes out is ``(codes, codes before the clamp or None)``, alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import Call, limits, padding, quantisation
from edgeq.integer.simulate import KERNELS, ways
from edgeq.keras import engine
from edgeq.keras.ste.clamp import bounds, clip
from edgeq.keras.ste.real import REAL, Function

Kernel = Callable[..., tuple[Any, Any]]


def grid(tensor: Tensor) -> tuple[float, float]:
    """Scale and zero point; 1 and 0 of a float tensor, whose values are its reals."""
    return (float(tensor.scale[0]), float(tensor.zero[0])) if tensor.quantised else (1.0, 0.0)


def one_input(call: Call) -> Kernel:
    """A function of one code: a table of 256."""
    table = _table(call)
    return lambda x: (table(x), None)


def _table(call: Call) -> Function:
    tf = engine.tensorflow()
    rank = len(call.given.shape)
    outputs = tf.constant(centred(KERNELS[call.op.kind](call)(_every(call.given).reshape(256, *[1] * rank)), call.output).reshape(-1))
    offset = grid(call.given)[1] - limits(call.given.dtype)[0]
    return lambda x: tf.gather(outputs, tf.cast(x + offset, tf.int32))


def _every(tensor: Tensor) -> np.ndarray:
    low, high = limits(tensor.dtype)
    return np.arange(low, high + 1).astype(tensor.dtype)


def centred(codes: np.ndarray | None, tensor: Tensor) -> np.ndarray:
    """Codes less the tensor's zero point, float32; a float tensor's values."""
    assert codes is not None
    return codes.astype(np.float32) - np.float32(grid(tensor)[1])


def two_inputs(call: Call) -> Kernel:
    """A function of two codes: a table of 65,536, or a rounded float formula that equals it everywhere."""
    tf = engine.tensorflow()
    a, b = (t for t in call.inputs if t is not None)
    left, right = _every(a)[:, None], _every(b)[None]
    table, *others = (centred(way(left, right), call.output) for way in ways(call))
    if any(not np.array_equal(table, other) for other in others):
        return simulated(call)  # it depends on the element's place
    for dtype, formula in _formulas(call):
        if np.array_equal(
            np.clip(formula(np.rint, *(centred(c, t).astype(dtype) for c, t in ((left, a), (right, b)))), *bounds(call)), table
        ):

            def run(x: Any, y: Any, formula: Function = formula, dtype: str = dtype) -> tuple[Any, Any]:
                before = tf.cast(formula(tf.round, tf.cast(x, dtype), tf.cast(y, dtype)), tf.float32)
                return clip(before, *bounds(call)), before

            return run
    outputs = tf.constant(table.reshape(-1))
    first = 256 * (grid(a)[1] - limits(a.dtype)[0]) + grid(b)[1] - limits(b.dtype)[0]
    return lambda x, y: (tf.gather(outputs, tf.cast(256 * x + (y + first), tf.int32)), None)


def _formulas(call: Call) -> Iterator[tuple[str, Function]]:
    """What may be equal to the kernel: the real sum or product, rounded, with halves pushed upwards or away from zero by very little."""
    if call.op.kind not in ("add", "sub", "mul"):
        return
    (sa, _), (sb, _), (so, _) = (grid(t) for t in (*call.inputs[:2], call.output) if t is not None)
    ratio = {"add": sb / sa, "sub": -sb / sa, "mul": 0.0}[call.op.kind]
    slope = sa * sb / so if call.op.kind == "mul" else sa / so
    nudges = [(0.0, 0.0), *((n, 0.0) for n in (2.0**-16, 2.0**-20)), *((0.0, n) for n in (2.0**-16, 2.0**-20))]
    for dtype in ("float32", "float64"):
        for up, out in nudges:

            def formula(rint: Function, x: Any, y: Any, factor: float = slope * (1 + out), up: float = up) -> Any:
                # a product of codes is whole: rounding it only keeps TensorFlow from multiplying a constant factor with the slope
                inner = rint(x * y) if not ratio else x + y if ratio == 1 else x + y * ratio
                return rint(inner * factor + up if up else inner * factor)

            yield dtype, formula


def concatenation(call: Call) -> Kernel:
    """Codes side by side; those of another scale through a table."""
    join = REAL["concatenation"](call)
    given = [t for t in call.inputs if t is not None]
    steps = [_table(replace(call, inputs=(replace(t, data=None),))) for t in given]
    return lambda *parts: (join(*(step(p) for step, p in zip(steps, parts, strict=True))), None)


def average_pool(call: Call) -> Kernel:
    """The mean of the codes inside the image, halves away from code 0 or the ``centre``, from the sum that the float mean stands for.

    Not divided by the count: TensorFlow would make that a product with a reciprocal of its own, and 1/4 of it is .24999999. The further
    half keeps every quotient off the whole numbers by more than float32's error.
    """
    tf = engine.tensorflow()
    if call.runtime == "ort" and "centre" not in call.op.options:  # it adds reals up
        return simulated(call)
    o, zero, mean = call.op.options, quantisation(call.given)[1], REAL["average_pool"](call)
    from_centre = zero - o.get("centre", 0)
    size, (sh, sw), (oh, ow) = call.given.shape[:2], o["stride"], call.output.shape[:2]
    inside = np.pad(np.ones(size, np.float32), padding(size, o["window"], o["stride"], (1, 1), o["padding"] == "same"))
    windows = np.lib.stride_tricks.sliding_window_view(inside, o["window"])[: (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
    count = windows.sum((2, 3))[..., None]
    half, reciprocal = count // 2 + np.float32(0.5), 1 / count

    def run(x: Any) -> tuple[Any, Any]:
        total = tf.round(mean(x) * count) + from_centre * count
        before = tf.sign(total) * tf.floor((tf.abs(total) + half) * reciprocal) - from_centre
        return clip(before, *bounds(call)), before

    return run


def simulated(call: Call) -> Kernel:
    """The simulator's kernel itself."""
    tf = engine.tensorflow()
    step, given = KERNELS[call.op.kind](call), [t for t in call.inputs if t is not None]

    def kernel(*arrays: np.ndarray) -> np.ndarray:
        return centred(step(*((a + np.float32(grid(t)[1])).astype(t.dtype) for a, t in zip(arrays, given, strict=True))), call.output)

    def run(*values: Any) -> tuple[Any, Any]:
        return tf.ensure_shape(
            tf.numpy_function(kernel, values, tf.float32, stateful=False), (values[0].shape[0], *call.output.shape)
        ), None

    return run
