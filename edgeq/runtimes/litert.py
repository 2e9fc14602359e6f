"""LiteRT (TensorFlow Lite) with one of its three kernel sets: XNNPACK, the builtin optimised kernels, the reference kernels."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.signature import Signature
from edgeq.integer import classifier
from edgeq.integer import model as models
from edgeq.integer.read import read
from edgeq.runtimes import cpu
from edgeq.runtimes._lanes import Codes, Lanes, best_chunk, check_batching

KERNELS = {
    "litert-xnnpack": "AUTO",
    "litert-builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "litert-reference": "BUILTIN_REF",
}
_MOST = {"litert-xnnpack": 256, "litert-builtin": 256, "litert-reference": 4}  # images a lane takes at once, at most


class _Lane:
    """One interpreter with one thread. Codes are written into its input tensor, scores read from its output tensor: no copies between."""

    def __init__(self, content: bytes, name: str, signature: Signature, codes: Codes, layout: str, preserve: bool) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        with quiet():  # the delegate announces itself on stderr
            self.interpreter = Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=OpResolverType[KERNELS[name]],
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


def open(name: str, path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None) -> Lanes:
    """The ``.tflite`` file as a target. ``threads``: lanes, by default the cores this process may use."""
    import ai_edge_litert

    content = models.file_bytes(path)
    model = read(path)
    _, layout = classifier.image_layout(model.tensors[model.inputs[0]].shape) or ((), "nhwc")
    notes: dict[str, Any] = {}

    def lane(preserve: bool = False) -> _Lane:
        return _Lane(content, name, signature, codes, layout, preserve)

    # Without a delegate some graphs answer wrongly unless intermediate tensors are kept (LiteRT issues 8889 and 8928)
    preserve = name == "litert-builtin" and not _agree(lane(False), lane(True), signature)
    if preserve:
        notes["preserve_all_tensors"] = True
    threads = threads or cpu.count()
    chunk = best_chunk(widest(model), min(_MOST[name], max(1, batch // threads)))
    if model.variables:
        notes["state"] = "reset before every image"
    if model.variables or not check_batching(lambda: lane(preserve), signature, chunk):
        chunk = 1
    identity = {
        "engine": "LiteRT",
        "version": ai_edge_litert.__version__,
        "kernels": name.removeprefix("litert-"),
        "cpu": cpu.describe(),
        "argmax": "lowest index",
        **notes,
    }
    return Lanes(name, signature, [lane(preserve) for _ in range(threads)], chunk, batch, identity)


def _agree(one: _Lane, other: _Lane, signature: Signature) -> bool:
    images = np.random.default_rng(1).integers(0, 256, (2, *signature.input.shape), np.uint8)
    a, b = (np.empty((2, signature.classes or 1), signature.output.dtype) for _ in range(2))
    for i in range(2):
        one.run(images[i : i + 1], a[i : i + 1])
        other.run(images[i : i + 1], b[i : i + 1])
    return np.array_equal(a, b, equal_nan=True)


def widest(model: models.Model) -> int:
    """Bytes of the activations that the widest op reads and writes for one image."""

    def bytes_of(i: int) -> int:
        t = model.tensors[i]
        return t.elements * (4 if t.dtype in ("float32", "int32") else 1) if i >= 0 and t.data is None else 0

    return max((sum(map(bytes_of, {*op.inputs, *op.outputs})) for op in model.ops), default=1)


def as_images(tensor: np.ndarray, image: tuple[int, ...], layout: str) -> np.ndarray:
    """An input tensor seen as ``(m, h, w, c)``, whatever its layout; shares memory."""
    h, w, c = image
    if layout == "nchw":
        return tensor.reshape(-1, c, h, w).transpose(0, 2, 3, 1)
    return tensor.reshape(-1, h, w, c)


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
