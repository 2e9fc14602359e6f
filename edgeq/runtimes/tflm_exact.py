"""``tflm-exact``: the answers of TFLite Micro, bit by bit, by edgeq's integer simulator (:mod:`edgeq.integer.simulate`) made fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeq.core.runtime import Codes, Runtime
from edgeq.core.signature import Signature
from edgeq.runtimes._lanes import Lanes


@dataclass(frozen=True)
class Exact(Runtime):
    """numpy on a graph that edgeq has read and checked, so it needs no process of its own."""

    name = "tflm-exact"
    forms = (".tflite",)
    rank = 45
    listed = False
    stands_in_for = "tflm"
    simulated = True
    in_process = True

    def open(self, path: str | Path, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Lanes:
        from edgeq.runtimes import _exact

        return _exact.open(path, signature, codes, batch=batch, threads=threads)


plugin: Runtime = Exact()
