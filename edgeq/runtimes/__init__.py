"""Real interpreters as targets. A file is opened, tried and asked in worker processes alone, so that one that crashes an interpreter,
hangs it or fills the memory gives a sentence, not a dead shell.

``NAMES`` are the runtimes of model files; the float Keras network is :mod:`edgeq.keras`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.runtimes import cpu
from edgeq.runtimes._lanes import Codes, Lanes
from edgeq.runtimes._process import START, Answering, LostError, Worker, WorkerError, shared_bytes

__all__ = ["LostError", "WorkerError", "arena_bytes", "check_name", "integer_kernels", "open", "probe", "probe_all", "real"]

NAMES = ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm", "ort")
STAND_INS = {"tflm-exact": "tflm"}
"""Runtimes that are asked for by name only, and the interpreter whose answers they compute: what they find is confirmed on it."""
MEMORY = 2**26  # bytes of images that a worker is sent at once, unless it has as many lanes
OUTPUTS = ("probs", "logits", "label")


def probe(name: str, path: str | Path, timeout: float = START, output: str | None = None) -> Signature:
    """What goes into ``path`` and comes out of it, after ``name`` has opened it and answered two images in a worker.

    ``timeout``: seconds; ``output``: ``probs``, ``logits`` or ``label`` where the file does not say. Raises :class:`EdgeqError` with the
    reason why it cannot run, as one sentence; :class:`LostError` where that says nothing of the file.
    """
    return Signature.from_json(_asked(name, path, timeout, output)[0]["signature"])


def probe_all(names: Sequence[str], path: str | Path, output: str | None = None, timeout: float = 60) -> dict[str, Signature | EdgeqError]:
    """:func:`probe` of several runtimes at once: a signature, or the error that says why not."""

    def one(name: str) -> Signature | EdgeqError:
        try:
            return probe(name, path, timeout, output)
        except EdgeqError as error:
            return error

    with ThreadPoolExecutor(max(len(names), 1)) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def real(name: str) -> str:
    """The interpreter that ``name`` is, or stands in for."""
    return STAND_INS.get(name, name)


def open(
    name: str, path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None
) -> Lanes | Answering:
    """The file ``path``, already probed, in the runtime ``name``: a :class:`~edgeq.core.protocols.Target` in a worker, or several.

    ``codes``: the pixel-to-input map. ``batch``: images asked at once, at most, where that is enough to fill the lanes.
    ``threads``: lanes (for ``tflm`` processes); by default as many as there are cores. Answers depend on neither.
    """
    threads = threads or cpu.count()
    if name == "tflm-exact":  # numpy on a graph that edgeq has read and checked
        from edgeq.runtimes import exact

        return exact.open(path, signature, codes, batch=batch, threads=threads)
    processes = threads if name == "tflm" else 1  # its interpreter holds Python's lock
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
        "share": share,
    }
    workers = [Worker(request, shared_bytes(signature, share)) for _ in range(processes)]
    return Answering(signature, workers, share, batch)


def arena_bytes(path: str | Path, timeout: float = START) -> int:
    """Bytes of tensor arena that TFLite Micro uses for the file, measured on this host: an upper estimate for a 32-bit device."""
    found = re.findall(r"Arena allocation total (\d+) bytes", _asked("tflm", path, timeout, None, measure=True)[1])
    if not found:
        raise EdgeqError(f"{path}: tflm does not say how much arena it uses")
    return int(found[-1])


def integer_kernels(path: str | Path, timeout: float = START) -> tuple[dict[str, int], dict[str, int]]:
    """How often each integer kernel, and each float compute op that is left, stands in ONNX Runtime's *optimised* graph of an ``.onnx``.

    Ops that only move or convert data are in neither.
    """
    reply = _asked("ort", path, timeout, None, measure=True)[0]
    return reply["integer"], reply["float"]


def check_name(name: str) -> str:
    """``name`` if it is a runtime; else :class:`EdgeqError` with the nearest name."""
    from edgeq.core.plugins import choose

    return choose("runtime", name, [*NAMES, *STAND_INS])


def _asked(name: str, path: str | Path, timeout: float, output: str | None, measure: bool = False) -> tuple[dict[str, Any], str]:
    """What a worker says of a file, and all that its interpreter printed."""
    check_name(name)
    if output is not None and output not in OUTPUTS:
        raise EdgeqError(f"--output {output}: choose one of " + ", ".join(OUTPUTS))
    worker = Worker({"task": "probe", "name": name, "path": str(path), "output": output, "measure": measure})
    try:
        return worker.receive(timeout, "finish one image")[0], worker.chatter()
    finally:
        worker.close()
