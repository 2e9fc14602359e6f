"""One TFLite Micro interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer import model as models
from edgeq.integer.read import read

MOST = 2**28  # bytes of an arena; microcontrollers have a hundredth


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
        for arena in arenas(read(path)):
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


def arenas(model: models.Model) -> tuple[int, int]:
    """A generous arena, every activation at once and the bookkeeping, and one eight times as large for kernels with much scratch."""
    live = sum(4 * t.elements for t in model.tensors if t.data is None)
    size = min(live + 4 * model.size + 2**20, MOST)
    return size, min(8 * size, MOST)
