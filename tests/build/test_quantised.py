"""A float ``.onnx`` made int8 by ONNX Runtime's quantiser, as ``edgeq export`` does it."""

import json

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import tiny_onnx
import torch_files
from rich.console import Console

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.integer import read
from edgeq.integer.simulate import simulate
from edgeq.report.fidelity import render


@pytest.fixture
def place(tmp_path):
    """A network with its weights in a second file, and images that it labels itself."""
    proto = onnx.ModelProto.FromString(torch_files.network())
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    pixels = torch_files.images(60)
    with edgeq.open(tmp_path / "m.onnx", preprocess="mean=0,std=255") as target:
        labels = target.answer(pixels).label()
    np.savez(tmp_path / "d.npz", x_train=torch_files.images(30, 1), y_train=np.zeros(30, int), x_test=pixels, y_test=labels)
    return tmp_path


def test_a_float_onnx_becomes_integer_kernels_that_are_compared_with_it(place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    exported = edgeq.export("m.onnx", "build", calibrate="d.npz", preprocess="mean=0,std=255", n=30)
    content = json.loads((place / "build/m-int8.edgeq.json").read_text())
    assert content == json.loads(json.dumps(exported.to_json()))
    render(exported, Console(width=80))
    assert "flips to" in (shown := capsys.readouterr().out)
    assert "ort-float" in shown
    made = content["files"]["m-int8.onnx"]
    assert made["integer_kernels"]["QLinearConv"] == 5
    assert made["integer_kernels"]["QGemm"] == 1
    assert content["recipe"]["n"] == 30
    floats, integers = content["fidelity"]["runtimes"]
    assert (floats["runtime"], floats["accuracy"][0]) == ("ort-float", 1.0)
    assert integers["accuracy"][0] > 0.8
    assert integers["flips"]["ort-float"] == 30 - round(30 * integers["accuracy"][0])
    # what was written is read for gradients, bit by bit, and its sidecar says how pixels enter
    graph = read.graph("build/m-int8.onnx")
    pixels = torch_files.images(20)
    with edgeq.open("build/m-int8.onnx") as target:
        answers = target.answer(pixels).raw
    assert np.array_equal(simulate(graph, pixels.astype(np.float32) / np.float32(255), "ort"), answers)
    assert max(len(t.scale) for _, t in graph.constants()) > 1  # a scale a channel


def test_what_cannot_be_quantised_is_a_sentence(place):
    def said(file, **options):
        with pytest.raises(EdgeqError) as caught:
            edgeq.export(place / file, place / "out", **{"calibrate": str(place / "d.npz"), "preprocess": "mean=0,std=255"} | options)
        assert not (place / "out").exists()
        return str(caught.value)

    assert "m.onnx: it needs images to find its ranges; pass --calibrate DATA" in said("m.onnx", calibrate=None, data=str(place / "d.npz"))
    assert "--portable, --store and other formats take a Keras network" in said("m.onnx", portable=True)
    assert "other formats take a Keras network" in said("m.onnx", formats=("tflite",))
    torch_files.quantised(place, "dynamic").rename(place / "q.onnx")
    assert "q.onnx: is quantised already" in said("q.onnx")
    np.savez(
        place / "d.npz",
        x_train=np.zeros((4, 2, 2, 1), np.uint8),
        y_train=np.arange(4),
        x_test=np.zeros((4, 2, 2, 1), np.uint8),
        y_test=np.arange(4),
    )
    proto = onnx.ModelProto.FromString(tiny_onnx.smallest())
    proto.graph.node[1].op_type = "LogSoftmax"
    (place / "e.onnx").write_bytes(proto.SerializeToString())
    assert "finds nothing to quantise in it" in said("e.onnx")
