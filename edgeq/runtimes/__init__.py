"""Real interpreters as targets, one a file. A model file is opened, tried and asked in worker processes alone, so that one that crashes
an interpreter, hangs it or fills the memory gives a sentence, not a dead shell.

What is special about a runtime, its file says (:class:`edgeq.core.runtime.Runtime`). The float Keras network is :mod:`edgeq.keras`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import cpu, plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.runtime import Codes, Opened, Runtime
from edgeq.core.signature import Signature
from edgeq.runtimes._lanes import Lane, Lanes
from edgeq.runtimes._process import FASTER, START, Answering, LostError, Worker, WorkerError, shared_bytes
from edgeq.runtimes._quantise import FORM, quantise

__all__ = [
    "FORM",
    "Codes",
    "Lane",
    "Lanes",
    "LostError",
    "Opened",
    "WorkerError",
    "arena_bytes",
    "check_name",
    "integer_kernels",
    "listed",
    "open",
    "probe",
    "probe_all",
    "quantise",
    "real",
    "simulated",
]

MEMORY = 2**26  # bytes of images that a worker is sent at once, unless it has as many lanes
ROUNDS = 2 * FASTER  # batches that a worker has room for: a query attack asks for two at once, and one message costs less than several
OUTPUTS = ("probs", "logits", "label")


def probe(name: str, path: str | Path, timeout: float = START, output: str | None = None) -> Signature:
    """What goes into ``path`` and comes out of it, after ``name`` has opened it and answered two images in a worker.

    ``timeout``: seconds; ``output``: ``probs``, ``logits`` or ``label`` where the file does not say. Raises :class:`EdgeqError` with the
    reason why it cannot run, as one sentence; :class:`LostError` where that says nothing of the file.
    """
    return Signature.from_json(_asked(name, path, timeout, output)["signature"])


def probe_all(names: Sequence[str], path: str | Path, output: str | None = None, timeout: float = 60) -> dict[str, Signature | EdgeqError]:
    """:func:`probe` of several runtimes at once: a signature, or the error that says why not."""

    def one(name: str) -> Signature | EdgeqError:
        try:
            return probe(name, path, timeout, output)
        except EdgeqError as error:
            return error

    with ThreadPoolExecutor(max(len(names), 1)) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def listed(form: str = "") -> tuple[str, ...]:
    """The runtimes that are tried where none is named, in their order, those of them that run files of ``form``: ".tflite" or ".onnx".

    What another package offers and cannot be loaded is left out; :func:`edgeq.core.plugins.problems` names it.
    """
    return tuple(r.name for r in _ordered() if r.listed and (not form or form in r.forms))


def real(name: str) -> str:
    """The runtime that ``name`` is, or stands in for."""
    return next((r.stands_in_for for r in _ordered() if r.name == name and r.stands_in_for), name)


def simulated(name: str) -> bool:
    """Whether the integer simulator knows the rounding of ``name``, as that of :func:`real`."""
    return any(r.simulated for r in _ordered() if r.name == name)


def open(
    name: str, path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None
) -> Opened | Answering:
    """The file ``path``, already probed, in the runtime ``name``: a :class:`~edgeq.core.protocols.Target` in a worker, or several.

    ``codes``: the pixel-to-input map. ``batch``: images asked at once, where that is enough to fill the lanes; up to ``FASTER`` times as
    many of a file that answers them in next to no time.
    ``threads``: lanes, or processes of one lane where the engine holds Python's lock; by default as many as there are cores. Answers
    depend on neither.
    """
    threads, runtime = threads or cpu.count(), _load(name)
    if runtime.in_process:
        return runtime.open(path, signature, codes, batch=batch, threads=threads)
    processes = threads if runtime.holds_lock else 1
    lanes = threads // processes
    fits = MEMORY // int(np.prod(signature.input.shape))
    share = max(lanes, min(fits, -(-max(batch, lanes) // processes)))
    request = {
        "task": "answer",
        "name": name,
        "path": str(path),
        "signature": signature.to_json(),
        "codes": codes.to_json(),
        "batch": share,
        "threads": lanes,
        "share": (room := min(fits, ROUNDS * share) if fits > share else share),
    }
    workers = [Worker(request, shared_bytes(signature, room)) for _ in range(processes)]
    return Answering(signature, workers, room, max(1, batch // (share * processes)) * share * processes)


def arena_bytes(path: str | Path, timeout: float = START) -> int:
    """Bytes of tensor arena that TFLite Micro uses for the file, measured on this host: an upper estimate for a 32-bit device."""
    return int(_asked("tflm", path, timeout, None, measure=True)["measured"]["arena_bytes"])


def integer_kernels(path: str | Path, timeout: float = START) -> tuple[dict[str, int], dict[str, int]]:
    """How often each integer kernel, and each float compute op that is left, stands in ONNX Runtime's *optimised* graph of an ``.onnx``.

    Ops that only move or convert data are in neither.
    """
    counts = _asked("ort", path, timeout, None, measure=True)["measured"]
    return counts["integer"], counts["float"]


def check_name(name: str) -> str:
    """``name`` if it is a runtime; else :class:`EdgeqError` with the nearest name."""
    known = plugins.names(plugins.RUNTIMES)
    return name if name in known else plugins.choose("runtime", name, [r.name for r in _ordered()])


def _load(name: str) -> Runtime:
    runtime = plugins.load(plugins.RUNTIMES, name)
    if runtime.name != name:
        raise EdgeqError(f"the runtime {name} calls itself {runtime.name}; its package should offer it under that name")
    return runtime


def _ordered() -> list[Runtime]:
    """All runtimes that can be loaded, as they are tried and listed."""
    return sorted(plugins.working(plugins.RUNTIMES).values(), key=lambda r: (r.rank, r.name))


def _asked(name: str, path: str | Path, timeout: float, output: str | None, measure: bool = False) -> dict[str, Any]:
    """What a worker says of a file."""
    _load(check_name(name))
    if output is not None and output not in OUTPUTS:
        raise EdgeqError(f"--output {output}: choose one of {', '.join(OUTPUTS)}; outputs are named of .keras and .h5 networks alone")
    worker = Worker({"task": "probe", "name": name, "path": str(path), "output": output, "measure": measure})
    try:
        return worker.receive(timeout, "finish one image")[0]
    finally:
        worker.close()
