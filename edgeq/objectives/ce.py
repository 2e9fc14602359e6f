"""Cross-entropy of the true class (Goodfellow, Shlens, Szegedy 2015); of a wanted class its negative (Kurakin, Goodfellow, Bengio 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeq.core.protocols import Objective


@dataclass(frozen=True)
class CE:
    """``-log p_y``; ``log p_w`` where the class w is wanted. The slope is ``p - onehot(y)``, or ``onehot(w) - p``."""

    def __call__(self, logits: np.ndarray, labels: np.ndarray, wanted: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`~edgeq.core.protocols.Objective`."""
        rows, of = np.arange(len(logits)), labels if wanted is None else wanted
        top = logits.max(axis=1)
        odds = np.exp(logits - top[:, None])
        total = odds.sum(axis=1)
        loss = np.log(total) + (top - logits[rows, of])  # in this order: of a confident row the bracket is 0, and the log is not lost
        slope = odds / total[:, None]
        slope[rows, of] -= 1
        return (loss, slope) if wanted is None else (-loss, -slope)


plugin: type[Objective] = CE
