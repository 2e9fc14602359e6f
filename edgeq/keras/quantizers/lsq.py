"""LSQ: learned step size quantisation (Esser, McKinstry, Bablani, Appuswamy, Modha 2020, ICLR; arXiv:1902.08153).

Forward (equations 1 and 2), with Qn, Qp = 2^(b-1), 2^(b-1) - 1 for weights and signed sums, 0, 2^b - 1 behind a ReLU::

    v_bar = round(clip(v / s, -Qn, Qp)),    v_hat = v_bar s

Pseudo-gradient (equations 3 and 5)::

    dv_hat/dv = 1 where -Qn < v/s < Qp, else 0
    dv_hat/ds = g (round(v/s) - v/s) inside, -g Qn below, g Qp above;    g = 1 / sqrt(N Qp)

N: the weights under one step, or the features of one image. Start: 2 mean|v| / sqrt(Qp), at most max|v| / Qp (at 8 bits the paper's start
would reach far beyond the data). The step is stored as start times gain; under Adam, which does not see the size of gradients, g and
that factor matter little. Signed codes of 6 bits and more end at -Qp: int8 then holds 6-bit weights four times over (4 x 31 = 124), the
room that certificates need, and 8-bit ones when a channel is negated.
"""

from __future__ import annotations

import math
from typing import Any

from edgeq.core.plugin_types import Quantiser
from edgeq.keras.quantizers._base import Quantizer, rounded, tf


class LSQ(Quantizer):
    """``signed``: weights and sums; else what comes out of a ReLU. ``images``: the first axis counts images, and not features."""

    sized = learned = True

    def __init__(self, bits: int, axis: int | None = None, signed: bool = True, images: bool = False) -> None:
        super().__init__(bits, axis)
        self.signed, self.images = signed, images
        self.high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.low = (-self.high - (bits < 6)) if signed else 0

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        counted = x.shape[1:] if self.images else [x.shape[i] for i in self._axes(x.shape)]
        g = (max(math.prod(counted), 1) * self.high) ** -0.5
        size = self.step_of(variables)
        step = tf.stop_gradient(size) + g * (size - tf.stop_gradient(size))
        return self.round(tf.clip_by_value(x / step, float(self.low), float(self.high))), step

    def step_of(self, variables: dict[str, Any]) -> Any:
        return self.size(variables)

    def round(self, x: Any) -> Any:
        return rounded(x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "signed": self.signed, "images": self.images}


class Method(Quantiser):
    weight_bits = (2, 8)  # at 1 bit its levels would be -1 and 0
    activation_bits = (1, 8)

    def weights(self, bits: int, axis: int | None) -> Quantizer:
        return LSQ(bits, axis)

    def activations(self, bits: int) -> Quantizer:
        return LSQ(bits, signed=False, images=True)


plugin: Quantiser = Method()
