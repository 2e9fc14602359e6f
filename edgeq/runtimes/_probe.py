"""The child process: reads one request on stdin, opens and runs a file once, and says what it is on stdout, as one line of JSON.

``{"signature": ...}``, or ``{"error": sentence}``, or ``{"refused": message}`` where the interpreter itself declined.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any

import numpy as np

from edgeq.core.answer import Kind
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature, Tensor
from edgeq.integer import classifier
from edgeq.integer import model as models
from edgeq.integer.read import format_of, read

_A = {"tflite": "a .tflite", "onnx": "an .onnx"}
MEMORY = 8 * 2**30  # bytes of address space; a phone's model needs a tenth


class _Pixels:
    """Stands in for a pixel-to-input map: pixels as they are, wrapped into the input's type."""

    def encode(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        assert out is not None
        out[...] = images if out.dtype != np.int8 else images.view(np.int8)
        return out


def limit(seconds: float) -> None:
    """Bounds on memory and processor time, and no core dumps, where the system has them."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows: the parent's timeout still holds
        return
    cores = os.cpu_count() or 1
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, math.ceil(seconds) * cores),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, hard))


def signature_of(model: models.Model, output: str | None) -> Signature:
    """The signature of an image classifier, from its file. Raises :class:`EdgeqError`."""
    path = model.path
    if problem := classifier.classifier_problem(model):
        raise EdgeqError(f"{path}: {problem}")
    given, answer = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    kind = _kind(model, output)
    layout = classifier.image_layout(given.shape)
    assert layout is not None  # classifier_problem has looked
    shape = () if kind == "label" else (max(answer.shape[1:]),)
    return Signature(_border(path, given, layout[0]), _border(path, answer, shape), kind)


def _kind(model: models.Model, output: str | None) -> Kind:
    found = classifier.output_kind(model)
    is_label = model.tensors[model.outputs[0]].dtype in ("int32", "int64")
    if output is None and found is None:
        raise EdgeqError(
            f"{model.path}: what its output means cannot be told from the graph; pass --output probs, --output logits or --output label"
        )
    kind = output or found
    if (kind == "label") != is_label:
        what = "a label" if is_label else "one score a class"
        raise EdgeqError(f"{model.path}: returns {what}, so --output {kind} does not fit")
    return kind  # type: ignore[return-value]


def _border(path: str, tensor: models.Tensor, shape: tuple[int, ...]) -> Tensor:
    if tensor.dtype not in ("int8", "uint8") or not tensor.scales.size:
        return Tensor(shape, tensor.dtype)
    scale, zero = float(tensor.scales[0]), int(tensor.zeros[0]) if tensor.zeros.size else 0
    bounds = np.iinfo(tensor.dtype)
    if not (math.isfinite(scale) and scale > 0 and bounds.min <= zero <= bounds.max):
        raise EdgeqError(f"{path}: the scale {scale:g} and zero point {zero} of tensor {tensor.name!r} make no sense; the model is damaged")
    return Tensor(shape, tensor.dtype, scale, zero)


def answer_once(name: str, path: str, signature: Signature, measure: bool) -> None:
    """Opens the file and runs it on a black and a random image, just as it will be opened and run later."""
    images = np.random.default_rng(0).integers(0, 256, (2, *signature.input.shape), np.uint8)
    images[0] = 0
    if name == "tflm":  # here in this process, where a crash can be seen
        from edgeq.runtimes._tflm_worker import Micro

        micro = Micro(path)
        codes = _Pixels().encode(images, np.empty(images.shape, signature.input.dtype))
        micro.run(codes, np.empty((2, signature.classes or 1), signature.output.dtype))
        if measure:
            micro.interpreter.print_allocations()
        return
    import edgeq.runtimes as runtimes

    target = runtimes.open(name, path, signature, _Pixels(), threads=1)
    target.answer(images)
    target.close()


def main() -> None:
    request = json.loads(sys.stdin.readline())
    limit(request["seconds"])
    name, path = request["name"], request["path"]
    reply: dict[str, Any]
    try:
        data = models.file_bytes(path)
        wanted = "onnx" if name == "ort" else "tflite"
        if (found := format_of(path, data)) != wanted:
            raise EdgeqError(f"{path}: {name} runs {_A[wanted]} file, and this is {_A[found]} file")
        del data
        signature = signature_of(read(path), request["output"])
        answer_once(name, path, signature, request["measure"])
        reply = {"signature": signature.to_json()}
        if name == "ort" and request["measure"]:
            from edgeq.runtimes import ort

            reply["integer"], reply["float"] = ort.kernels(path)
    except EdgeqError as error:
        reply = {"error": str(error)}
    except MemoryError:
        reply = {"error": f"{path}: {name} needs more than {MEMORY // 2**30} GiB of memory for one image"}
    except Exception as error:  # whatever the interpreter raised is its reason
        reply = {"refused": str(error) or type(error).__name__}
    sys.stderr.flush()
    print(json.dumps(reply), flush=True)
    os._exit(0)  # an interpreter of a damaged file may crash when it is torn down; all is said


if __name__ == "__main__":
    main()
