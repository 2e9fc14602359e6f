"""What goes into an image classifier and what comes out of it, from its file."""

from __future__ import annotations

import math

import numpy as np

from edgeq.core.answer import Kind
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature, Tensor
from edgeq.integer import classifier
from edgeq.integer import model as models


def signature_of(model: models.Model, output: str | None) -> Signature:
    """The signature of an image classifier, from its file. Raises :class:`EdgeqError`."""
    path = model.path
    if problem := classifier.classifier_problem(model, output):
        raise EdgeqError(f"{path}: {problem}")
    given, answer = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    kind = _kind(model, output)
    layout = classifier.image_layout(given.shape)
    assert layout is not None  # classifier_problem has looked
    shape = () if kind == "label" else (max(answer.shape[1:], default=1),)
    return Signature(_border(path, given, layout[0]), _border(path, answer, shape), kind, layout[1])


def _kind(model: models.Model, output: str | None) -> Kind:
    guessed = classifier.output_kind(model)
    is_label = model.tensors[model.outputs[0]].dtype in ("int32", "int64")
    if output is None and guessed is None:
        raise EdgeqError(
            f"{model.path}: the graph does not say what its output means; pass --output probs, --output logits or --output label"
        )
    kind = output or guessed
    if (kind == "label") != is_label:
        what = "a label" if is_label else "one score a class"
        raise EdgeqError(f"{model.path}: returns {what}, so --output {kind} does not fit")
    return kind  # type: ignore[return-value]


def _border(path: str, tensor: models.Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor.dtype not in ("int8", "uint8", "int16") or not tensor.scales.size:
        return Tensor(shape, tensor.dtype)
    scale, zero = float(tensor.scales[0]), int(tensor.zeros[0]) if tensor.zeros.size else 0
    bounds = np.iinfo(tensor.dtype)
    if not (math.isfinite(scale) and scale > 0 and bounds.min <= zero <= bounds.max):
        raise EdgeqError(f"{path}: the scale {scale:g} and zero point {zero} of tensor {tensor.name!r} make no sense; the model is damaged")
    return Tensor(shape, tensor.dtype, scale, zero)
