"""TFLite Micro, the interpreter of microcontrollers (tensorflow/tflite-micro), on this host: one image at a time."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import cpu
from edgeq.core.children import unnamed
from edgeq.core.errors import EdgeqError
from edgeq.core.runtime import Codes, InnerTensors, Runtime
from edgeq.core.signature import Signature
from edgeq.integer.model import Model, file_bytes
from edgeq.integer.read import read
from edgeq.runtimes._lanes import Lanes
from edgeq.runtimes._layout import as_images, layout_of
from edgeq.runtimes._limits import BASE, activations

CHUNK = 32  # images encoded at once
MOST = 2**28  # bytes of an arena; microcontrollers have a hundredth
_ENGINE = "tflite_micro.python.tflite_micro.runtime"


@dataclass(frozen=True)
class TFLM(Runtime):
    """One lane a process; refusals are printed on stderr only."""

    name = "tflm"
    forms = (".tflite",)
    modules = (_ENGINE,)
    missing = 'TFLite Micro is not installed; pip install "edgeq[tflm]" (Linux on x86-64 only)'
    rank = 40
    simulated = True
    holds_lock = True
    silent = True

    def open(self, path: str | Path, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Lanes:
        import importlib.metadata

        model = read(path)
        identity = {
            "engine": "TFLite Micro",
            "version": importlib.metadata.version("tflite-micro"),
            "kernels": "reference",
            "cpu": cpu.describe(),
            "argmax": "lowest index",
            **({"state": "reset before every image"} if model.variables else {}),
        }
        return Lanes(self.name, signature, [_Lane(path, signature, codes, layout_of(model))], CHUNK, batch, identity)

    def memory(self, size: int, activations: int, lanes: int) -> int:
        return BASE + 8 * size + sum(arenas(size, activations))

    def measure(self, path: str | Path) -> dict[str, Any]:
        """``arena_bytes``: of the tensor arena on this host, an upper estimate for a 32-bit device."""
        micro = Micro(path)
        said = re.findall(r"Arena allocation total (\d+) bytes", _printed(micro.interpreter.print_allocations))
        if not said:
            raise EdgeqError(f"{path}: tflm does not say how much arena it uses")
        return {"arena_bytes": int(said[-1])}

    def tensors(self, path: str | Path, signature: Signature, codes: Codes) -> InnerTensors:
        micro, layout = Micro(path, keep=True), layout_of(read(path))
        space = np.empty(micro.shape, signature.input.dtype)
        out = np.empty((1, signature.width), signature.output.dtype)

        def run(image: np.ndarray, wanted: list[int]) -> dict[int, np.ndarray]:
            codes.encode(image, as_images(space, signature.input.shape, layout))
            micro.run(space, out)
            return {i: micro.interpreter.GetTensor(i, 0)["tensor_data"].copy() for i in wanted}

        return run


class Micro:
    """The interpreter of one file, with an arena that is large enough. Always one image at a time."""

    def __init__(self, path: str | Path, keep: bool = False) -> None:
        """``keep``: no activation's memory is used again, so that all of them can be read afterwards."""
        runtime = importlib.import_module(_ENGINE)
        content, model = file_bytes(path), read(path)
        config = runtime.InterpreterConfig.kPreserveAllTensors if keep else runtime.InterpreterConfig.kAllocationRecording
        for arena in arenas(model.size, activations(model)):
            try:  # the argument's name is spelt like this
                self.interpreter: Any = runtime.Interpreter.from_bytes(content, arena_size=arena, intrepreter_config=config)
                break
            except RuntimeError as error:  # too small, or refused: TFLM's own words tell them apart on stderr only
                refusal = error
        else:
            raise _worded(refusal, path, model)
        self.shape = tuple(int(d) for d in self.interpreter.get_input_details(0)["shape"])
        if self.shape[0] != 1:
            raise EdgeqError(f"{path}: takes {self.shape[0]} images at once, and tflm runs one at a time; export it with a batch of 1")
        try:
            self.interpreter.invoke()
        except RuntimeError as error:
            raise _worded(error, path, model) from None

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


class _Lane:
    def __init__(self, path: str | Path, signature: Signature, codes: Codes, layout: str) -> None:
        self.micro, self.codes = Micro(path), codes
        self.space = np.empty((CHUNK, *self.micro.shape[1:]), signature.input.dtype)
        self.images = as_images(self.space, signature.input.shape, layout)

    def run(self, images: np.ndarray, out: np.ndarray) -> None:
        n = len(images)
        self.codes.encode(images, self.images[:n])
        self.micro.run(self.space[:n], out)

    def close(self) -> None: ...


def _worded(refusal: RuntimeError, path: str | Path, model: Model) -> Exception:
    """The refusal; of a kind of op that TFLite Micro refuses without a reason, or calls "hybrid" where it is uint8, a sentence instead."""
    for op in model.ops:
        x, w = ([model.tensors[i].dtype for i in op.inputs if i >= 0] + ["", ""])[:2]
        what, remedy = "", ""
        if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            if x == "uint8":
                what, remedy = "uint8", "convert the network with int8 instead, as TensorFlow 2 does"
            elif x == "float32" and w in ("int8", "int4"):
                what, remedy = f"floats with {w} weights (dynamic range)", "quantise its activations too"
        elif op.name == "DEQUANTIZE" and x == "float16":
            what, remedy = "float16 weights", "convert the network with float32 or int8 weights"
        if what:
            return EdgeqError(f"{path}: tflm has no kernel for {op.name} of {what}; {remedy}")
    return refusal


def arenas(size: int, activations: int) -> tuple[int, int]:
    """Bytes of a generous arena, every activation at once and the bookkeeping, and of one eight times as large for kernels with much
    scratch; of a file of ``size`` bytes whose ``activations`` take so many bytes."""
    least = min(activations + 4 * size + 2**20, MOST)
    return least, min(8 * least, MOST)


def _printed(work: Callable[[], None]) -> str:
    """What native code prints on stderr meanwhile."""
    kept = os.dup(2)
    with os.fdopen(unnamed(0), "r+b") as file:
        try:
            os.dup2(file.fileno(), 2)
            work()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read().decode("utf-8", "replace")


plugin: Runtime = TFLM()
