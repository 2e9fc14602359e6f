"""The reader of ``.tflite`` files: what it finds, and that no damage gets past it as anything but a sentence."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny_tflite
from ai_edge_litert.interpreter import Interpreter

from edgeq.core.errors import EdgeqError
from edgeq.integer import classifier, tflite_file
from edgeq.integer import model as models
from edgeq.integer.read import read

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"


def test_it_agrees_with_the_interpreter_on_every_tensor() -> None:
    content = tiny_tflite.classifier(c=3, dtype="uint8")
    model = tflite_file.parse(content, "m.tflite")
    interpreter = Interpreter(model_content=content)
    theirs = {d["index"]: d for d in interpreter.get_tensor_details()}
    for i, tensor in enumerate(model.tensors):
        assert tensor.name == theirs[i]["name"]
        assert tensor.shape == tuple(theirs[i]["shape"])
        assert np.dtype(tensor.dtype) == theirs[i]["dtype"]
        assert np.array_equal(tensor.scales, theirs[i]["quantization_parameters"]["scales"])
        assert np.array_equal(tensor.zeros, theirs[i]["quantization_parameters"]["zero_points"])
        if tensor.data is not None:
            assert np.array_equal(tensor.codes(), interpreter.get_tensor(i))
    assert [op.name for op in model.ops] == [d["op_name"] for d in interpreter._get_ops_details()][: len(model.ops)]
    assert model.inputs == (interpreter.get_input_details()[0]["index"],)
    assert model.ops[1].options["fused_activation_function"] == 1
    assert model.ops[-2].options["beta"] == 1.0


def test_metadata_travels_along() -> None:
    model = tflite_file.parse(tiny_tflite.classifier(metadata={"NOTE": b"hello"}), "m.tflite")
    assert bytes(model.metadata["NOTE"]) == b"hello"


def test_kinds_and_problems() -> None:
    def parse(content: bytes) -> models.Model:
        return tflite_file.parse(content, "m.tflite")

    kinds = {classifier.output_kind(parse(tiny_tflite.classifier(dtype=d))) for d in ("int8", "uint8", "float32") for s in [True]}
    assert kinds == {"probs"}
    assert classifier.output_kind(parse(tiny_tflite.classifier(dtype="float32", softmax=False))) == "logits"
    assert classifier.output_kind(parse(tiny_tflite.classifier(label=True))) == "label"
    assert classifier.output_kind(parse(tiny_tflite.puzzling())) is None
    assert classifier.classifier_problem(parse(tiny_tflite.classifier())) is None
    bad = (tiny_tflite.two_inputs, tiny_tflite.detector, tiny_tflite.segmentation, tiny_tflite.autoencoder, tiny_tflite.edgetpu)
    assert len({classifier.classifier_problem(parse(make())) for make in bad} - {None}) == len(bad)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 32, 32, 3), ((32, 32, 3), "nhwc")),
        ((1, 3, 224, 224), ((224, 224, 3), "nchw")),
        ((1, 28, 28), ((28, 28, 1), "nhwc")),
        ((1, 784), None),
        ((1, 32, 32, 4), None),
        ((1, 1, 1, 3), None),
    ],
)
def test_image_layouts(shape: tuple[int, ...], expected: object) -> None:
    assert classifier.image_layout(shape) == expected


def test_damage_is_a_sentence() -> None:
    content, rng = tiny_tflite.classifier(metadata={"A": b"b" * 40}), np.random.default_rng(0)
    refused = []
    for i in range(400):
        if i % 4 == 0:
            damaged = bytearray(content[: int(rng.integers(8, len(content)))])
        else:
            damaged = bytearray(content)
            for at in rng.integers(0, len(content), 2 ** (i % 6)):
                damaged[at] = int(rng.integers(256))
            damaged[4:8] = b"TFL3"
        try:
            model = tflite_file.parse(bytes(damaged), "m.tflite")
            classifier.classifier_problem(model)
            for tensor in model.tensors:
                tensor.codes()
        except EdgeqError as error:
            refused.append(str(error))
    assert set(refused) == {"m.tflite: the model is truncated or damaged; fetch or export it again"}
    assert 100 < len(refused) < 400


@pytest.mark.slow
def test_a_vector_that_claims_four_billion_entries_costs_nothing() -> None:
    content = tiny_tflite.classifier()
    tracemalloc.start()
    for at in range(0, len(content) - 4, 12):  # every third aligned word in turn becomes a huge length, or a wild offset
        damaged = bytearray(content)
        struct.pack_into("<I", damaged, at, 0xFFFFFF00)
        damaged[4:8] = b"TFL3"
        try:
            tflite_file.parse(bytes(damaged), "m.tflite")
        except EdgeqError:
            continue
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.tflite", b"", "is empty"),
        ("m.tflite", b"hello, world", "not a TFLite model"),
        ("m.bin", b"hello, world", "neither a .tflite nor an .onnx"),
        ("m.tflite", b"\x00\x00\x00\x7fTFL3", "truncated or damaged"),
    ],
)
def test_what_is_no_model_is_told_apart(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgeqError, match=words):
        read(tmp_path / name)
    with pytest.raises(EdgeqError, match="is not a file"):
        read(tmp_path)


def test_int4_is_unpacked_low_nibble_first() -> None:
    tensor = models.Tensor("w", (3,), (3,), "int4", data=memoryview(bytes([0x81, 0x07])))
    codes = tensor.codes()
    assert codes is not None
    assert codes.tolist() == [1, -8, 7]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/models")
def test_real_files() -> None:
    resnet = read(SHARED / "pretrainedResnet_quant.tflite")
    assert (classifier.output_kind(resnet), classifier.classifier_problem(resnet), len(resnet.ops)) == ("probs", None, 16)
    mobilenet = read(SHARED / "mobilenet_v1_0.25_128_quant.tflite")
    assert classifier.classifier_problem(mobilenet) is None
    assert mobilenet.tensors[mobilenet.outputs[0]].shape == (1, 1001)
    assert "TFLITE_METADATA" in mobilenet.metadata
