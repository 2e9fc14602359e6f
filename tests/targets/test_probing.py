"""Which runtimes run a file, and what each says that does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from ai_edge_litert import schema_py_generated as schema

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.integer import read
from edgeq.integer.rounding import RUNTIMES
from edgeq.integer.simulate import simulate
from edgeq.targets.probing import probe


def _odd_biases() -> bytes:
    """A classifier whose biases state their scales along an axis that they lack, as TensorFlow's person detector does."""
    model = schema.ModelT.InitFromPackedBuf(tiny_tflite.classifier(c=3, seed=4), 0)
    for tensor in model.subgraphs[0].tensors:
        if tensor.name.endswith(b"/b"):
            tensor.quantization.quantizedDimension = 3
    return tiny_tflite.packed(model)


def test_each_runtime_that_refuses_has_its_reason_and_the_one_that_takes_the_file_is_attacked(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    file = tmp_path / "m.tflite"
    file.write_bytes(_odd_biases())
    probed = probe(file)
    reason = "quantized_dimension must be in range [0, 1). Was 3; Tensor 2 has invalid quantization parameters"
    assert [probed.reason(name) for name in RUNTIMES] == [reason, reason, reason, ""]
    assert probed.notes(()) == ["tflm is attacked, as litert-xnnpack, litert-builtin, litert-reference do not run the file"]
    with pytest.raises(EdgeqError, match=r"m\.tflite: litert-builtin cannot run it: quantized_dimension must be in range"):
        probe(file, ("litert-builtin",))
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    codes = (images.astype(int) - 128).astype(np.int8)
    for name in ("tflm", "tflm-exact"):
        with edgeq.open(file, runtime=name) as target:
            np.testing.assert_array_equal(target.answer(images).raw, simulate(read.graph(file), codes, "tflm"))
    with pytest.raises(EdgeqError, match=r"conv .* has a bias of shape .* along axis 3, which LiteRT refuses"):
        simulate(read.graph(file), codes, "litert-builtin")


def test_uint8_on_tflm_is_not_called_hybrid(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.flat((1, 8, 8, 1), dtype="uint8"))
    wanted = "tflm has no kernel for FULLY_CONNECTED of uint8; convert the network with int8 instead, as TensorFlow 2 does"
    assert probe(file).reason("tflm") == wanted
