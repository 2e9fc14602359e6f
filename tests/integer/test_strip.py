"""A file without its last softmax: the same kernels, one op earlier."""

import numpy as np
import pytest
import qdq_files
import tiny_onnx
import tiny_tflite
from random_graphs import random_graph

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.integer import read, read_tflite, tflite_file
from edgeq.integer.simulate import simulate
from edgeq.integer.strip import strip
from edgeq.integer.write_onnx import write_onnx
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess

LITERT = ("litert-xnnpack", "litert-builtin", "litert-reference")


@pytest.mark.parametrize("options", [{}, {"dtype": "uint8"}, {"dtype": "float32"}, {"label": True}])
def test_one_number_changes_and_no_op_does(options):
    content = tiny_tflite.classifier(**options)
    bare = strip(content, "m.tflite")
    assert len(bare) == len(content)
    assert 1 <= sum(a != b for a, b in zip(content, bare, strict=True)) <= 4
    before, after = (tflite_file.parse(c, "m.tflite") for c in (content, bare))
    assert [op.name for op in after.ops] == [op.name for op in before.ops]
    reader = next(op for op in after.ops if after.outputs[0] in op.inputs)
    assert reader.name == ("ARG_MAX" if options.get("label") and "SOFTMAX" not in [op.name for op in after.ops] else "SOFTMAX")


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [*LITERT, "tflm"])
@pytest.mark.parametrize("label", [False, True])
def test_its_logits_are_the_simulators_and_their_top_class_is_the_files(runtime, label, tmp_path):
    if runtime == "tflm":
        pytest.importorskip("tflite_micro")
    whole, bare = tmp_path / "whole.tflite", tmp_path / "bare.tflite"
    whole.write_bytes(tiny_tflite.classifier(c=3, seed=5, label=label))
    bare.write_bytes(strip(whole.read_bytes(), str(whole)))
    images = np.random.default_rng(2).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    answers = {}
    for path, output in ((whole, None), (bare, "logits")):
        signature = runtimes.probe(runtime, path, output=output)
        codes = codes_for(signature.input, Preprocess((8, 8), 3, mean=(0.0,), std=(255.0,)), "m")
        target = runtimes.open(runtime, path, signature, codes, threads=1)
        answers[path] = target.answer(images)
        target.close()
    assert answers[bare].kind == "logits"
    assert not answers[whole].fooled(answers[bare].label()).any()
    assert len(np.unique(answers[bare].label())) > 2
    if not label:
        want = simulate(read_tflite.read(bare), codes.encode(images), runtime)
        np.testing.assert_array_equal(answers[bare].raw, want)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "float", "QLinear", "QDQ"])
def test_the_logits_of_an_onnx_file(kind, tmp_path):
    pytest.importorskip("onnxruntime")
    graph = random_graph(2, softmax=True)
    make = {"float": lambda: tiny_onnx.classifier(floats=True), "QLinear": lambda: write_onnx(graph), "QDQ": lambda: qdq_files.write(graph)}
    path = tmp_path / "bare.onnx"
    path.write_bytes(strip(make.get(kind, tiny_onnx.classifier)(), "m.onnx"))
    signature = runtimes.probe("ort", path, output="logits")
    images = np.random.default_rng(2).integers(0, 256, (40, *signature.input.shape), dtype=np.uint8)
    codes = codes_for(signature.input, Preprocess(signature.input.shape[:2], images.shape[3], mean=(0.0,), std=(255.0,)), "m")
    target = runtimes.open("ort", path, signature, codes, threads=1)
    answer = target.answer(images)
    target.close()
    assert (answer.kind, answer.raw.dtype.kind) == ("logits", "u" if kind == "QLinear" else "i")
    np.testing.assert_array_equal(answer.raw, simulate(read.graph(path), codes.encode(images), "ort"))
    assert len(np.unique(answer.raw)) > 10


def test_an_onnx_file_that_ends_in_logits_has_nothing_to_take_away():
    pytest.importorskip("onnx")
    with pytest.raises(EdgeqError, match=r"m\.onnx: ends in no softmax"):
        strip(tiny_onnx.classifier(softmax=False), "m.onnx")


def test_a_file_that_ends_in_logits_has_nothing_to_take_away():
    with pytest.raises(EdgeqError, match=r"m\.tflite: ends in no softmax"):
        strip(tiny_tflite.classifier(softmax=False), "m.tflite")


def test_an_output_that_shares_its_bytes_with_another_list_is_refused(monkeypatch):
    content = tiny_tflite.classifier()
    model = tflite_file.parse(content, "m.tflite")
    last = model.ops[-1].outputs

    def aliased(data, path, parse=tflite_file.parse):
        found = parse(data, path)
        if found.outputs == model.outputs:
            return found
        from dataclasses import replace

        ops = tuple(replace(op, outputs=found.outputs) if op.outputs == last else op for op in found.ops)
        return replace(found, ops=ops)

    monkeypatch.setattr(tflite_file, "parse", aliased)
    with pytest.raises(EdgeqError, match="without changing another op"):
        strip(content, "m.tflite")
