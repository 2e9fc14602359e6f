"""BinaryConnect (Courbariaux, Bengio, David 2015, NeurIPS; arXiv:1511.00363): weights of two values.

Forward (equation 1)::

    w_b = H sign(w),    sign(0) = 1

Pseudo-gradient (B19's equation 1; the factor H stays out, as if the clipped w itself had been used)::

    dw_b/dw = H where |w| <= 1, else 0

H is Glorot's coefficient sqrt(1.5 / (fan in + fan out)), the option of the authors' own code: batch normalisation takes a constant away,
and the layers without one (ResNet8's shortcuts) need it. Codes are -1 and 1.
"""

from __future__ import annotations

import math
from typing import Any

from edgeq.core.plugin_types import Quantiser
from edgeq.keras.quantizers._base import Quantizer, straight, tf


class BinaryConnect(Quantizer):
    low, high = -1, 1
    h = 1.0

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        *field, into, out = (int(d) for d in tensor_shape)
        self.h = (1.5 / (math.prod(field) * (into + out))) ** 0.5
        return {}

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        return straight(tf.where(x >= 0, 1.0, -1.0), tf.clip_by_value(x, -1.0, 1.0)), tf.constant(self.h)

    def get_config(self) -> dict[str, Any]:
        return {"bits": 1}


class Method(Quantiser):
    weight_bits = (1, 1)

    def weights(self, bits: int, axis: int | None) -> Quantizer:
        return BinaryConnect(bits)


plugin: Quantiser = Method()
