"""In what ONNX Runtime computes an ``.onnx``: the kernels of its optimised graph, counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq import runtimes


@dataclass(frozen=True)
class Kernels:
    """How often each integer kernel, and each float compute op that is left, stands in the graph."""

    integer: Mapping[str, int]
    float: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As ``edgeq inspect --json`` has it."""
        return asdict(self)


def kernels(onnx: Path) -> Kernels:
    """Of the file ``onnx``. Raises :class:`EdgeqError` where ONNX Runtime does not open it."""
    return Kernels(*runtimes.integer_kernels(onnx))
