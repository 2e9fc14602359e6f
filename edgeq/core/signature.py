"""What goes into an artifact and what comes out of it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

from edgeq.core.answer import Kind

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
LARGEST = 1 << 26  # values of an input or output


@dataclass(frozen=True)
class Tensor:
    """One tensor at the border of a graph. ``shape`` without the batch axis; ``value = scale * (code - zero)``, 1 and 0 for floats.

    ``name``: of an output that was chosen out of several; else "".
    """

    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    zero: int = 0
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        return value if self.name else {key: value[key] for key in ("shape", "dtype", "scale", "zero")}


@dataclass(frozen=True)
class Signature:
    """An image classifier: ``input.shape`` is ``(h, w, c)``, ``output.shape`` ``(classes,)``, ``(1,)`` for one score of two classes
    (:attr:`edgeq.core.answer.Answer.scores`), or ``()`` for a label.

    ``layout``: how the file's own input tensor lies in memory, "nhwc" or "nchw"; "" in runs of before this was recorded.
    """

    input: Tensor
    output: Tensor
    kind: Kind
    layout: str = "nhwc"

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart; None where it returns a bare label."""
        return max(2, self.output.shape[0]) if self.output.shape else None

    @property
    def width(self) -> int:
        """How many numbers it returns for an image."""
        return self.output.shape[0] if self.output.shape else 1

    @property
    def reading(self) -> str:
        """What its output is read as, in words."""
        if self.output.shape != (1,):
            return self.kind
        pair = "p, class 0 has 1 - p" if self.kind == "probs" else "it, class 0 has 0"
        return f"{self.kind}, one score of two classes: class 1 has {pair}, and equals are class 0"

    def to_json(self) -> dict[str, Any]:
        return {"input": self.input.to_json(), "output": self.output.to_json(), "kind": self.kind, "layout": self.layout}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Signature:
        """What :meth:`to_json` gave. Raises ValueError, TypeError or KeyError for anything that is no signature."""
        signature = cls(_tensor(value["input"]), _tensor(value["output"]), value["kind"], value.get("layout", ""))
        if signature.layout not in ("", "nhwc", "nchw") or signature.kind not in get_args(Kind):
            raise ValueError("a signature of no known kind")
        if len(signature.input.shape) != 3 or len(signature.output.shape) > 1:
            raise ValueError("a signature that is none of an image classifier")
        return signature


def _tensor(value: dict[str, Any]) -> Tensor:
    shape, scale, zero = tuple(value["shape"]), value["scale"], value["zero"]
    if not all(type(s) is int and s > 0 for s in shape) or math.prod(shape) > LARGEST:
        raise ValueError("a tensor of no possible shape")
    if value["dtype"] not in DTYPES or type(scale) not in (int, float) or not math.isfinite(scale) or type(zero) is not int:
        raise ValueError("a tensor of no known type")
    name = value.get("name", "")
    if not isinstance(name, str) or len(name) > 300:
        raise ValueError("a tensor of no possible name")
    return Tensor(shape, value["dtype"], scale, zero, name)
