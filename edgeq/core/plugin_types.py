"""What the plugins of each kind are; of a runtime see :mod:`edgeq.core.runtime`, of an estimator :mod:`edgeq.core.estimate`."""

from __future__ import annotations

from typing import Any, Protocol

from edgeq.core.estimate import Estimator
from edgeq.core.protocols import Dataset, GradientAttack, QueryAttack

__all__ = ["Attack", "Estimator", "Network", "OpenDataset", "Quantiser"]

Attack = GradientAttack | QueryAttack
"""A frozen dataclass whose fields are its options."""


class OpenDataset(Protocol):
    """Opens what stands behind the colon of ``--data NAME:PATH``."""

    def __call__(self, spec: str, path: str, split: str, label_column: str | None = None, classes: int | None = None) -> Dataset:
        """``spec``: all that the user wrote; ``split``: test or train; ``label_column``: of a table of labels; ``classes``: the model's
        number of classes, where known. Raises :class:`EdgeqError` for what cannot be read."""
        ...


class Network(Protocol):
    """Builds a Keras network from raw pixels, 0..255 as float32, to probabilities."""

    def __call__(self, width: float = 1.0, classes: int = ..., input_shape: tuple[int, int, int] = ...) -> Any:
        """``width`` multiplies the numbers of filters; ``input_shape``: ``(h, w, c)``."""
        ...


class Quantiser(Protocol):
    """How weights, activations or both come to few levels. A class that derives from it has the defaults given here.

    Its module imports no TensorFlow, so that names and bits can be checked without.
    """

    weight_bits: tuple[int, int] | None = None  # the least and most bits that it is defined for; None: it does not quantise weights
    activation_bits: tuple[int, int] | None = None
    beside: str = ""  # of a quantiser of activations alone: whose weights stand beside it where no others are named
    spelled: bool = True  # False: no name on the command line, but part of another

    def weights(self, bits: int, axis: int | None) -> Any:
        """A :class:`edgeq.keras.quantizers._base.Quantizer` of a kernel. ``axis``: its channels, for one step a channel; None: one step."""
        return None

    def activations(self, bits: int) -> Any:
        """One of what comes out of a ReLU."""
        return None

    def branches(self, bits: int) -> Any:
        """One of the branches into a residual add, signed; None: LSQ's."""
        return None

    def notes(self, bits: int) -> tuple[str, ...]:
        """What somebody who wants to ship weights of so many bits should know before training."""
        return ()
