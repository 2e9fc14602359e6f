"""The reader of ``.onnx`` files, against what onnx itself says and against damage."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
import tiny_onnx

from edgeq.core.errors import EdgeqError
from edgeq.integer import classifier, onnx_file, read


def test_scales_shapes_and_constants_are_found() -> None:
    content = tiny_onnx.classifier()
    model = onnx_file.parse(content, "m.onnx")
    given, answer = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    assert (given.name, given.shape, given.signature, given.dtype) == ("image", (1, 8, 8, 3), (-1, 8, 8, 3), "int8")
    assert given.scales.tolist() == [np.float32(1 / 255)]
    assert given.zeros.tolist() == [-128]
    assert (answer.scales.tolist(), answer.zeros.tolist()) == ([1 / 256], [-128])
    proto = onnx.load_model_from_string(content)
    for constant in proto.graph.initializer:
        codes = next(t for t in model.tensors if t.name == constant.name).codes()
        assert np.array_equal(codes, onnx.numpy_helper.to_array(constant))


def test_kinds_and_problems() -> None:
    assert classifier.output_kind(onnx_file.parse(tiny_onnx.classifier(), "m.onnx")) == "probs"
    assert classifier.output_kind(onnx_file.parse(tiny_onnx.classifier(floats=True, softmax=False), "m.onnx")) == "logits"
    proto = onnx.load_model_from_string(tiny_onnx.classifier())
    proto.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    assert "2 inputs" in (classifier.classifier_problem(onnx_file.parse(proto.SerializeToString(), "m.onnx")) or "")
    proto = onnx.load_model_from_string(tiny_onnx.classifier())
    proto.graph.node[-1].domain = "org.example"
    assert "custom op" in (classifier.classifier_problem(onnx_file.parse(proto.SerializeToString(), "m.onnx")) or "")


@pytest.mark.slow
def test_damage_is_a_sentence() -> None:
    content, rng = tiny_onnx.classifier(), np.random.default_rng(0)
    refused = []
    for i in range(200):
        damaged = bytearray(content[: int(rng.integers(1, len(content)))] if i % 4 == 0 else content)
        if i % 4:
            for at in rng.integers(0, len(content), 2 ** (i % 6)):
                damaged[at] = int(rng.integers(256))
        try:
            model = onnx_file.parse(bytes(damaged), "m.onnx")
            classifier.classifier_problem(model)
            classifier.output_kind(model)
            for tensor in model.tensors:
                tensor.codes()
        except EdgeqError as error:
            refused.append(str(error))
    assert all(text.startswith("m.onnx: ") for text in refused)
    assert len(refused) > 40


def test_random_numbers_are_found_at_any_depth_and_refused() -> None:
    """Inside a graph inside a node; ONNX Runtime would answer the same image differently each time."""
    from onnx import TensorProto, helper

    proto = onnx.load_from_string(tiny_onnx.classifier(floats=True))
    assert onnx_file.parse(proto.SerializeToString(), "m.onnx").restless == ()
    drawn = helper.make_node("RandomNormal", [], ["drawn"], shape=[1, 10])
    body = helper.make_graph([drawn], "body", [], [helper.make_tensor_value_info("drawn", TensorProto.FLOAT, [1, 10])])
    for _ in range(20):
        node = helper.make_node("If", ["yes"], ["drawn"], then_branch=body, else_branch=body)
        body = helper.make_graph([node], "body", [], [helper.make_tensor_value_info("drawn", TensorProto.FLOAT, [1, 10])])
        body.node[0].attribute.pop()  # one branch is enough, and does not double with every graph around it
    proto.graph.node.append(body.node[0])
    model = onnx_file.parse(proto.SerializeToString(), "m.onnx")
    assert model.restless == ("RandomNormal",)
    assert "contains RandomNormal: its answer to an image depends on chance" in classifier.classifier_problem(model)


def test_a_file_is_known_by_its_hash_without_the_onnx_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .tflite with an .onnx beside it is attacked from the base install, where no runtime takes the latter."""
    (path := tmp_path / "m.onnx").write_bytes(content := tiny_onnx.classifier())
    monkeypatch.setattr(read, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert read.sha256(path) == hashlib.sha256(content).hexdigest()
    assert read.size(path) == len(content)
