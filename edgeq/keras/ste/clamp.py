"""The end of every quantised op: zero point and clamp forwards, and what of the gradient passes backwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeq.integer.graph import Tensor
from edgeq.integer.ops import limits, quantisation
from edgeq.keras import engine

CLAMPS = ("clipped", "through")


def straight(output: Tensor, bounds: tuple[int, int], activation: str, clamp: str) -> Callable[[Any], tuple[Any, Any]]:
    """From codes less the zero point to ``(codes, mask of what passes backwards)``, float32.

    ``clamp``: "clipped" stops the gradient wherever the code was cut; "through" only where the float network's own activation is flat
    (below 0 of a ReLU, beyond 6 of a ReLU6), and lets it through where the range of the codes ran out. Which of the two makes the stronger
    attack depends on the network: a white-box figure is the worse of both for the defender.
    """
    tf = engine.tensorflow()
    zero = float(quantisation(output)[1])
    low, high = (float(b) for b in bounds)
    least, most = (float(b) for b in limits(output.dtype))
    ceiling = activation in ("relu6", "relu_n1_to_1")
    below = low if clamp == "clipped" or activation != "none" else float("-inf")
    above = high if clamp == "clipped" or (ceiling and high < most) else float("inf")
    if clamp == "through" and activation == "relu_n1_to_1" and low <= least:
        below = float("-inf")

    def run(codes: Any) -> tuple[Any, Any]:
        value = codes + zero
        passes = tf.cast((value >= below) & (value <= above), tf.float32)
        return tf.clip_by_value(value, low, high), passes

    return run
