"""What the names in an ``.onnx`` file stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeq.integer import model as models
from edgeq.integer.read_tflite import SCALES

IMAGE = (2, 0, 1)  # a tensor (h, w, c), seen as (c, h, w)


class UnfitError(ValueError):
    """Why an op cannot be read."""


@dataclass(frozen=True)
class Steps:
    """``value = scale * (code - zero)`` of an activation."""

    scale: np.float32
    zero: int
    dtype: str


@dataclass(frozen=True, eq=False)
class Value:
    """What a name of the file stands for: the tensor ``tensor`` of the graph, its axis ``axes[i]`` seen as axis ``i``, without the batch;
    its codes, or with ``real`` their real values."""

    tensor: int
    axes: tuple[int, ...]
    real: bool


@dataclass(frozen=True, eq=False)
class Constant:
    """Stored numbers; dequantised ones have scales, along ``axis`` if there are several."""

    data: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    axis: int = 0

    def reals(self) -> np.ndarray:
        """float32."""
        if not len(self.scale):
            return self.data.astype(np.float32)
        shape = [-1 if i == self.axis and len(self.scale) > 1 else 1 for i in range(self.data.ndim)]
        return (self.data.astype(np.int64) - self.zero.reshape(shape)).astype(np.float32) * self.scale.reshape(shape)


Inputs = Sequence[Value | Constant]


def without_identities(model: models.Model) -> models.Model:
    """The model without ops that do nothing, as ONNX Runtime drops them before all else."""
    same: dict[int, int] = {}
    ops = []
    for op in model.ops:
        op = replace(op, inputs=tuple(same.get(i, i) for i in op.inputs))
        if op.name in ("Identity", "Dropout") and op.inputs and op.outputs and op.outputs[0] not in model.outputs:
            same[op.outputs[0]] = op.inputs[0]
        else:
            ops.append(op)
    return replace(model, ops=tuple(ops))


def checked(steps: Steps) -> Steps:
    """``steps`` if they are within reason."""
    if steps.dtype not in ("int8", "uint8"):
        raise UnfitError(f"codes of {steps.dtype} have no kernels here")
    info = np.iinfo(steps.dtype)
    if not SCALES[0] <= steps.scale <= SCALES[1] or not info.min <= steps.zero <= info.max:
        raise UnfitError("a scale is not positive or beyond all reason, or a zero point beyond its type")
    return steps
