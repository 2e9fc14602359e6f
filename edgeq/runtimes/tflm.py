"""TFLite Micro, the interpreter of microcontrollers, on this host: one image at a time."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np

from edgeq.core.signature import Signature
from edgeq.integer import classifier
from edgeq.integer.read import read
from edgeq.runtimes import arena_bytes, cpu
from edgeq.runtimes._lanes import Codes, Lanes
from edgeq.runtimes._micro import Micro
from edgeq.runtimes.litert import as_images

__all__ = ["arena_bytes", "open"]

CHUNK = 32  # images encoded at once


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


def open(path: str | Path, signature: Signature, codes: Codes, *, batch: int = 256, threads: int | None = None) -> Lanes:
    """The ``.tflite`` file as a target of one lane: the interpreter holds Python's lock, so other lanes are other processes."""
    model = read(path)
    _, layout = classifier.image_layout(model.tensors[model.inputs[0]].shape) or ((), "nhwc")
    identity = {
        "engine": "TFLite Micro",
        "version": importlib.metadata.version("tflite-micro"),
        "kernels": "reference",
        "cpu": cpu.describe(),
        "argmax": "lowest index",
        **({"state": "reset before every image"} if model.variables else {}),
    }
    return Lanes("tflm", signature, [_Lane(path, signature, codes, layout)], CHUNK, batch, identity)
