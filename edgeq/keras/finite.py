"""NaN and infinity, looked for in the weights and gradients themselves: what a network answers may hide them.

On processors with VNNI, TensorFlow's default kernels (oneDNN's) fuse a convolution, dense layer or batch normalisation with the ReLU behind
it and turn NaN into 0. Losses and scores are finite then, whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.keras import engine


def broken(variables: Iterable[Any]) -> str | None:
    """The name of the first of these variables (of Keras 2 or 3) that contains NaN or infinity; None where all are finite."""
    for variable in variables:
        if not np.isfinite(variable.numpy()).all():
            return str(getattr(variable, "path", variable.name)).removesuffix(":0")
    return None


def diverged(model: Any, logs: Mapping[str, float]) -> str | None:
    """What of a Keras 2 model in training is not finite after an epoch, as half a sentence; None where all is.

    ``logs``: the epoch's losses. Of the gradients all are seen, back to the first: Adam's moments never lose what is not finite.
    """
    if name := broken(model.weights):
        return f"{name} contains NaN or infinity"
    if name := broken(model.optimizer.variables):
        return f"the gradients of {name.removeprefix('Adam/')[2:]}, or their squares, are not finite"  # Adam/m/NAME, Adam/v/NAME
    loss = next((key for key, value in logs.items() if not np.isfinite(value)), None)
    return f"its {'validation loss' if loss.startswith('val_') else 'loss'} is not finite" if loss else None


def graph(path: Path, frozen: Any) -> None:
    """Raises :class:`EdgeqError` for a frozen GraphDef with a constant that contains NaN, or infinity in more than one number.

    A single infinity may be the end of a clip, or what a mask fills in.
    """
    for node in frozen.node:
        if node.op != "Const":
            continue
        values = _stated(node.attr["value"].tensor)
        if np.isnan(values).any() or (node.attr["value"].tensor.tensor_shape.dim and np.isinf(values).any()):
            what = f"{node.name} contains NaN or infinity"
            raise EdgeqError(f"{path}: its weights are damaged, {what}; train it again, or get the file again")


def _stated(tensor: Any) -> np.ndarray:
    """The numbers a TensorProto states, if they are floats; of one number many times over just one, whatever size is declared."""
    dtype = engine.tensorflow().as_dtype(tensor.dtype)
    if not dtype.is_floating:
        return np.empty(0)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype.as_numpy_dtype)
    if tensor.half_val:  # the bits of float16 and bfloat16
        return np.array(tensor.half_val, np.uint16).view(dtype.as_numpy_dtype)
    return np.array(tensor.float_val or tensor.double_val, np.float64)
