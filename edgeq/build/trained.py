"""A network that was trained: the content of the ``.edgeq.json`` beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq import __version__
from edgeq.keras.quantizers import Ends
from edgeq.keras.train import Fit, Fitted
from edgeq.measure.intervals import wilson


@dataclass(frozen=True)
class Setting:
    """What is trained on what. ``shape``: of an image, ``(h, w, c)``; ``labels``: the classes' names, where the data has them;
    ``unreadable``: names of the images of either split that were left out."""

    net: str
    width: float
    shape: tuple[int, int, int]
    classes: int
    preset: str | None
    data: str
    preprocess: str
    labels: Sequence[str] | None
    seed: int
    versions: Mapping[str, str]
    unreadable: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluation:
    """A network's answers to the ``n`` test images.

    ``right``: of them; ``tied``: the share on which classes share the top score; ``chance``: a warning where ``right`` is no better than
    chance, else "".
    """

    n: int
    right: int
    tied: float
    chance: str

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's, 95 %."""
        return wilson(self.right, self.n)

    def to_json(self) -> dict[str, Any]:
        """As the sidecar has it."""
        figures = {"n": self.n, "accuracy": self.accuracy, "tied": self.tied, "wilson95": list(self.interval)}
        return {**figures, "chance": bool(self.chance)}


@dataclass(frozen=True)
class Quantised:
    """How a network was quantised. ``quant``: "float", "tfmot:int8" or a :class:`~edgeq.keras.quantizers.Scheme` as a text; ``start``:
    the network that a quantised one began with; ``ends``: how a low-bit network's first and last layer are stored."""

    quant: str
    start: str | None = None
    ends: Ends | None = None

    def to_json(self) -> dict[str, Any]:
        """As the sidecar has it, without what does not apply."""
        record = {"from": self.start, "quant": self.quant, "ends": self.ends}
        return {key: value for key, value in record.items() if value is not None}


@dataclass(frozen=True)
class Trained:
    """A network that was trained and saved at ``path``. ``settled``: how many epochs followed after a low-bit network's thresholds
    settled; None where there are none."""

    path: Path
    setting: Setting
    quantised: Quantised
    fit: Fit
    fitted: Fitted
    settled: int | None
    test: Evaluation

    def to_json(self) -> dict[str, Any]:
        """The content of the sidecar beside the network."""
        fit = {"rate": self.fit.rate, "decay": self.fit.decay, "stairs": self.fit.stairs, "batch": self.fit.batch}
        return {
            "edgeq": __version__,
            "kind": "network",
            **asdict(self.setting),
            **self.quantised.to_json(),
            **asdict(self.fitted),
            **({} if self.settled is None else {"settled": self.settled}),
            "fit": {"optimiser": "Adam", **fit},
            "test": self.test.to_json(),
        }
