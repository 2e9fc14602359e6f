"""Every activation inside a ``.tflite``, as a runtime computes it: what :mod:`edgeq.measure.layers` compares op by op.

The interpreters keep their inner tensors when they are asked to: LiteRT by ``experimental_preserve_all_tensors``, which XNNPACK's
delegate heeds too, TFLite Micro by ``kPreserveAllTensors``. That is another way of running the file, so hold the output against the
deployed runtime's. ONNX Runtime runs an ``.onnx`` whose fused graph has other tensors: it has no place here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import classifier, model, read_tflite, rounding, tflite_file
from edgeq.integer.graph import Graph
from edgeq.integer.simulate import simulate
from edgeq.runtimes import python_child
from edgeq.runtimes._lanes import Codes

RUNTIMES = rounding.RUNTIMES
_NUMBERS = ("int8", "uint8", "int16", "int32", "int64", "float32", "bool")

Tensors = Callable[[np.ndarray], dict[int, np.ndarray]]
"""``(n, h, w, c) uint8`` images -> index of a tensor in the file -> ``(n, ...)`` codes: the input, and what the ops write."""


def open(name: str, path: str | Path, signature: Signature, codes: Codes, timeout: float = 60) -> Tensors:
    """The inner tensors of the file ``path``, already probed, in the runtime ``name``. Tried in a child process first.

    ``codes``: the pixel-to-input map; ``timeout``: seconds. Raises :class:`EdgeqError` where the runtime cannot keep them.
    """
    stat = os.stat(path)
    request = json.dumps({"name": name, "path": str(path), "signature": signature.to_json(), "seconds": timeout})
    _survives(name, path, request, timeout, (stat.st_mtime_ns, stat.st_size))
    return _open(name, path, signature, codes)


@lru_cache
def _survives(name: str, path: str | Path, request: str, timeout: float, _stamp: tuple[int, int]) -> None:
    """The trial in a child process; once for the same file, as starting one takes longer than what it tries."""
    command, env = python_child("edgeq.runtimes.tensors")
    try:
        done = subprocess.run(command, input=request.encode(), capture_output=True, timeout=timeout, env=env, check=False)
    except subprocess.TimeoutExpired:
        raise EdgeqError(f"{path}: {name} did not finish one image in {timeout:g} s with its inner tensors kept") from None
    if done.returncode:
        raise EdgeqError(f"{path}: {name} cannot keep its inner tensors (its process ended with status {done.returncode})")


def simulated(name: str, path: str | Path, signature: Signature, codes: Codes) -> Tensors:
    """The same from :mod:`edgeq.integer.simulate` with the rounding of ``name``. Raises :class:`EdgeqError` for an op it does not know."""
    file = tflite_file.read(str(path))
    graph = read_tflite.from_model(file)
    place = places(file, graph)
    enter = _enter(file, signature, codes)
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


def _open(name: str, path: str | Path, signature: Signature, codes: Codes) -> Tensors:
    file = tflite_file.read(str(path))
    wanted = [i for i in (*file.inputs, *(i for op in file.ops for i in op.outputs)) if i >= 0 and file.tensors[i].dtype in _NUMBERS]
    one = (_micro if name == "tflm" else _lite)(name, path, file, signature, codes)

    def tensors(images: np.ndarray) -> dict[int, np.ndarray]:
        rows = [one(image[None], wanted) for image in images]
        return {i: np.stack([row[i] for row in rows]) for i in wanted if all(i in row for row in rows)}

    return tensors


One = Callable[[np.ndarray, list[int]], dict[int, np.ndarray]]


def _lite(name: str, path: str | Path, file: model.Model, signature: Signature, codes: Codes) -> One:
    from edgeq.runtimes import litert

    with warnings.catch_warnings():  # it warns of the memory this takes
        warnings.simplefilter("ignore")
        lane = litert._Lane(model.file_bytes(path), name, signature, codes, _layout(file), preserve=True)
    out = np.empty((1, signature.classes or 1), signature.output.dtype)

    def run(image: np.ndarray, wanted: list[int]) -> dict[int, np.ndarray]:
        lane.run(image, out)
        kept = {}
        for i in wanted:
            try:
                kept[i] = lane.interpreter.get_tensor(i)  # a copy
            except ValueError:  # it has no memory: the runtime folded it away
                continue
        return kept

    return run


def _micro(name: str, path: str | Path, file: model.Model, signature: Signature, codes: Codes) -> One:
    from edgeq.runtimes._tflm_worker import Micro
    from edgeq.runtimes.litert import quiet

    with quiet():
        micro = Micro(path, keep=True)
    enter = _enter(file, signature, codes)
    out = np.empty((1, signature.classes or 1), signature.output.dtype)

    def run(image: np.ndarray, wanted: list[int]) -> dict[int, np.ndarray]:
        micro.run(enter(image), out)
        return {i: micro.interpreter.GetTensor(i, 0)["tensor_data"].copy() for i in wanted}

    return run


def _enter(file: model.Model, signature: Signature, codes: Codes) -> Callable[[np.ndarray], np.ndarray]:
    """Images to input codes in the file's own layout, ``(n, *shape)``."""
    from edgeq.runtimes.litert import as_images

    shape, layout = file.tensors[file.inputs[0]].shape[1:], _layout(file)

    def enter(images: np.ndarray) -> np.ndarray:
        space = np.empty((len(images), *shape), signature.input.dtype)
        codes.encode(images, as_images(space, signature.input.shape, layout))
        return space

    return enter


def _layout(file: model.Model) -> str:
    _, layout = classifier.image_layout(file.tensors[file.inputs[0]].shape) or ((), "nhwc")
    return layout


def main() -> None:
    """The child process: one black image. It ends with status 0 if the interpreter survives."""
    from edgeq.runtimes._probe import _Pixels, limit

    request = json.loads(sys.stdin.readline())
    limit(request["seconds"])
    signature = Signature.from_json(request["signature"])
    try:
        _open(request["name"], request["path"], signature, _Pixels())(np.zeros((1, *signature.input.shape), np.uint8))
    except Exception as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)  # a damaged file may crash the interpreter when it is torn down


if __name__ == "__main__":
    main()
