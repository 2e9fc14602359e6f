"""Real interpreters as targets. A file is first opened and run in a child process, so that one that crashes an interpreter gives a
sentence, not a dead shell.

``NAMES`` are the runtimes of model files; the float Keras network is :mod:`edgeq.keras`'s.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature

if TYPE_CHECKING:
    from edgeq.runtimes._lanes import Codes, Lanes

NAMES = ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm", "ort")
STAND_INS = {"tflm-exact": "tflm"}
"""Runtimes that are asked for by name only, and the interpreter whose answers they compute: what they find is confirmed on it."""
OUTPUTS = ("probs", "logits", "label")


def probe(name: str, path: str | Path, timeout: float = 60, output: str | None = None) -> Signature:
    """What goes into ``path`` and comes out of it, after ``name`` has opened and run it once in a child process.

    ``timeout``: seconds; ``output``: ``probs``, ``logits`` or ``label`` where the file does not say. Raises :class:`EdgeqError` with the
    reason why it cannot run, as one sentence.
    """
    return Signature.from_json(_child(name, path, timeout, output)["signature"])


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


def open(name: str, path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None) -> Lanes:
    """The file ``path``, already probed, in the runtime ``name``: a :class:`~edgeq.core.protocols.Target`.

    ``codes``: the pixel-to-input map. ``batch``: images asked at once, at most, where that is enough to fill the lanes.
    ``threads``: lanes (for ``tflm`` processes); by default as many as there are cores. Answers depend on neither.
    """
    from edgeq.runtimes import exact, litert, ort, tflm

    if name in litert.KERNELS:
        return litert.open(name, path, signature, codes, batch=batch, threads=threads)
    return {"tflm": tflm.open, "tflm-exact": exact.open, "ort": ort.open}[name](path, signature, codes, batch=batch, threads=threads)


def arena_bytes(path: str | Path, timeout: float = 60) -> int:
    """Bytes of tensor arena that TFLite Micro uses for the file, measured on this host: an upper estimate for a 32-bit device."""
    return int(_child("tflm", path, timeout, None, measure=True)["arena"])


def integer_kernels(path: str | Path, timeout: float = 60) -> tuple[dict[str, int], dict[str, int]]:
    """How often each integer kernel, and each float compute op that is left, stands in ONNX Runtime's *optimised* graph of an ``.onnx``.

    Ops that only move or convert data are in neither.
    """
    reply = _child("ort", path, timeout, None, measure=True)
    return reply["integer"], reply["float"]


def check_name(name: str) -> str:
    """``name`` if it is a runtime; else :class:`EdgeqError` with the nearest name."""
    from edgeq.core.plugins import choose

    return choose("runtime", name, [*NAMES, *STAND_INS])


# -- the child process ----------------------------------------------------------------------------------------------------------------


def python_child(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a Python child that finds this very package, and nothing in the working directory."""
    here = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)
    # one thread for numpy's linear algebra: none is used, and idle threads count against the memory limit
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}


def _child(name: str, path: str | Path, timeout: float, output: str | None, measure: bool = False) -> dict[str, Any]:
    check_name(name)
    path = Path(path)
    if output is not None and output not in OUTPUTS:
        raise EdgeqError(f"--output {output}: choose one of " + ", ".join(OUTPUTS))
    request = json.dumps({"name": name, "path": str(path), "output": output, "measure": measure, "seconds": timeout})
    command, env = python_child("edgeq.runtimes._probe")
    try:
        done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=timeout, env=env, check=False)
    except subprocess.TimeoutExpired:
        raise EdgeqError(f"{path}: {name} did not finish one image in {timeout:g} s") from None
    noise = done.stderr.decode("utf-8", "replace")
    if done.returncode < 0:
        number = -done.returncode
        if number == getattr(signal, "SIGXCPU", 0):
            raise EdgeqError(f"{path}: {name} did not finish one image in {timeout:g} s")
        raise EdgeqError(f"{path}: the interpreter {name} crashed ({_signal(number)}) on this file")
    try:
        reply = json.loads(done.stdout.decode().splitlines()[-1])
    except (IndexError, ValueError):
        words = _condense(noise) or "no message"
        raise EdgeqError(f"{path}: the interpreter {name} ended without an answer on this file ({words})") from None
    if "error" in reply:
        raise EdgeqError(reply["error"])
    if "refused" in reply:  # TFLite Micro says why on stderr only
        reason = _condense(noise if name == "tflm" else "") or _condense(reply["refused"]) or "no reason given"
        raise EdgeqError(f"{path}: {name} cannot run it: {reason}")
    if measure and name == "tflm":
        found = re.findall(r"Arena allocation total (\d+) bytes", noise)
        if not found:
            raise EdgeqError(f"{path}: tflm does not say how much arena it uses")
        reply["arena"] = int(found[-1])
    return reply


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _condense(text: str) -> str:
    """The essential clause of an interpreter's message: without source paths, logging marks and chatter."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*(INFO|WARNING|W\d{4}|I\d{4}|\[Recording)", line)]
    joined = "; ".join(dict.fromkeys(line.strip(" .") for line in lines if line.strip()))
    joined = re.sub(r"\[ONNXRuntimeError\] : \d+ : \w+ : ", "", joined)
    joined = re.sub(r"[\w./-]+\.(cc|cpp|h|hpp)(:\d+)?:?\s*", "", joined)
    joined = re.sub(r"(?<=[a-z\)])(?=Node number)", "; ", joined)
    joined = re.sub(r"\s+", " ", joined).strip(" ;.")
    return joined if len(joined) <= 220 else joined[:217].rsplit(" ", 1)[0] + "..."
