"""Whether a network normalises its own input, read off its graph: then pixels go in as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.keras import engine

PASS = {"Identity", "StopGradient", "Cast", "ResizeBilinear", "ResizeNearestNeighbor", "ResizeArea"}
SCALES = {"Mul", "AddV2", "Add", "Sub", "RealDiv"}
LEAST, MOST = 0.5, 10.0
"""What a network is fed spans at least this much, and reaches no further from 0, in every scheme of normalisation that is in use."""


@dataclass(frozen=True, eq=False)
class Normalised:
    """The network's first layers compute ``gain * x + offset``, ``(c,) float64`` each."""

    gain: np.ndarray
    offset: np.ndarray

    @property
    def takes_pixels(self) -> bool:
        """Whether that makes of pixels 0..255, and of no smaller numbers, what networks are fed."""
        ends = np.stack([self.offset, 255 * self.gain + self.offset])
        return bool(np.abs(np.diff(ends, axis=0)).min() >= LEAST and np.abs(ends).max() <= MOST)

    def __str__(self) -> str:
        scale = ", ".join(f"1/{1 / v:.6g}" if 0 < v < 1 else f"{v:.6g}" for v in _few(self.gain))
        shift = f", offset {', '.join(f'{v:.6g}' for v in _few(self.offset))}" if self.offset.any() else ""
        return f"the network normalises its own input (Rescaling {scale}{shift})"


def of(function: Any) -> Normalised | None:
    """Of a frozen function of one image ``(b, h, w, c)``; None where nothing is done to its pixels before they are looked at."""
    channels = int(function.inputs[0].shape[-1])
    tensor, gain, offset = function.inputs[0], np.ones(channels), np.zeros(channels)
    while True:
        users = [op for op in tensor.consumers() if op.type not in ("Shape", "NoOp")]
        if len(users) != 1 or users[0].type not in PASS | SCALES:
            break
        op = users[0]
        if op.type in SCALES:
            place = next(i for i, value in enumerate(op.inputs) if value is tensor)
            number = _constant(function, op.inputs[1 - place], channels) if op.inputs[0] is not op.inputs[1] else None
            if number is None or (op.type == "RealDiv" and (place == 1 or not number.all())):
                break
            if op.type in ("Mul", "RealDiv"):
                factor = number if op.type == "Mul" else 1 / number
                gain, offset = gain * factor, offset * factor
            else:
                sign = -1.0 if op.type == "Sub" and place == 1 else 1.0
                gain, offset = gain * sign, offset * sign + (-number if op.type == "Sub" and place == 0 else number)
        tensor = op.outputs[0]
    if (gain == 1).all() and not offset.any():
        return None
    return Normalised(gain, offset) if np.isfinite(gain).all() and np.isfinite(offset).all() else None


def _constant(function: Any, tensor: Any, channels: int) -> np.ndarray | None:
    """``(c,) float64``: a number, or one a channel, that no image changes; else None."""
    if tensor.shape.num_elements() not in (1, channels):
        return None
    seen: set[str] = set()
    todo = [tensor.op]
    while todo:
        op = todo.pop()
        if op.type == "Placeholder":
            return None
        todo += [value.op for value in op.inputs if value.op.name not in seen]
        seen.update(value.op.name for value in op.inputs)
    tf = engine.tensorflow()
    image = tf.zeros([d or 1 for d in function.inputs[0].shape], function.inputs[0].dtype)
    value = np.asarray(function.prune(function.inputs, tensor)(image), np.float64)
    return np.broadcast_to(value.reshape(-1), channels) if value.size == 1 or value.shape[-1] == channels else None


def _few(values: np.ndarray) -> np.ndarray:
    """One number where all are alike."""
    return values[:1] if np.allclose(values, values[0], rtol=1e-6, atol=0) else values
