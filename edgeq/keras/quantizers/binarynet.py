"""BinaryNet (Courbariaux, Hubara, Soudry, El-Yaniv, Bengio 2016; arXiv:1602.02830): weights and activations of two values.

Forward (equation 1), in the place of the ReLU::

    a_b = sign(a),    sign(0) = 1

Pseudo-gradient (equation 4: that of hard tanh; B19's equation 1)::

    da_b/da = 1 where |a| <= 1, else 0

Weights are BinaryConnect's. Zeros that pad an image stay zeros: a third value, which the paper's code has as well.
"""

from __future__ import annotations

from typing import Any

from edgeq.core.plugin_types import Quantiser
from edgeq.keras.quantizers._base import Quantizer, straight, tf
from edgeq.keras.quantizers.binaryconnect import BinaryConnect


class Sign(Quantizer):
    low, high = -1, 1
    ties = "sign"

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        return straight(tf.where(x >= 0, 1.0, -1.0), tf.clip_by_value(x, -1.0, 1.0)), tf.constant(1.0)

    def get_config(self) -> dict[str, Any]:
        return {"bits": 1}


class Method(Quantiser):
    weight_bits = activation_bits = (1, 1)

    def weights(self, bits: int, axis: int | None) -> Quantizer:
        return BinaryConnect(bits)

    def activations(self, bits: int) -> Quantizer:
        return Sign(bits)


plugin: Quantiser = Method()
