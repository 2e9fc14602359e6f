"""Is a ``.tflite`` one function on several runtimes? What :mod:`edgeq.integer.portable` proves of it, or why it cannot be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.integer.model import Model
from edgeq.integer.portable import Proof, prove
from edgeq.integer.read_tflite import REMEDY, from_model


@dataclass(frozen=True)
class Portability:
    """``sentence``: for a reader; ``proof``: op by op, None where nothing could be asked."""

    sentence: str
    proof: Proof | None = None

    def to_json(self) -> dict[str, Any]:
        """As sidecars and ``edgeq inspect --json`` have it: ``holds`` is None where nothing could be asked."""
        return self.proof.to_json() if self.proof else {"holds": None, "sentence": self.sentence}


def portability(model: Model, runtimes: Sequence[str]) -> Portability:
    """Of a ``.tflite`` that was read, on those ``runtimes`` that run it; from the file alone, nothing is run."""
    try:
        proof = prove(from_model(model), runtimes)
    except EdgeqError as error:
        return Portability(f"not known: {str(error).removeprefix(f'{model.path}: ').removesuffix(f'; {REMEDY}')}")
    return Portability(str(proof), proof)
