"""The TensorFlow twins of :mod:`edgeq.core.objective`: one number a row, on logits (docs/concepts.md: *Losses*)."""

from __future__ import annotations

from typing import Any

from edgeq.core.objective import Objective
from edgeq.keras import engine


def objective(name: Objective, logits: Any, labels: Any) -> Any:
    """``(m,) float32`` tensor, larger is worse for the defender. ``logits``: ``(m, k)``; ``labels``: ``(m,) int64``, all below k."""
    tf = engine.tensorflow()
    if name == "ce":
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    mine = tf.one_hot(labels, logits.shape[1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.reduce_sum(tf.where(mine, logits, 0.0), axis=1)
    return tf.reduce_max(tf.where(mine, -float("inf"), logits), axis=1) - own
