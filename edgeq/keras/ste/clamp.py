"""The end of every quantised op: what of the gradient passes backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeq.integer.ops import Call, clamp_range, limits, quantisation
from edgeq.integer.ops.floats import BOUNDS
from edgeq.keras import engine

CLAMPS = ("clipped", "through")


def activation(call: Call) -> str:
    """The fused activation, or the op itself where it is one."""
    return str(call.op.kind if call.op.kind in BOUNDS else call.op.options.get("activation", "none"))


def bounds(call: Call) -> tuple[float, float]:
    """Least and greatest output code that the activation lets pass, less the zero point."""
    zero = quantisation(call.output)[1]
    low, high = clamp_range(call, activation(call))
    return float(low - zero), float(high - zero)


def clip(before: Any, low: float, high: float) -> Any:
    """In one pass, where ``tf.clip_by_value`` makes two."""
    return engine.tensorflow().raw_ops.ClipByValue(t=before, clip_value_min=low, clip_value_max=high)


def passing(call: Call, clamp: str) -> Callable[[Any, Any], Any]:
    """``(upstream gradient, codes before the clamp, less the zero point) -> the gradient that passes``.

    ``clamp``: "clipped" stops the gradient wherever the code was cut; "through" only where the float network's own activation is flat
    (below 0 of a ReLU, beyond 6 of a ReLU6), and lets it through where the range of the codes ran out. Which of the two makes the stronger
    attack depends on the network: a white-box figure is the worse of both for the defender.
    """
    if not call.output.quantised:
        return lambda upstream, before: upstream
    tf = engine.tensorflow()
    zero, (least, most) = quantisation(call.output)[1], limits(call.output.dtype)
    below, above = bounds(call)
    if clamp == "through":
        floor, ceiling = (abs(b) < float("inf") for b in BOUNDS[activation(call)])
        if not floor or (activation(call) == "relu_n1_to_1" and below <= least - zero):
            below = float("-inf")
        if not ceiling or above >= most - zero:
            above = float("inf")
    if below == float("-inf") and above == float("inf"):
        return lambda upstream, before: upstream
    return lambda upstream, before: tf.where(clip(before, below, above) == before, upstream, 0.0)
