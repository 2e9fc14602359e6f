"""What an attack can tell of its own course, row by row: whether its gradients, or its differences of scores, said anything at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Arrays whose first axis is the row, ``n`` of them; None for what a method does not have."""

    trace: np.ndarray | None = None  # (n, evaluations) float32: the loss at each point whose gradient was taken, in order
    zero: np.ndarray | None = None  # (n,) bool: the first gradient was exactly zero in every pixel
    zero_pixels: np.ndarray | None = None  # (n,) int64: pixels (each channel for itself) whose first gradient was exactly zero
    differences: np.ndarray | None = None  # (n,) int64: differences of two answers that steps were made of
    zero_differences: np.ndarray | None = None  # (n,) int64: those that were exactly zero
    first: np.ndarray | None = None  # (n,) int64: queries until the first success, the clean check included; -1 where there was none

    def take(self, index: np.ndarray | slice) -> Diagnostics:
        """Those of the rows ``index``: ints, or one bool a row."""
        return Diagnostics(**{name: value[index] for name, value in self._present().items()})

    @staticmethod
    def concatenate(parts: Sequence[Diagnostics]) -> Diagnostics:
        """Those of all rows of ``parts``, which come from one attack. Raises ValueError where one has what another lacks."""
        present = [part._present() for part in parts]
        if any(p.keys() != present[0].keys() for p in present):
            raise ValueError("diagnostics of different attacks cannot be concatenated")
        return Diagnostics(**{name: np.concatenate([p[name] for p in present]) for name in (present[0] if present else ())})

    @staticmethod
    def where(mask: np.ndarray, a: Diagnostics, b: Diagnostics) -> Diagnostics:
        """Row by row those of ``a`` where ``mask (n,) bool`` is set, else of ``b``; what only one of them has is None."""
        mine, other = a._present(), b._present()
        return Diagnostics(**{k: np.where(mask.reshape(-1, *[1] * (v.ndim - 1)), v, other[k]) for k, v in mine.items() if k in other})

    def _present(self) -> dict[str, np.ndarray]:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
