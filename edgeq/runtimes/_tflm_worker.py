"""One TFLite Micro interpreter, and the worker process around it.

The worker and its parent share a block of memory: input codes, then raw outputs. A query is one line each way: how many images, and done.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer import model as models
from edgeq.integer.read import read


class Micro:
    """The interpreter of one file, with an arena that is large enough. Always one image at a time."""

    def __init__(self, path: str | Path, keep: bool = False) -> None:
        """``keep``: no activation's memory is used again, so that all of them can be read afterwards."""
        try:
            from tflite_micro.python.tflite_micro import runtime
        except ModuleNotFoundError:
            raise EdgeqError('tflm: TFLite Micro is not installed; pip install "edgeq[tflm]" (Linux on x86-64 only)') from None
        content = models.file_bytes(path)
        config = runtime.InterpreterConfig.kPreserveAllTensors if keep else runtime.InterpreterConfig.kAllocationRecording
        for arena in _arenas(read(path)):
            try:  # the argument's name is spelt like this
                self.interpreter: Any = runtime.Interpreter.from_bytes(content, arena_size=arena, intrepreter_config=config)
                break
            except RuntimeError as error:  # too small, or refused: TFLM's own words tell them apart on stderr only
                refusal = error
        else:
            raise refusal
        self.shape = tuple(int(d) for d in self.interpreter.get_input_details(0)["shape"])
        if self.shape[0] != 1:
            raise EdgeqError(f"{path}: takes {self.shape[0]} images at once, and tflm runs one at a time; export it with a batch of 1")

    def run(self, codes: np.ndarray, out: np.ndarray) -> None:
        """``codes``: images in the input's dtype and layout; ``out``: ``(j, k)`` in the output's dtype."""
        interpreter = self.interpreter
        codes = codes.reshape(-1, *self.shape)
        flat = out.reshape(len(codes), -1)
        for image, scores in zip(codes, flat, strict=True):
            interpreter.reset()  # or a stateful network would answer by the images it saw before
            interpreter.set_input(image, 0)
            interpreter.invoke()
            scores[...] = interpreter.get_output(0).reshape(-1)


def _arenas(model: models.Model) -> tuple[int, int]:
    """A generous arena, every activation at once and the bookkeeping, and one eight times as large for kernels with much scratch."""
    live = sum(4 * t.elements for t in model.tensors if t.data is None)
    size = min(live + 4 * model.size + 2**20, 2**30)
    return size, min(8 * size, 2**30)


def serve() -> None:
    """Answers until stdin ends. Ctrl-C is the parent's business: it closes stdin when it has saved its work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = json.loads(sys.stdin.buffer.readline())
    count, size, k = request["count"], request["input_bytes"], request["classes"]
    memory = mmap.mmap(request["fd"], 0)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # nothing but replies may reach the parent
    try:
        micro = Micro(request["path"])
    except Exception as error:
        replies.write(json.dumps({"error": str(error)}).encode() + b"\n")
        return
    codes = np.frombuffer(memory, request["input_dtype"], count * size // np.dtype(request["input_dtype"]).itemsize).reshape(count, -1)
    out = np.frombuffer(memory, request["output_dtype"], count * k, request["output_offset"]).reshape(count, k)
    replies.write(b"{}\n")
    while line := sys.stdin.buffer.readline():
        n = int(line)
        micro.run(codes[:n], out[:n])
        replies.write(b"\n")


if __name__ == "__main__":
    serve()
