"""TFLite Micro, the interpreter of microcontrollers, on this host: one image at a time, spread over worker processes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import mmap
import os
import subprocess
from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import classifier
from edgeq.integer.read import read
from edgeq.runtimes import arena_bytes, cpu, python_child
from edgeq.runtimes._lanes import Codes, Lanes
from edgeq.runtimes.litert import as_images

__all__ = ["arena_bytes", "open"]

CHUNK = 32  # images a worker takes at once; a message costs some 0.05 ms, an image 0.05 to 50 ms


class _Lane:
    """A worker process. Codes and answers travel through shared memory."""

    def __init__(self, path: str, signature: Signature, codes: Codes, layout: str, chunk: int) -> None:
        given, answer, k = signature.input, signature.output, signature.classes or 1
        size = int(np.prod(given.shape)) * np.dtype(given.dtype).itemsize
        offset = -(-chunk * size // 64) * 64
        self.path, self.codes = path, codes
        fd = os.memfd_create("edgeq-tflm")
        try:
            os.ftruncate(fd, offset + chunk * k * np.dtype(answer.dtype).itemsize)
            memory = mmap.mmap(fd, 0)
            command, env = python_child("edgeq.runtimes._tflm_worker")
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, pass_fds=(fd,)
            )
        finally:
            os.close(fd)
        request = {
            "path": path,
            "fd": fd,
            "count": chunk,
            "input_bytes": size,
            "input_dtype": given.dtype,
            "output_offset": offset,
            "output_dtype": answer.dtype,
            "classes": k,
        }
        assert self.process.stdin
        assert self.process.stdout
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self._send(json.dumps(request))
        flat = np.frombuffer(memory, given.dtype, chunk * int(np.prod(given.shape)))
        self.images = as_images(flat, given.shape, layout)
        self.out = np.frombuffer(memory, answer.dtype, chunk * k, offset).reshape(chunk, k)

    def ready(self) -> None:
        """Waits for the interpreter to be built, so that several workers build theirs at once."""
        reply = json.loads(self._receive())
        if "error" in reply:
            raise EdgeqError(f"{self.path}: tflm cannot run it: {reply['error']}")

    def run(self, images: np.ndarray, out: np.ndarray) -> None:
        n = len(images)
        self.codes.encode(images, self.images[:n])
        self._send(str(n))
        self._receive()
        out[...] = self.out[:n]

    def _send(self, text: str) -> None:
        try:
            self.requests.write(text.encode() + b"\n")
            self.requests.flush()
        except OSError:
            raise self._gone() from None

    def _receive(self) -> bytes:
        line = self.replies.readline()
        if not line:
            raise self._gone()
        return line

    def _gone(self) -> EdgeqError:
        return EdgeqError(f"{self.path}: a tflm worker process ended unexpectedly (exit status {self.process.wait()})")

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.requests.close()  # the worker ends when its input does
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.replies.close()


def open(path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None) -> Lanes:
    """The ``.tflite`` file as a target of ``threads`` worker processes, by default one a core."""
    model = read(path)
    _, layout = classifier.image_layout(model.tensors[model.inputs[0]].shape) or ((), "nhwc")
    threads = threads or cpu.count()
    chunk = max(1, min(CHUNK, batch // threads))
    lanes: list[_Lane] = []
    try:
        for _ in range(threads):
            lanes.append(_Lane(str(path), signature, codes, layout, chunk))  # noqa: PERF401 -- those that started are closed on failure
        for lane in lanes:
            lane.ready()
    except BaseException:
        for lane in lanes:
            lane.close()
        raise
    identity = {
        "engine": "TFLite Micro",
        "version": importlib.metadata.version("tflite-micro"),
        "kernels": "reference",
        "cpu": cpu.describe(),
        "argmax": "lowest index",
        **({"state": "reset before every image"} if model.variables else {}),
    }
    return Lanes("tflm", signature, lanes, chunk, batch, identity)
