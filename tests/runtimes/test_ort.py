"""ONNX Runtime: its laws, its layouts, and whether its kernels really are integer ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import tiny_onnx

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess


def open_onnx(path: Path, **options: Any) -> Any:
    signature = runtimes.probe("ort", path)
    h, w, c = signature.input.shape
    codes = codes_for(signature.input, Preprocess((h, w), c, mean=(0.0,), std=(255.0,)), "test")
    return runtimes.open("ort", path, signature, codes, **options)


@pytest.mark.parametrize("options", [{}, {"fixed_batch": True}, {"floats": True}, {"softmax": False}])
def test_answers_depend_on_neither_batch_nor_threads_nor_order(options: dict[str, bool], tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(tiny_onnx.classifier(**options))
    few, many = open_onnx(file, batch=4, threads=1), open_onnx(file, batch=32, threads=3)
    images = np.random.default_rng(7).integers(0, 256, (37, *few.signature.input.shape), np.uint8)
    alone = np.concatenate([few.answer(images[i : i + 1]).raw for i in range(len(images))])
    assert len(np.unique(alone, axis=0)) > 5
    order = np.random.default_rng(0).permutation(len(images))
    assert np.array_equal(many.answer(images).raw, alone)
    assert np.array_equal(many.answer(images[order]).raw, alone[order])
    assert many.chunk > 1, "a batch declared as one is freed"
    few.close()
    many.close()


def test_channels_first_is_the_same_network(tmp_path: Path) -> None:
    answers = []
    images = np.random.default_rng(1).integers(0, 256, (20, 8, 6, 3), np.uint8)
    for nchw in (False, True):
        file = tmp_path / f"{nchw}.onnx"
        file.write_bytes(tiny_onnx.classifier(h=8, w=6, nchw=nchw))
        target = open_onnx(file)
        assert target.signature.input.shape == (8, 6, 3)
        answers.append(target.answer(images).raw)
        target.close()
    assert np.array_equal(*answers)
    assert len(np.unique(answers[0], axis=0)) > 5


def test_integer_kernels_are_counted_in_the_optimised_graph(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(tiny_onnx.classifier())
    integer, floating = runtimes.integer_kernels(file)
    assert integer["QLinearConv"] == 1
    assert sum(integer.values()) >= 2
    assert not {"Conv", "MatMul", "FusedConv"} & floating.keys()


def test_what_is_no_onnx_classifier_is_refused(tmp_path: Path) -> None:
    import onnx

    file, content = tmp_path / "m.onnx", tiny_onnx.classifier()
    model = onnx.load_model_from_string(content)
    for tensor in model.graph.initializer:
        if tensor.name == "fc/w":
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="../../etc/passwd")
    cases = {
        b"": "is empty",
        b"\x00" * 64: "truncated or damaged",
        content[: len(content) // 2]: "truncated or damaged",
        model.SerializeToString(): "second file",
    }
    for data, words in cases.items():
        file.write_bytes(data)
        with pytest.raises(EdgeqError, match=words):
            runtimes.probe("ort", file)


def test_damaged_files_give_a_signature_or_a_sentence(tmp_path: Path) -> None:
    content, rng = tiny_onnx.classifier(), np.random.default_rng(3)
    outcomes = []
    for i in range(4):
        flipped = bytearray(content)
        for at in rng.integers(0, len(content), 4):
            flipped[at] ^= 1 << int(rng.integers(8))
        file = tmp_path / f"{i}.onnx"
        file.write_bytes(flipped)
        found = runtimes.probe_all(("ort",), file)["ort"]
        outcomes.append(str(found).startswith(f"{file}: ") if isinstance(found, EdgeqError) else found.classes == 10)
    assert all(outcomes)
