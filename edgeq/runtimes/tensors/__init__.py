"""Every activation inside a ``.tflite``, as a runtime computes it: what :mod:`edgeq.measure.layers` compares op by op.

The interpreters keep their inner tensors when they are asked to: LiteRT by ``experimental_preserve_all_tensors``, which XNNPACK's
delegate heeds too, TFLite Micro by ``kPreserveAllTensors``. That is another way of running the file, so hold the output against the
deployed runtime's. ONNX Runtime runs an ``.onnx`` whose fused graph has other tensors: of these the simulator's are taken, by the ops of
the integer graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.runtime import Codes, Runtime
from edgeq.core.signature import Signature
from edgeq.integer import model, read, read_tflite, rounding, tflite_file
from edgeq.integer.graph import Graph, as_model
from edgeq.integer.simulate import simulate
from edgeq.runtimes._layout import as_images, layout_of
from edgeq.runtimes._process import START, LostError, Worker, allowance, patience

RUNTIMES = rounding.RUNTIMES
_NUMBERS = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool")

Tensors = Callable[[np.ndarray], dict[int, np.ndarray]]
"""``(n, h, w, c) uint8`` images -> index of a tensor in the file -> ``(n, ...)`` codes: the input, and what the ops write."""


def open(name: str, path: str | Path, signature: Signature, codes: Codes, timeout: float = START) -> Tensors:
    """The inner tensors of the file ``path``, already probed, in the runtime ``name``, in a worker that ends with the value returned.

    ``codes``: the pixel-to-input map; ``timeout``: seconds to open it. Raises :class:`EdgeqError` where the runtime cannot keep them.
    """
    request = {"task": "tensors", "name": name, "path": str(path), "signature": signature.to_json(), "codes": codes.to_json()}
    worker = Worker(request, int(np.prod(signature.input.shape)))
    assert worker.memory is not None
    space = np.frombuffer(worker.memory, np.uint8).reshape(signature.input.shape)
    try:
        allowed = allowance(1, worker.receive(timeout, "finish one image with its inner tensors kept")[0]["seconds"])
    except LostError:
        raise
    except EdgeqError as error:
        raise EdgeqError(f"{path}: {name} cannot keep its inner tensors ({str(error).removeprefix(f'{path}: ')})") from None

    def ask(image: np.ndarray) -> dict[int, np.ndarray]:
        space[...] = image
        worker.send({"cpu": allowed})
        reply, content = worker.receive(patience(allowed), "give the inner tensors of an image")
        row, at = {}, 0
        for index, dtype, shape in reply["tensors"]:
            row[index] = np.frombuffer(content, dtype, math.prod(shape), at).reshape(shape)
            at += row[index].nbytes
        return row

    def tensors(images: np.ndarray) -> dict[int, np.ndarray]:
        rows = [ask(image) for image in images]
        shapes = {i: value.shape for i, value in rows[0].items()} if rows else {}
        same = [i for i, shape in shapes.items() if all(i in row and row[i].shape == shape for row in rows)]
        return {i: np.stack([row[i] for row in rows]) for i in same}

    return tensors


def simulated(name: str, path: str | Path, signature: Signature, codes: Codes) -> Tensors:
    """The same from :mod:`edgeq.integer.simulate` with the rounding of ``name``. Raises :class:`EdgeqError` for an op it does not know."""
    if Path(path).suffix == ".onnx":
        graph = read.graph(path)
        file, layout = as_model(graph), "nhwc"
    else:
        file = tflite_file.read(str(path))
        graph, layout = read_tflite.from_model(file), layout_of(file)
    place = places(file, graph)
    enter = _enter(file, signature, codes, layout)
    simulate(graph, np.empty((0, *graph.tensors[graph.input].shape), graph.tensors[graph.input].dtype), name)

    def tensors(images: np.ndarray) -> dict[int, np.ndarray]:
        given = enter(images).reshape(len(images), *graph.tensors[graph.input].shape)
        kept = simulate(graph, given, name, keep=True)
        assert isinstance(kept, dict)
        return {place[i]: value for i, value in kept.items() if i in place and len(value) == len(images)}

    return tensors


def places(file: model.Model, graph: Graph) -> dict[int, int]:
    """Index of what an op writes, or of the input, in the integer ``graph`` of a ``file`` -> in the file."""
    return {graph.input: file.inputs[0], **{g.output: f.outputs[0] for g, f in zip(graph.ops, file.ops, strict=True)}}


One = Callable[[np.ndarray], dict[int, np.ndarray]]
"""``(1, h, w, c) uint8``, one image -> index of a tensor -> its codes."""


def kept(runtime: Runtime, path: str | Path, signature: Signature, codes: Codes) -> One:
    """The inner tensors by an interpreter in this process: for workers."""
    file = tflite_file.read(str(path))
    wanted = [i for i in (*file.inputs, *(i for op in file.ops for i in op.outputs)) if i >= 0 and file.tensors[i].dtype in _NUMBERS]
    most = 2**20 + 16 * sum(file.tensors[i].elements for i in wanted)  # bytes
    inner = runtime.tensors(path, signature, codes)

    def run(image: np.ndarray) -> dict[int, np.ndarray]:
        row = inner(image, wanted)
        if sum(value.nbytes for value in row.values()) > most:
            raise EdgeqError(f"{path}: its inner tensors are larger on an image than the file states")
        return row

    return run


def _enter(file: model.Model, signature: Signature, codes: Codes, layout: str) -> Callable[[np.ndarray], np.ndarray]:
    """Images to input codes in the file's own layout, ``(n, *shape)``."""
    shape = file.tensors[file.inputs[0]].shape[1:]

    def enter(images: np.ndarray) -> np.ndarray:
        space = np.empty((len(images), *shape), signature.input.dtype)
        codes.encode(images, as_images(space, signature.input.shape, layout))
        return space

    return enter
