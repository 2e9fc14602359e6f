"""The TensorFlow twins of some :mod:`edgeq.objectives`, untargeted: one number a row, on logits. What a source fuses with its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeq.core.protocols import Objective
from edgeq.keras import engine
from edgeq.objectives.ce import CE
from edgeq.objectives.margin import Margin

Twin = Callable[[Any, Any], Any]
"""``(logits (m, k), labels (m,) int64, all below k) -> (m,) float32``, tensors; larger is worse for the defender."""


def ce(logits: Any, labels: Any) -> Any:
    """As :class:`~edgeq.objectives.ce.CE`."""
    return engine.tensorflow().nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def margin(logits: Any, labels: Any) -> Any:
    """As :class:`~edgeq.objectives.margin.Margin`."""
    tf = engine.tensorflow()
    mine = tf.one_hot(labels, logits.shape[1], on_value=True, off_value=False, dtype=tf.bool)
    own = tf.reduce_sum(tf.where(mine, logits, 0.0), axis=1)
    return tf.reduce_max(tf.where(mine, -float("inf"), logits), axis=1) - own


TWINS: dict[Objective, Twin] = {CE(): ce, Margin(): margin}
