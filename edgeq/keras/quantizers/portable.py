"""Portable int8: a network whose every layer multiplies by a power of two, and so is one function on every runtime.

Forward: LSQ (:mod:`.lsq`) on steps that are powers of two, halves rounded up as an integer shift rounds them::

    s = 2^round(log2 s'),    v_bar = floor(clip(v / s, -Qn, Qp) + 1/2),    v_hat = v_bar s

Weights have 6 bits (Qn = Qp = 31) and a step a channel, activations 8 bits, batch normalisation is folded before the training begins.
Then ``M = s_in s_w / s_out`` is a power of two; int8 holds the weights four times over, and in the room between two accumulators
every runtime's way of rounding comes to the same code. :mod:`edgeq.integer.certify` finds the biases, :mod:`edgeq.integer.portable`
proves it from the file.

Pseudo-gradient: LSQ's; the rounding of the exponent passes it on (trained power-of-two scales: Jain, Gural, Wu, Dick 2020, MLSys).
"""

from __future__ import annotations

import math
from typing import Any

from edgeq.core.plugin_types import Quantiser
from edgeq.keras.quantizers._base import Quantizer, rounded, straight, tf
from edgeq.keras.quantizers.lsq import LSQ


class Portable(LSQ):
    ties = "up"

    def step_of(self, variables: dict[str, Any]) -> Any:
        return tf.pow(2.0, rounded(tf.math.log(super().step_of(variables)) / math.log(2.0)))

    def round(self, x: Any) -> Any:
        return straight(tf.floor(x + 0.5), x)


class Method(Quantiser):
    weight_bits, activation_bits = (6, 6), (8, 8)
    spelled = False  # it is tfmot:portable

    def weights(self, bits: int, axis: int | None) -> Quantizer:
        return Portable(bits, axis)

    def activations(self, bits: int) -> Quantizer:
        return Portable(bits, signed=False, images=True)

    def branches(self, bits: int) -> Quantizer:
        return Portable(bits, images=True)


plugin: Quantiser = Method()
