"""LiteRT (TensorFlow Lite; google-ai-edge/LiteRT), of which each kernel set is a runtime in a file of its own."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core import cpu
from edgeq.core.runtime import Codes, InnerTensors, Runtime
from edgeq.core.signature import Signature
from edgeq.integer.model import file_bytes
from edgeq.integer.read import read
from edgeq.runtimes._lanes import Lanes, best_chunk, check_batching
from edgeq.runtimes._layout import as_images, layout_of, widest


@dataclass(frozen=True)
class LiteRT(Runtime):
    """LiteRT with one kernel set. ``resolver``: its name in LiteRT's ``OpResolverType``; ``most``: images a lane takes at once, at most."""

    name: str
    resolver: str
    rank: int
    most: int = 256
    forgetful: bool = False  # some graphs answer wrongly unless intermediate tensors are kept (LiteRT issues 8889 and 8928)

    forms = (".tflite",)
    modules = ("ai_edge_litert.interpreter",)
    simulated = True
    missing = "LiteRT is not installed; pip install ai-edge-litert"

    def open(self, path: str | Path, signature: Signature, codes: Codes, *, batch: int, threads: int) -> Lanes:
        import ai_edge_litert

        content, model, notes = file_bytes(path), read(path), dict[str, Any]()
        layout = layout_of(model)

        def lane(preserve: bool = False) -> _Lane:
            return _Lane(content, self.resolver, signature, codes, layout, preserve)

        preserve = self.forgetful and not _agree(lane(False), lane(True), signature)
        if preserve:
            notes["preserve_all_tensors"] = True
        chunk = best_chunk(widest(model), min(self.most, max(1, batch // threads)))
        if model.variables:
            notes["state"] = "reset before every image"
        if model.variables or not check_batching(lambda: lane(preserve), signature, chunk):
            chunk = 1
        identity = {
            "engine": "LiteRT",
            "version": ai_edge_litert.__version__,
            "kernels": self.name.removeprefix("litert-"),
            "cpu": cpu.describe(),
            "argmax": "lowest index",
            **notes,
        }
        return Lanes(self.name, signature, [lane(preserve) for _ in range(threads)], chunk, batch, identity)

    def tensors(self, path: str | Path, signature: Signature, codes: Codes) -> InnerTensors:
        with warnings.catch_warnings():  # it warns of the memory this takes
            warnings.simplefilter("ignore")
            lane = _Lane(file_bytes(path), self.resolver, signature, codes, layout_of(read(path)), preserve=True)
        out = np.empty((1, signature.width), signature.output.dtype)

        def run(image: np.ndarray, wanted: list[int]) -> dict[int, np.ndarray]:
            lane.run(image, out)
            kept = {}
            for i in wanted:
                with contextlib.suppress(ValueError):  # it has no memory: the runtime folded it away
                    kept[i] = lane.interpreter.get_tensor(i)  # a copy
            return kept

        return run


class _Lane:
    """One interpreter with one thread. Codes are written into its input tensor, scores read from its output tensor: no copies between."""

    def __init__(self, content: bytes, resolver: str, signature: Signature, codes: Codes, layout: str, preserve: bool) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with quiet():  # the delegate announces itself on stderr
            self.interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType[resolver],
                experimental_preserve_all_tensors=preserve,
            )
            self.interpreter.allocate_tensors()
        given, answer = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        self.input, self.output = given["index"], answer["index"]
        self.shape, self.size = [int(d) for d in given["shape"]], int(given["shape"][0])
        self.image, self.layout, self.codes = signature.input.shape, layout, codes

    def run(self, images: np.ndarray, out: np.ndarray) -> None:
        count = len(images)
        if count != self.size:  # resizing costs some 0.1 ms
            self.interpreter.resize_tensor_input(self.input, [count, *self.shape[1:]])
            self.interpreter.allocate_tensors()
            self.size = count
        self.interpreter.reset_all_variables()  # or a stateful network would answer by the images it saw before
        # views into the interpreter must be gone before it runs
        self.codes.encode(images, as_images(self.interpreter.tensor(self.input)(), self.image, self.layout))
        self.interpreter.invoke()
        out[...] = self.interpreter.tensor(self.output)().reshape(out.shape)

    def close(self) -> None:
        self.interpreter = None


def _agree(one: _Lane, other: _Lane, signature: Signature) -> bool:
    images = np.random.default_rng(1).integers(0, 256, (2, *signature.input.shape), np.uint8)
    a, b = (np.empty((2, signature.width), signature.output.dtype) for _ in range(2))
    for i in range(2):
        one.run(images[i : i + 1], a[i : i + 1])
        other.run(images[i : i + 1], b[i : i + 1])
    return np.array_equal(a, b, equal_nan=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Whatever native code prints on stderr in between goes nowhere. Errors still arrive as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
