"""The far side of a worker: holds the interpreters of one file, within limits, and answers until it is closed.

Started as ``python -m edgeq.runtimes._worker LIFE [MEMORY]`` with two inherited descriptors: a pipe whose other end closes when this
process shall die, and memory for images and raw outputs. Each request is one line of JSON on stdin, each reply one on stdout:
what was asked for, or ``{"error": sentence}``, or ``{"refused": message}`` where the interpreter itself declined. Every request states
``cpu``, the seconds of processor time that it may take: a process that takes more is ended by SIGPROF.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import model as models
from edgeq.integer.read import format_of, read
from edgeq.pipeline.codes import PixelCodes
from edgeq.runtimes import _limits
from edgeq.runtimes._lanes import Codes, Lanes
from edgeq.runtimes._micro import Micro
from edgeq.runtimes._probe import signature_of
from edgeq.runtimes._process import output_offset

Reply = tuple[dict[str, Any], bytes]
Serve = Callable[[dict[str, Any]], Reply]

_A = {"tflite": "a .tflite", "onnx": "an .onnx"}
_LITERT = ("ai_edge_litert.interpreter", "edgeq.runtimes.litert")
_MODULES = {  # what a runtime needs, its own module last
    "ort": ("onnx", "onnxruntime", "edgeq.runtimes.ort"),
    "tflm": ("tflite_micro.python.tflite_micro.runtime", "edgeq.runtimes.tflm"),
    "tflm-exact": ("edgeq.runtimes.exact",),
}


def opened(name: str, path: str, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Lanes:
    """The file in the runtime ``name``, in this process."""
    where = (path,) if name in _MODULES else (name, path)
    module = importlib.import_module(_MODULES.get(name, _LITERT)[-1])
    lanes: Lanes = module.open(*where, signature, codes, batch=batch, threads=threads)
    return lanes


def probe(request: dict[str, Any]) -> tuple[Reply, None]:
    """What the file is, once it has answered a black and a random image; with ``measure`` what else can be told."""
    name, path = request["name"], request["path"]
    signature = signature_of(read(path), request["output"])
    images = np.random.default_rng(0).integers(0, 256, (2, *signature.input.shape), np.uint8)
    images[0] = 0
    pixels = np.arange(256)[:, None].astype(signature.input.dtype)  # as they are, wrapped into the input's type
    lanes = opened(name, path, signature, PixelCodes(pixels, None, pixels.astype(np.float32)), batch=256, threads=1)
    lanes.answer(images)
    reply: dict[str, Any] = {"signature": signature.to_json()}
    if request["measure"] and name == "ort":
        from edgeq.runtimes import ort

        reply["integer"], reply["float"] = ort.kernels(path)
    elif request["measure"]:  # TFLite Micro, which tells on stderr
        Micro(path).interpreter.print_allocations()
    return (reply, b""), None


def answers(request: dict[str, Any]) -> tuple[Reply, Serve]:
    """Opens the file with its lanes; then ``{"n": m}`` answers the first ``m`` images of the shared memory."""
    signature = Signature.from_json(request["signature"])
    codes = PixelCodes.from_json(request["codes"])
    lanes = opened(request["name"], request["path"], signature, codes, batch=request["batch"], threads=request["threads"])
    share, width, dtype = request["share"], signature.classes or 1, np.dtype(signature.output.dtype)
    size = int(np.prod(signature.input.shape))
    memory = mmap.mmap(int(sys.argv[2]), 0)
    images = np.frombuffer(memory, np.uint8, share * size).reshape(share, *signature.input.shape)
    raw = np.frombuffer(memory, dtype, share * width, output_offset(share * size)).reshape(share, width)

    def serve(asked: dict[str, Any]) -> Reply:
        lanes.fill(images[: asked["n"]], raw[: asked["n"]])
        return {}, b""

    seconds = _seconds(serve)
    return ({"identity": lanes.identity(), "chunk": lanes.chunk, "batch": lanes.batch, "seconds": seconds}, b""), serve


def tensors(request: dict[str, Any]) -> tuple[Reply, Serve]:
    """Opens the file so that it keeps its inner tensors, and tries it; then each request is answered with those of the image in memory."""
    from edgeq.runtimes.tensors import kept

    signature = Signature.from_json(request["signature"])
    inner = kept(request["name"], request["path"], signature, PixelCodes.from_json(request["codes"]))
    image = np.frombuffer(mmap.mmap(int(sys.argv[2]), 0), np.uint8).reshape(1, *signature.input.shape)

    def serve(_: dict[str, Any]) -> Reply:
        row = inner(image)
        content = b"".join(value.tobytes() for value in row.values())
        return {"tensors": [[i, str(v.dtype), v.shape] for i, v in row.items()], "bytes": len(content)}, content

    return ({"seconds": _seconds(serve)}, b""), serve


def _seconds(serve: Serve) -> float:
    """What one image takes, by the clock: processor time moves in steps while a timer counts it."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        serve({"n": 1})
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    _die_with_parent(int(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but replies may reach the parent
    request = json.loads(sys.stdin.buffer.readline() or "{}")
    name, path = request["name"], request["path"]
    serve: Serve | None = None
    bound = 0

    def start(request: dict[str, Any]) -> Reply:
        nonlocal serve, bound
        data = models.file_bytes(path)
        wanted = "onnx" if name == "ort" else "tflite"
        if (found := format_of(path, data)) != wanted:
            raise EdgeqError(f"{path}: {name} runs {_A[wanted]} file, and this is {_A[found]} file")
        for module in _MODULES.get(name, _LITERT):  # before the clock runs
            with contextlib.suppress(ImportError):  # said by who needs it
                importlib.import_module(module)
        threads, write = request.get("threads", 1), request.get("measure", False)
        bound = _limits.limit(_limits.BASE + 8 * len(data), write)
        _cpu(_limits.reading(len(data)))
        del data
        model = read(path)
        bound = _limits.limit(_limits.memory(name, model, threads), write)
        _cpu(_limits.opening(model, threads))
        reply, serve = {"probe": probe, "answer": answers, "tensors": tensors}[request["task"]](request)
        return reply

    def reply_to(work: Serve, request: dict[str, Any]) -> None:
        try:
            reply, payload = work(request)
        except EdgeqError as error:
            reply, payload = {"error": str(error)}, b""
        except MemoryError:
            reply, payload = {"error": f"{path}: {name} needs more than {bound / 2**30:.2g} GiB of memory on it"}, b""
        except Exception as error:  # whatever the interpreter raised is its reason
            silent = f"{type(error).__name__} without a reason; it may want more than its {bound / 2**30:.2g} GiB of memory"
            reply, payload = {"refused": str(error) or silent}, b""
        sys.stderr.flush()
        replies.write(json.dumps(reply).encode() + b"\n" + payload)
        replies.flush()

    reply_to(start, request)
    while serve is not None and (line := sys.stdin.buffer.readline()):
        request = json.loads(line)
        _cpu(request["cpu"])
        reply_to(serve, request)
    os._exit(0)  # an interpreter of a damaged file may crash when it is torn down; all is said


def _cpu(seconds: float) -> None:
    """Processor time of all threads from now on, after which SIGPROF ends this process."""
    signal.setitimer(signal.ITIMER_PROF, min(seconds, 1e6))


def _die_with_parent(life: int) -> None:
    """Has the kernel kill this process when the other end of ``life`` is closed, even while native code runs, or while it is stopped.

    Elsewhere than on Linux it ends when it next looks for a request.
    """
    import fcntl

    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)


if __name__ == "__main__":
    main()
