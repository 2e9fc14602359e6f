"""Of several candidates a row the one that is worst for the defender (docs/concepts.md: *Straight-through*)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.core.diagnostics import Diagnostics
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.protocols import Crafted, Target


def worst(made: Sequence[Crafted], target: Target | None, labels: np.ndarray, goal: Goal = UNTARGETED) -> Crafted:
    """Row by row what reaches the ``goal`` on ``target``, and of equals the higher loss, the earlier where they are equal too.

    So a row stands on ``target`` only if it withstands all. ``made``: of the same ``n`` rows; ``labels``: ``(n,) int64``. Where there is
    only one, ``target`` is not asked and may be None.
    """
    kept = made[0]
    if len(made) == 1 or target is None:
        return kept
    reached = goal.reached(target.answer(kept.candidates), labels)
    for other in made[1:]:
        also = goal.reached(target.answer(other.candidates), labels)
        worse = (also & ~reached) | ((also == reached) & (other.loss > kept.loss))
        image = worse[:, None, None, None]
        kept = Crafted(
            np.where(image, other.candidates, kept.candidates),
            np.where(image, other.iterates, kept.iterates),
            np.where(worse, other.loss, kept.loss),
            Diagnostics.where(worse, other.diagnostics, kept.diagnostics),
        )
        reached |= also
    return kept
