"""ONNX Runtime's own static quantisation of a float ``.onnx`` (onnxruntime.quantization), in a worker: it runs the file on the images."""

from __future__ import annotations

import importlib
import mmap
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.core.runtime import Codes
from edgeq.core.signature import Signature
from edgeq.pipeline.codes import PixelCodes
from edgeq.runtimes._layout import as_images
from edgeq.runtimes._process import START, Worker, WorkerError, patience

FORM = "QDQ, int8, weights per channel"


def quantise(path: str | Path, signature: Signature, codes: Codes, images: np.ndarray) -> bytes:
    """The float ``.onnx`` file ``path``, already probed, as QDQ: int8 activations, whose ranges ``images (n, h, w, c) uint8`` set, and int8
    weights with a scale a channel. ``codes``: the pixel-to-input map. Raises :class:`EdgeqError` where the quantiser refuses the file.
    """
    request: dict[str, Any] = {
        "task": "quantise",
        "name": "ort",
        "path": str(path),
        "signature": signature.to_json(),
        "codes": codes.to_json(),
    }
    request |= {"n": len(images), "measure": True}  # it writes files, in a folder of its own
    worker = Worker(request, images.nbytes)
    try:
        allowed = worker.receive(START, "read the file")[0]["seconds"]
        assert worker.memory is not None
        worker.memory[: images.nbytes] = images.tobytes()
        worker.send({"n": len(images), "cpu": allowed})
        reply, content = worker.receive(patience(allowed), "quantise the file")
    except WorkerError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix("ort cannot run it: ")
        advice = "quantise it yourself, and attack the result"
        raise type(error)(f"{path}: onnxruntime's quantiser does not take it ({reason}); {advice}") from None
    finally:
        worker.close()
    if not reply["quantised"]:
        raise EdgeqError(f"{path}: onnxruntime's quantiser finds nothing to quantise in it; is it quantised already?")
    return content


def served(path: str, signature: Signature, codes: PixelCodes) -> Callable[[dict[str, Any]], tuple[dict[str, Any], bytes]]:
    """For workers: the function that answers ``{"n": images in the shared memory}`` with the quantised file."""
    from edgeq.integer.onnx.content import proto_of, self_contained

    proto = proto_of(self_contained(path), path)
    given = next(value for value in proto.graph.input if value.name not in {t.name for t in proto.graph.initializer})
    dims = [d.dim_value for d in given.type.tensor_type.shape.dim]
    memory = np.frombuffer(mmap.mmap(int(sys.argv[2]), 0), np.uint8)

    def serve(asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        quantization = importlib.import_module("onnxruntime.quantization")
        pixels = memory[: asked["n"] * int(np.prod(signature.input.shape))].reshape(-1, *signature.input.shape)
        feeds = ({given.name: _entered(pixels[i : i + 1], signature, codes, dims, signature.layout)} for i in range(len(pixels)))
        reader = type("Reader", (quantization.CalibrationDataReader,), {"get_next": lambda _: next(feeds, None)})
        with scratch() as folder:
            tempfile.tempdir, out = str(folder), folder / "out.onnx"
            kind = quantization.QuantType.QInt8
            quantization.quantize_static(proto, out, reader(), per_channel=True, activation_type=kind, weight_type=kind)
            content = out.read_bytes()
        nodes = proto_of(content, path).graph.node
        return {"quantised": any(n.op_type == "QuantizeLinear" for n in nodes), "bytes": len(content)}, content

    return serve


def _entered(pixels: np.ndarray, signature: Signature, codes: PixelCodes, dims: list[int], layout: str) -> np.ndarray:
    """One image as the file takes it."""
    space = np.empty((1, *dims[1:]), signature.input.dtype)
    codes.encode(pixels, as_images(space, signature.input.shape, layout))
    return space
