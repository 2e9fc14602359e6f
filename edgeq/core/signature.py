"""What goes into an artifact and what comes out of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.core.answer import Kind


@dataclass(frozen=True)
class Tensor:
    """One tensor at the border of a graph. ``shape`` without the batch axis; ``value = scale * (code - zero)``, 1 and 0 for floats."""

    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    zero: int = 0


@dataclass(frozen=True)
class Signature:
    """An image classifier: ``input.shape`` is ``(h, w, c)``, ``output.shape`` ``(classes,)``, or ``()`` for a label."""

    input: Tensor
    output: Tensor
    kind: Kind

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart; None where it returns a bare label."""
        return self.output.shape[0] if self.output.shape else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Signature:
        def tensor(v: dict[str, Any]) -> Tensor:
            return Tensor(tuple(v["shape"]), v["dtype"], v["scale"], v["zero"])

        return cls(tensor(value["input"]), tensor(value["output"]), value["kind"])
