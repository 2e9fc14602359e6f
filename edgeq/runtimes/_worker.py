"""The far side of a worker: contains the interpreters of one file, within limits, and answers until it is closed.

Started as ``python -m edgeq.runtimes._worker LIFE [MEMORY]`` with two inherited descriptors: a pipe whose other end closes when this
process shall die, and memory for images and raw outputs. Each request is one line of JSON on stdin, each reply one on stdout:
what was asked for, or ``{"error": sentence}``, or ``{"refused": message}`` where the interpreter itself declined. Every request states
``cpu``, the seconds of processor time that it may take: a process that takes more is ended by SIGPROF.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeq.core import plugins
from edgeq.core.children import die_with_parent, limit, limit_cpu
from edgeq.core.errors import EdgeqError
from edgeq.core.runtime import Runtime
from edgeq.core.signature import Signature
from edgeq.integer import classifier
from edgeq.integer import model as models
from edgeq.integer.read import format_of, read
from edgeq.pipeline.codes import PixelCodes
from edgeq.runtimes import _limits
from edgeq.runtimes._probe import signature_of
from edgeq.runtimes._process import output_offset

Reply = tuple[dict[str, Any], bytes]
Serve = Callable[[dict[str, Any]], Reply]


def probe(runtime: Runtime, request: dict[str, Any]) -> tuple[Reply, None]:
    """What the file is, once it has answered a black and a random image; with ``measure`` what else the engine tells of it."""
    path, model = request["path"], read(request["path"])
    output = request["output"]
    if request["measure"]:  # of which it does not matter what the output means
        output = output or classifier.output_kind(model) or "logits"
    signature = signature_of(model, output)
    images = np.random.default_rng(0).integers(0, 256, (2, *signature.input.shape), np.uint8)
    images[0] = 0
    pixels = np.arange(256)[:, None].astype(signature.input.dtype)  # as they are, wrapped into the input's type
    opened = runtime.open(path, signature, PixelCodes(pixels, None, pixels.astype(np.float32)), batch=256, threads=1)
    opened.fill(images, np.empty((2, signature.width), signature.output.dtype))
    measured = runtime.measure(path) if request["measure"] else {}
    return ({"signature": signature.to_json(), "measured": measured}, b""), None


def answers(runtime: Runtime, request: dict[str, Any]) -> tuple[Reply, Serve]:
    """Opens the file with its lanes; then ``{"n": m}`` answers the first ``m`` images of the shared memory."""
    signature = Signature.from_json(request["signature"])
    codes = PixelCodes.from_json(request["codes"])
    opened = runtime.open(request["path"], signature, codes, batch=request["batch"], threads=request["threads"])
    share, width, dtype = request["share"], signature.width, np.dtype(signature.output.dtype)
    size = int(np.prod(signature.input.shape))
    memory = mmap.mmap(int(sys.argv[2]), 0)
    images = np.frombuffer(memory, np.uint8, share * size).reshape(share, *signature.input.shape)
    raw = np.frombuffer(memory, dtype, share * width, output_offset(share * size)).reshape(share, width)

    def serve(asked: dict[str, Any]) -> Reply:
        opened.fill(images[: asked["n"]], raw[: asked["n"]])
        return {}, b""

    seconds = _seconds(serve)
    return ({"identity": opened.identity(), "chunk": opened.chunk, "batch": opened.batch, "seconds": seconds}, b""), serve


def tensors(runtime: Runtime, request: dict[str, Any]) -> tuple[Reply, Serve]:
    """Opens the file so that it keeps its inner tensors, and tries it; then each request is answered with those of the image in memory."""
    from edgeq.runtimes.tensors import kept

    signature = Signature.from_json(request["signature"])
    inner = kept(runtime, request["path"], signature, PixelCodes.from_json(request["codes"]))
    image = np.frombuffer(mmap.mmap(int(sys.argv[2]), 0), np.uint8).reshape(1, *signature.input.shape)

    def serve(_: dict[str, Any]) -> Reply:
        row = inner(image)
        content = b"".join(value.tobytes() for value in row.values())
        return {"tensors": [[i, str(v.dtype), v.shape] for i, v in row.items()], "bytes": len(content)}, content

    return ({"seconds": _seconds(serve)}, b""), serve


def quantised(runtime: Runtime, request: dict[str, Any]) -> tuple[Reply, Serve]:
    """Reads the file; then ``{"n": m}`` is answered with its quantised form, by the ranges that the images in memory set."""
    from edgeq.runtimes._quantise import served

    signature = Signature.from_json(request["signature"])
    serve = served(request["path"], signature, PixelCodes.from_json(request["codes"]))
    return ({"seconds": _limits.calibrating(read(request["path"]), request["n"])}, b""), serve


def _seconds(serve: Serve) -> float:
    """What one image takes, by the clock: processor time moves in steps while a timer counts it."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        serve({"n": 1})
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but replies may reach the parent
    request = json.loads(sys.stdin.buffer.readline() or "{}")
    name, path = request["name"], request["path"]
    serve: Serve | None = None
    bound, silent = 0, False

    def start(request: dict[str, Any]) -> Reply:
        nonlocal serve, bound, silent
        runtime = plugins.load(plugins.RUNTIMES, name)
        silent = runtime.silent
        data = models.file_bytes(path)
        if (form := f".{format_of(path, data)}") not in runtime.forms:
            raise EdgeqError(f"{path}: {name} runs {' or '.join(map(_a, runtime.forms))} file, and this is {_a(form)} file")
        _import(runtime, path)  # before the clock runs
        threads, write = request.get("threads", 1), request.get("measure", False)
        bound = limit(_limits.BASE + 8 * len(data), write)
        limit_cpu(_limits.reading(len(data)))
        del data
        model = read(path)
        declared = model.size, _limits.activations(model), threads
        bound = limit(runtime.memory(*declared) or _limits.memory(*declared), write)
        limit_cpu(_limits.opening(model, threads))
        reply, serve = {"probe": probe, "answer": answers, "tensors": tensors, "quantise": quantised}[request["task"]](runtime, request)
        return reply

    def reply_to(work: Serve, request: dict[str, Any]) -> None:
        try:
            reply, payload = work(request)
        except EdgeqError as error:
            reply, payload = {"error": str(error)}, b""
        except MemoryError:
            reply, payload = {"error": f"{path}: {name} needs more than {bound / 2**30:.2g} GiB of memory on it"}, b""
        except Exception as error:  # whatever the interpreter raised is its reason
            nothing = f"{type(error).__name__} without a reason; it may want more than its {bound / 2**30:.2g} GiB of memory"
            reply, payload = {"refused": str(error) or nothing, "silent": silent}, b""
        sys.stderr.flush()
        replies.write(json.dumps(reply).encode() + b"\n" + payload)
        replies.flush()

    reply_to(start, request)
    while serve is not None and (line := sys.stdin.buffer.readline()):
        request = json.loads(line)
        limit_cpu(request["cpu"])
        reply_to(serve, request)
    os._exit(0)  # an interpreter of a damaged file may crash when it is torn down; all is said


def _import(runtime: Runtime, path: str) -> None:
    """The modules that a runtime needs, or a sentence."""
    for module in runtime.modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            raise EdgeqError(f"{path}: {runtime.missing}") from None
        except ImportError as error:
            raise EdgeqError(f"{path}: {runtime.name} cannot be imported ({error}); install it again") from None


def _a(form: str) -> str:
    return f"{'an' if form[1] in 'aeiou' else 'a'} {form}"


if __name__ == "__main__":
    main()
