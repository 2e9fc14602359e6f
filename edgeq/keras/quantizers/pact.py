"""PACT: parameterised clipping activation (Choi, Wang, Venkataramani, Chuang, Srinivasan, Gopalakrishnan 2018; arXiv:1805.06085).

Forward (equations 1 and 2), with a learned clip alpha::

    y = min(max(x, 0), alpha),    y_q = round(y (2^k - 1) / alpha) alpha / (2^k - 1)

Pseudo-gradient (equation 3)::

    dy_q/dx = 1 where 0 < x < alpha, else 0
    dy_q/dalpha = 1 where x >= alpha, else 0

alpha is drawn to zero by an L2 term (section 3.1), here on its ratio to where it started. It starts where LSQ's step would put it: the
paper's large constant leaves a one-bit network dead, as nothing reaches alpha / 2. Weights: DoReFa's, as in the paper, or LSQ's.
"""

from __future__ import annotations

from typing import Any

from edgeq.core.plugin_types import Quantiser
from edgeq.keras.quantizers._base import Quantizer, rounded, tf


class PACT(Quantizer):
    sized = learned = True
    decay = 1e-4

    def __init__(self, bits: int) -> None:
        super().__init__(bits)
        self.low, self.high = 0, 2**bits - 1

    def begin(self, x: Any) -> Any:
        return super().begin(x) * self.high

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        alpha = self.size(variables)
        step = tf.stop_gradient(alpha) / self.high
        return rounded(tf.minimum(tf.nn.relu(x), alpha) / step), step

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits}


class Method(Quantiser):
    activation_bits = (1, 8)
    beside = "dorefa"

    def activations(self, bits: int) -> Quantizer:
        return PACT(bits)


plugin: Quantiser = Method()
