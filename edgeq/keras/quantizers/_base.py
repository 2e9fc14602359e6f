"""What the quantisers share: TF-MOT's API, the straight-through estimator, and a learned step that stays in its bounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeq.keras import engine


class _Late:
    """TensorFlow, imported when something of it is first used: what bits a method is defined for is known without."""

    def __getattr__(self, name: str) -> Any:
        return getattr(engine.tensorflow(), name)


tf: Any = _Late()
FLOOR, CEILING = 1 / 64, 64.0
"""How far a learned step may go from its start, as a factor. At the floor it is clipped; above the ceiling the training has failed."""
TINY = 1e-6  # the least step: that of a channel of zeros


def straight(forward: Any, surrogate: Any) -> Any:
    """``forward``, with the gradient of ``surrogate``. Exactly ``forward`` in float32: the rest is x - x."""
    return tf.stop_gradient(forward) + (surrogate - tf.stop_gradient(surrogate))


def rounded(x: Any) -> Any:
    """Nearest integer, ties to even; d rounded / dx = 1."""
    return straight(tf.round(x), x)


def bounded(gain: Any) -> Any:
    """Holds a gain at ``FLOOR`` after each step of the optimiser, from where it can rise again."""
    return tf.maximum(gain, FLOOR)


class Quantizer:
    """What TF-MOT's wrapper calls. A method says how a tensor parts into integer codes and a step (:meth:`split`); its value is their
    product.

    ``low``, ``high``: the least and largest code. ``sized``: it has a step or clip of its own, stored as ``start * gain``: the start is set
    once from data (:meth:`begin`), the gain starts at 1. ``learned``: the gain is trained; Adam's updates are relative to a step's size.
    ``ties``: where a value between two codes goes, see :class:`edgeq.keras.lowbit.trained.Grid`. ``axis``: the tensor's channels, for one
    step a channel; None for one step a tensor.
    """

    low: int
    high: int
    bits: int
    sized = False
    learned = False
    decay = 0.0  # of the gain: L2
    ties = "even"

    def __init__(self, bits: int = 1, axis: int | None = None) -> None:
        self.bits, self.axis, self.beginning = bits, axis, False

    def split(self, x: Any, variables: dict[str, Any]) -> tuple[Any, Any]:
        """``(codes, step)`` of a float32 tensor: integers as float32 in its shape, and what multiplies them; both with their gradients."""
        raise NotImplementedError

    def begin(self, x: Any) -> Any:
        """The start of a step or clip, from a first tensor: LSQ's ``2 mean|x| / sqrt(high)``, but no more than reaches its maximum."""
        axes = self._axes(x.shape)
        size = tf.abs(x)
        largest = tf.reduce_max(size, axes, keepdims=self.axis is not None)
        mean = tf.reduce_mean(size, axes, keepdims=self.axis is not None)
        return tf.maximum(tf.minimum(2 * mean / self.high**0.5, largest / self.high), TINY)

    def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
        if not self.sized:
            return {}
        shape = () if self.axis is None else tuple(d if i in self._channels(tensor_shape) else 1 for i, d in enumerate(tensor_shape))
        keep = tf.keras.regularizers.L2(self.decay) if self.decay else None
        start = layer.add_weight(f"{name}_start", shape, initializer="ones", trainable=False)
        gain = layer.add_weight(f"{name}_gain", shape, initializer="ones", trainable=self.learned, constraint=bounded, regularizer=keep)
        return {"start": start, "gain": gain}

    def __call__(self, inputs: Any, training: Any, weights: dict[str, Any], **kwargs: Any) -> Any:
        if self.beginning and self.sized:
            weights["start"].assign(self.begin(inputs))
            weights["gain"].assign(tf.ones_like(weights["gain"]))
        codes, step = self.split(inputs, weights)
        return codes * step

    @staticmethod
    def size(variables: dict[str, Any]) -> Any:
        """The step or clip, never below its floor: in training and export alike."""
        return variables["start"] * tf.maximum(variables["gain"], FLOOR)

    def levels(self, x: Any, variables: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """``(codes int32 in the shape of x, step float32 () or (channels,))``: the very numbers that training multiplies, as numpy."""
        codes, step = self.split(tf.convert_to_tensor(x, tf.float32), variables)
        flat = np.asarray(step, np.float32)
        return codes.numpy().astype(np.int32), flat.reshape(-1 if self.axis is not None and flat.ndim else ())

    def unit(self, variables: dict[str, Any]) -> Any:
        """The step of a quantiser whose step does not depend on the tensor (all but one-bit DoReFa weights), as a float32 tensor."""
        shape = variables["gain"].shape if self.axis is not None and self.sized else (1,)
        step = self.split(tf.zeros(shape), variables)[1]
        return tf.reshape(step, (-1,) if self.axis is not None and step.shape.rank else ())

    def step(self, variables: dict[str, Any]) -> np.ndarray:
        """:meth:`unit` as numpy, exactly as :meth:`levels` has it."""
        return np.asarray(self.unit(variables))

    def _channels(self, shape: Any) -> tuple[int, ...]:
        return () if self.axis is None else (self.axis % len(shape),)

    def _axes(self, shape: Any) -> list[int]:
        """The axes a statistic is taken over."""
        return [i for i in range(len(shape)) if i not in self._channels(shape)]

    def get_config(self) -> dict[str, Any]:
        return {"bits": self.bits, "axis": self.axis}
