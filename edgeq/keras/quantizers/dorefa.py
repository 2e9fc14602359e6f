"""DoReFa-Net (Zhou, Wu, Ni, Zhou, Wen, Zou 2016; arXiv:1606.06160), the method of B19 for 2 to 4 bits.

Forward, with Q of B19's equation 3, ``Q(x, n) = round((2^n - 1) x) / (2^n - 1)`` for x in [0, 1]::

    weights (equation 9):       w_q = 2 Q(tanh(w) / (2 max|tanh(w)|) + 1/2, n) - 1
    one-bit weights (eq. 7):    w_q = sign(w) mean|w|
    activations (section 2.5):  a_q = c Q(clip(a / c, 0, 1), n), the paper's c is 1

Pseudo-gradient: round and sign pass it on (dQ/dx = 1; at one bit dw_q/dw = 1), tanh and clip are differentiated, the maximum is a constant.
So the levels of weights are the odd multiples of 1 / (2^n - 1) up to 1: codes -(2^n - 1), ..., -1, 1, ..., 2^n - 1, and never zero.
From 2 bits on the whole is multiplied by Glorot's bound sqrt(6 / (fan in + fan out)), a constant of the layer: batch normalisation takes
it away, and without it ResNet8's shortcuts, which have none, drown the other branch (w2a2 did not learn).
So does it with the range c of activations, a constant of the layer too, set once from data, where PACT's learned clip starts: a network
that was trained float has activations up to 20, and ResNet8, cut off at the paper's 1, stayed at chance (w4a4).
Gradients are not quantised here: that serves cheap training, not the network that ships.
"""

from __future__ import annotations

import math
from typing import Any

from edgeq.core.plugin_types import Quantiser
from edgeq.keras.quantizers._base import TINY, Quantizer, rounded, straight, tf


class Weights(Quantizer):
    def __init__(self, bits: int, axis: int | None = None) -> None:
        super().__init__(bits, axis)
        self.scale = 1.0
        self.high = 2**bits - 1
        self.low = -self.high

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        *field, into, out = (int(d) for d in tensor_shape)
        self.scale = (6 / (math.prod(field) * (into + out))) ** 0.5
        return {}

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        axes, keep = self._axes(x.shape), self.axis is not None
        if self.bits == 1:
            mean = tf.stop_gradient(tf.maximum(tf.reduce_mean(tf.abs(x), axes, keepdims=keep), TINY))
            return straight(tf.where(x >= 0, 1.0, -1.0), x / mean), mean
        squashed = tf.tanh(x)
        largest = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(squashed), axes, keepdims=keep), TINY))
        codes = 2 * rounded(self.high * (squashed / (2 * largest) + 0.5)) - self.high
        return codes, tf.fill(tf.shape(largest), self.scale / self.high)


class Activations(Quantizer):
    sized = True

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.low, self.high = 0, 2**bits - 1

    def begin(self, x: Any) -> Any:
        return super().begin(x) * self.high

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        step = self.size(variables) / self.high
        return rounded(tf.clip_by_value(x / step, 0.0, self.high)), step

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits}


class Method(Quantiser):
    weight_bits = activation_bits = (1, 8)

    def weights(self, bits: int, axis: int | None) -> Quantizer:
        return Weights(bits, axis)

    def activations(self, bits: int) -> Quantizer:
        return Activations(bits)

    def notes(self, bits: int) -> tuple[str, ...]:
        if bits == 8:
            return ("DoReFa's 8-bit weights are odd multiples up to 255 of their step: no int8 kernel holds them; lsq:w8 fits",)
        if bits == 4:
            return ("DoReFa's 4-bit weights are odd multiples up to 15 of their step: they fit int8, not packed INT4; lsq:w4 does",)
        return ()


plugin: Quantiser = Method()
