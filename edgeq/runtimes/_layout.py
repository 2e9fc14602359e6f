"""How a file takes its images."""

from __future__ import annotations

import numpy as np

from edgeq.integer import classifier
from edgeq.integer.model import Model


def layout_of(model: Model) -> str:
    """``nhwc`` or ``nchw``."""
    layout = classifier.image_layout(model.tensors[model.inputs[0]].shape)
    return layout[1] if layout else "nhwc"


def as_images(tensor: np.ndarray, image: tuple[int, ...], layout: str) -> np.ndarray:
    """An input tensor seen as ``(m, h, w, c)``, whatever its layout; shares memory."""
    h, w, c = image
    if layout == "nchw":
        return tensor.reshape(-1, c, h, w).transpose(0, 2, 3, 1)
    return tensor.reshape(-1, h, w, c)


def widest(model: Model) -> int:
    """Bytes of the activations that the widest op reads and writes for one image."""

    def bytes_of(i: int) -> int:
        t = model.tensors[i]
        return t.elements * (4 if t.dtype in ("float32", "int32") else 1) if i >= 0 and t.data is None else 0

    return max((sum(map(bytes_of, {*op.inputs, *op.outputs})) for op in model.ops), default=1)
