"""The inner tensors of a file: the interpreters' own, held against the simulator's, and what happens where they are not to be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from random_graphs import random_graph

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import tflite_file
from edgeq.integer.read import read
from edgeq.integer.write_tflite import write_tflite
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import tensors
from edgeq.runtimes._probe import signature_of


def _border(path: Path, output: str | None = None) -> tuple[Signature, object]:
    signature = signature_of(read(path), output)
    h, w, c = signature.input.shape
    return signature, codes_for(signature.input, Preprocess((h, w), c, mean=(0.0,) * c, std=(255.0,) * c), str(path))


@pytest.mark.parametrize("name", tensors.RUNTIMES)
def test_every_tensor_is_the_simulators(name: str, tmp_path: Path) -> None:
    if name == "tflm":
        pytest.importorskip("tflite_micro")
    path = tmp_path / "m.tflite"
    path.write_bytes(write_tflite(random_graph(7)))
    signature, codes = _border(path, "logits")
    images = np.random.default_rng(0).integers(0, 256, (3, *signature.input.shape), np.uint8)
    kept = tensors.open(name, path, signature, codes)(images)
    wanted = tensors.simulated(name, path, signature, codes)(images)
    file = tflite_file.read(str(path))
    assert set(kept) == {file.inputs[0], *(op.outputs[0] for op in file.ops)} == set(wanted)
    for index, value in kept.items():
        np.testing.assert_array_equal(value.reshape(3, -1), wanted[index].reshape(3, -1), file.tensors[index].name)
    target = runtimes.open(name, path, signature, codes, threads=1)
    np.testing.assert_array_equal(kept[file.outputs[0]].reshape(3, -1), target.answer(images).raw)
    target.close()


def test_channels_first(tmp_path: Path) -> None:
    """The image of an NCHW file is turned before it enters."""
    g = tiny_tflite.Graph()
    x = g.tensor("image", (1, 3, 4, 5), "int8", 1 / 255, -128)
    flat = g.tensor("flat", (1, 60), "int8", 1 / 255, -128)
    g.op(tiny_tflite.B.RESHAPE, [x, g.tensor("shape", (2,), "int32", data=[-1, 60])], [flat], tiny_tflite.schema.ReshapeOptionsT())
    path = tmp_path / "m.tflite"
    path.write_bytes(g.done([x], [flat]))
    signature, codes = _border(path, "logits")
    images = np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3)
    for make in (tensors.open, tensors.simulated):
        kept = make("litert-reference", path, signature, codes)(images)
        np.testing.assert_array_equal(kept[flat].reshape(-1), images[0].transpose(2, 0, 1).reshape(-1).astype(int) - 128)


def test_a_file_that_ends_its_process_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(c=3))
    signature, codes = _border(path)
    dying = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
    monkeypatch.setattr("edgeq.runtimes._process.python_child", lambda *_: (dying, {}))
    with pytest.raises(EdgeqError, match=r"m.tflite: litert-reference cannot keep its inner tensors \(.*SIGSEGV"):
        tensors.open("litert-reference", path, signature, codes)
    sleeping = [sys.executable, "-c", "import time; time.sleep(9)"]
    monkeypatch.setattr("edgeq.runtimes._process.python_child", lambda *_: (sleeping, {}))
    with pytest.raises(runtimes.LostError, match=r"did not finish one image with its inner tensors kept in 0\.2 s"):
        tensors.open("litert-reference", path, signature, codes, timeout=0.2)


def test_a_file_that_cannot_be_kept_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(c=3))
    signature, codes = _border(path)
    path.write_bytes(b"TFL3" * 99)
    with pytest.raises(EdgeqError, match=r"m.tflite: litert-reference cannot keep its inner tensors \("):
        tensors.open("litert-reference", path, signature, codes)


def test_what_cannot_be_simulated_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(tiny_tflite.classifier(c=3, label=True))
    signature, codes = _border(path)
    with pytest.raises(EdgeqError, match="ARG_MAX"):
        tensors.simulated("litert-reference", path, signature, codes)
    kept = tensors.open("litert-reference", path, signature, codes)(np.zeros((2, 8, 8, 3), np.uint8))
    assert len(kept) == len(tflite_file.read(str(path)).ops) + 1
