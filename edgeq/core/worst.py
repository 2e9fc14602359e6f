"""Of several candidates a row the one that is worst for the defender (docs/concepts.md: *Straight-through*)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.core.protocols import Crafted, Target


def worst(made: Sequence[Crafted], target: Target | None, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidates ``(n, h, w, c) uint8`` and their losses ``(n,) float32``: what fools ``target``, and of equals the higher loss.

    So a row counts as right on ``target`` only if it withstands all. ``labels``: ``(n,) int64``. Where there
    is only one, ``target`` is not asked and may be None.
    """
    candidates, loss = made[0].candidates, made[0].loss
    if len(made) == 1 or target is None:
        return candidates, loss
    fooled = target.answer(candidates).fooled(labels)
    for other in made[1:]:
        also = target.answer(other.candidates).fooled(labels)
        worse = (also & ~fooled) | ((also == fooled) & (other.loss > loss))
        candidates = np.where(worse[:, None, None, None], other.candidates, candidates)
        fooled, loss = fooled | also, np.where(worse, other.loss, loss)
    return candidates, loss
