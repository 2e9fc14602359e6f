"""B19's SVHN network (table 8): 128-128-256-128-512-512 filters; 96 % right there in full precision (table 2)."""

from __future__ import annotations

from typing import Any

from edgeq.core.plugin_types import Network
from edgeq.keras.nets import _b19


def build(width: float = 1.0, classes: int = 10, input_shape: tuple[int, int, int] = (32, 32, 3), pool_last: bool = False) -> Any:
    """``(h, w, c)`` raw pixels -> ``classes`` probabilities. See :mod:`edgeq.keras.nets._b19` for ``pool_last``."""
    return _b19.build((128, 128, 256, 128, 512, 512), "b19_svhn", width, classes, input_shape, pool_last)


plugin: Network = build
