"""``.onnx`` files from strangers: what runs is what was hashed, and nothing else is opened."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import model_files
import onnx
import tiny_onnx

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer import describe, onnx_file, read, read_onnx
from edgeq.integer.onnx.content import self_contained
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess


def test_no_tensor_of_the_schema_can_lie_elsewhere() -> None:
    content = tiny_onnx.classifier()
    paths = list(model_files.paths_to_tensors())
    assert {p[-1] for p in paths} >= {"t", "tensors", "initializer", "values", "indices"}
    assert {p[0] for p in paths} == {"graph", "functions", "training_info"}
    for path in paths:
        with pytest.raises(EdgeqError, match=r"^m\.onnx: .*second file"):
            onnx_file.parse(model_files.with_outside_tensor(content, path), "m.onnx")
    deep = ("graph", *("node", "attribute", "g") * 25, "initializer")
    with pytest.raises(EdgeqError, match="second file"):
        onnx_file.parse(model_files.with_outside_tensor(content, deep), "m.onnx")


def split(folder: Path, **names: str) -> Path:
    """The tiny classifier with its weights in a second file, as torch's exporter writes it."""
    proto = onnx.load_model_from_string(tiny_onnx.classifier())
    file = folder / "m.onnx"
    onnx.save_model(proto, file, save_as_external_data=True, location=names.get("location", "m.onnx.data"), size_threshold=0)
    return file


def test_weights_beside_the_model_are_taken_in_and_hashed(tmp_path: Path) -> None:
    whole = tmp_path / "whole.onnx"
    whole.write_bytes(tiny_onnx.classifier())
    file = split(tmp_path)
    beside = tmp_path / "m.onnx.data"
    assert self_contained(whole) == whole.read_bytes()
    one, two = describe.describe(read.read(whole)), describe.describe(read.read(file))
    assert one.layers == two.layers
    before = read.sha256(file)
    assert before not in (read.sha256(whole), read.sha256(beside))

    def answers(path: Path) -> np.ndarray:
        signature = runtimes.probe("ort", path)
        assert isinstance(signature, Signature)
        target = runtimes.open("ort", path, signature, codes_for(signature.input, Preprocess((8, 8), 3), "m"), threads=1)
        return target.answer(np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)).raw

    first = answers(file)
    assert np.array_equal(first, answers(whole))
    content = bytearray(beside.read_bytes())
    content[:] = [(v + 1) % 256 for v in content]
    beside.write_bytes(content)
    assert read.sha256(file) != before


def test_other_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    for location in ("../weights.bin", "/etc/hostname", "away/weights.bin", "..", "", "m.onnx", "*/_ORT_MEM_ADDR_/*", "gone.bin"):
        (tmp_path / "m.onnx").write_bytes(model_files.with_outside_tensor(tiny_onnx.classifier(), ("graph", "initializer"), location))
        with pytest.raises(EdgeqError, match="keeps its weights"):
            read.read(tmp_path / "m.onnx")
        with pytest.raises(EdgeqError, match="keeps its weights"):
            read.sha256(tmp_path / "m.onnx")
    for make in (lambda p: p.symlink_to("/etc/hostname"), lambda p: os.mkfifo(p), lambda p: p.mkdir()):
        path = tmp_path / f"w{len(list(tmp_path.iterdir()))}.bin"
        make(path)
        (tmp_path / "m.onnx").write_bytes(model_files.with_outside_tensor(tiny_onnx.classifier(), ("graph", "initializer"), path.name))
        with pytest.raises(EdgeqError, match="no regular file"):
            read.read(tmp_path / "m.onnx")


def test_places_in_the_second_file_are_checked(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(bytes(6))
    content = model_files.with_outside_tensor(tiny_onnx.classifier(), ("graph", "initializer"), "m.bin")

    def refused(**entries: str) -> str:
        proto = onnx.load_model_from_string(content)
        tensor = proto.graph.initializer[-1]
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        try:
            read.read(tmp_path / "m.onnx")
        except EdgeqError as error:
            return str(error)
        return ""

    assert refused() == refused(offset="2", length="4") == ""
    for entries in ({"offset": "3"}, {"length": "5"}, {"offset": "9" * 14}):
        assert "does not fit its shape" in refused(**entries)
    for entries in ({"offset": "-1"}, {"offset": "9" * 5000}, {"offset": "\u00b2"}):
        assert "damaged" in refused(**entries)
    proto = onnx.load_model_from_string(content)
    proto.graph.initializer.append(proto.graph.initializer[-1])
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    assert "second file" in refused_sentence(tmp_path / "m.onnx")


def refused_sentence(path: Path) -> str:
    with pytest.raises(EdgeqError) as error:
        read.read(path)
    return str(error.value)


def test_a_file_that_is_two_formats_is_refused() -> None:
    """ONNX Runtime takes bytes with ORTM at the fifth place for its own format, whatever else they are."""
    polyglot = b"\x08\x08\x12\x04ORTM" + tiny_onnx.classifier()
    assert onnx.load_model_from_string(polyglot).graph.node
    with pytest.raises(EdgeqError, match="own format"):
        onnx_file.parse(polyglot, "m.onnx")


def test_much_of_anything_is_refused_soon() -> None:
    """Two bytes a message, which takes a hundred in memory; and a shape whose product has a million digits."""
    count, field = 600_000, model_files.field
    inputs, nodes, names = (bytes([key, 0]) * count for key in (0x5A, 0x0A, 0x0A))
    large = bytes(onnx.TensorProto(name="t", data_type=1, dims=[2**62] * 100_000).SerializeToString())
    for graph in (inputs, nodes, field(1, 2 * names), field(5, large)):
        began = time.process_time()
        with pytest.raises(EdgeqError):
            onnx_file.parse(tiny_onnx.classifier() + field(7, graph), "m.onnx")  # a second graph is joined to the first
        assert time.process_time() - began < 3


def test_functions_that_call_each_other_are_not_unfolded() -> None:
    """2^40 calls in two kilobytes; onnx's own inference of shapes follows every one."""
    proto = onnx.load_model_from_string(tiny_onnx.classifier())
    opset = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("local", 1)]
    body = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    for i in range(40):
        proto.functions.append(onnx.helper.make_function("local", f"f{i}", ["x"], ["y"], body, opset))
        twice = (onnx.helper.make_node(f"f{i}", [a], [b], domain="local") for a, b in (("x", "m"), ("m", "y")))
        body = list(twice)
    proto.opset_import.append(opset[1])
    proto.graph.node.extend(onnx.helper.make_node(n.op_type, ["image"], ["late"], domain="local") for n in body[:1])
    began = time.process_time()
    onnx_file.parse(proto.SerializeToString(), "m.onnx")
    assert time.process_time() - began < 3


def test_text_that_is_no_text_is_damage() -> None:
    with pytest.raises(EdgeqError, match="damaged"):
        onnx_file.parse(tiny_onnx.classifier() + model_files.field(2, b"\xff\xfe"), "m.onnx")


def test_constants_computed_from_constants_backwards_are_a_sentence() -> None:
    """Each scale is computed from the next op's: a depth of a thousand calls."""
    proto = onnx.load_model_from_string(tiny_onnx.classifier())
    weights, scale, zero = proto.graph.initializer[-1].name, *proto.graph.node[0].input[1:]
    makes = [onnx.helper.make_node("DequantizeLinear", [weights, f"c{i + 1}", zero], [f"c{i}"]) for i in range(3000)]
    makes[-1].input[1] = scale
    proto.graph.node[0].input[1] = "c0"
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes, *makes])

    with pytest.raises(EdgeqError, match="cannot be read"):
        read_onnx.from_model(onnx_file.parse(proto.SerializeToString(), "m.onnx"))


def test_a_constant_holds_what_its_shape_says() -> None:
    proto = onnx.load_from_string(tiny_onnx.classifier())
    weights = next(t for t in proto.graph.initializer if len(t.dims) == 4)
    weights.dims[3] = 302_480_172
    with pytest.raises(EdgeqError, match="damaged"):
        onnx_file.parse(proto.SerializeToString(), "m.onnx")
