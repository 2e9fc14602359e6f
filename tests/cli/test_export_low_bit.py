"""``edgeq export`` of low-bit and portable networks: certified, packed, proven; and what the other commands make of the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq import data
from edgeq.build.export import export
from edgeq.cli import attack
from edgeq.cli.export import command
from edgeq.core.errors import EdgeqError
from edgeq.measure.inspection import inspect
from edgeq.runtimes import probe_all

pytest.importorskip("tf_keras")
pytest.importorskip("tflite_micro")
pytestmark = pytest.mark.tensorflow

STEM = "digits_cnn-lsq-w3a3"
RUNTIMES = {"litert-xnnpack", "litert-builtin", "litert-reference", "tflm"}


@pytest.fixture(scope="module")
def exported(low_bit_model: Path) -> Path:
    return low_bit_model.parent / "exported"


@pytest.fixture(scope="module")
def content(exported: Path) -> dict:
    return json.loads((exported / f"{STEM}.edgeq.json").read_text())


def test_the_files_and_what_the_sidecar_says(exported, content) -> None:
    names = {f"{STEM}.tflite", f"{STEM}-packed.tflite", f"{STEM}.onnx"}
    assert set(content["files"]) == names
    assert {p.name for p in exported.iterdir()} == {*names, f"{STEM}.edgeq.json"}
    assert content["training"]["quant"] == "lsq:w3a3"
    assert content["recipe"]["method"].startswith("low-bit training")
    assert (content["recipe"]["n"], content["recipe"]["split"]) == (200, "train")
    assert content["signature"]["input"] == {"shape": [8, 8, 1], "dtype": "int8", "scale": 1.0, "zero": -128}
    assert content["signature"]["kind"] == "logits"
    assert content["pixels"].startswith("shift q = p - 128; 256 of 256")
    assert content["files"][f"{STEM}.onnx"]["made_from"] == f"{STEM}.tflite"
    assert content["files"][f"{STEM}.onnx"]["integer_kernels"]["QLinearConv"] == 3
    assert content["files"][f"{STEM}-packed.tflite"]["bytes"] < content["files"][f"{STEM}.tflite"]["bytes"]


def test_every_channel_is_certified_and_no_activation_differs(content) -> None:
    assert [(layer["kind"], layer["channels"], layer["levels"]) for layer in content["certificate"]] == [
        ("conv", 16, 8),
        ("conv", 32, 8),
        ("dense", 10, 256),
    ]
    for layer in content["certificate"]:
        assert layer["stored"]["scaled"]["certified"] == layer["channels"]
        assert layer["stored"]["scaled"]["runtimes"] == dict.fromkeys(layer["stored"]["scaled"]["runtimes"], 1.0)
    assert [layer["stored"]["packed"]["bits"] for layer in content["certificate"]] == [8, 4, 8]
    assert content["packed"]["file"] == f"{STEM}-packed.tflite"
    assert content["portable"]["holds"]
    assert content["portable"]["sentence"].startswith("proven: the same answer on litert-xnnpack, ")
    assert {held["runtime"] for held in content["levels"]} == RUNTIMES
    for held in content["levels"]:
        assert (held["reason"], held["differ"], held["n"]) == ("", 0, 50)
        assert held["elements"] == sum(op["elements"] for op in held["ops"]) > 100_000
    assert all(table["first"] is None for table in content["layers"])


def test_no_runtime_flips_against_the_frozen_network(content) -> None:
    lines = {line["runtime"]: line for line in content["fidelity"]["runtimes"]}
    assert set(lines) == {"keras", "keras-float", "ort", *RUNTIMES}
    for name in (*RUNTIMES, "ort"):
        assert lines[name]["flips"]["keras"] == 0, name
        assert lines[name]["accuracy"] == lines["keras"]["accuracy"]
    assert lines["keras"]["accuracy"][0] > 0.9
    assert lines["keras-float"]["flips"]["keras"] <= lines["keras"]["ties"]


def test_again_it_gives_the_same_bytes(low_bit_model, exported, tmp_path) -> None:
    export(low_bit_model, tmp_path, n=200, layers=0)
    for suffix in (".tflite", "-packed.tflite", ".onnx"):
        assert (exported / (STEM + suffix)).read_bytes() == (tmp_path / (STEM + suffix)).read_bytes()


def test_it_prints_what_fits_the_terminal(exported) -> None:
    text = Path(f"{exported}.txt").read_text("utf-8")
    assert max(map(len, text.splitlines())) <= 80
    assert "scaled: 58 of 58 channels certified on every runtime (1.00)" in text
    assert "portable: proven: the same answer on" in text
    assert text.count(" activations are not the trained level") == 2 * len(RUNTIMES)
    assert f"{STEM}-packed.tflite: INT4 weights, two a byte" in text


def test_one_way_to_store(low_bit_model, tmp_path) -> None:
    exported = export(low_bit_model, tmp_path, formats=("tflite",), n=20, stores=("packed",), layers=0)
    assert set(exported.files) == {f"{STEM}-packed.tflite"}
    assert [list(layer.stored) for layer in exported.certificate] == [["packed"]] * 3
    assert exported.measured.file == f"{STEM}-packed.tflite"
    assert exported.packed is exported.measured.levels is None
    assert "levels" not in exported.to_json()


def test_a_float_network_becomes_one_function_everywhere(digits_models, tmp_path) -> None:
    options = {"calibrate": "digits", "preprocess": "mean=0,std=1", "formats": ("tflite",), "n": 100, "layers": 4}
    exported = export(digits_models.h5, tmp_path, portable=True, **options)
    assert set(exported.files) == {"digits_cnn-portable.tflite"}
    assert exported.measured.portable.proof.holds
    found = {line.name: line for line in exported.measured.fidelity.runtimes}
    for name in RUNTIMES:
        assert found[name].flips["keras"] == 0
    assert found["litert-xnnpack"].accuracy[0] > 0.9
    assert all(levels.differ == 0 for levels in exported.measured.levels)
    assert exported.packed is None
    assert json.loads(json.dumps(exported.to_json())) == json.loads(exported.sidecar.read_text())


def test_what_is_refused(low_bit_model, digits_models, tmp_path) -> None:
    out = tmp_path / "out"
    for model, options, said in [
        (low_bit_model, {"preprocess": "mean=127.5,std=127.5"}, "raw pixels 0 to 255 .* they mean -1 to 1; pass --preprocess mean=0,std=1"),
        (low_bit_model, {"portable": True}, "--portable takes a float network, or one trained with .*; this one is low-bit"),
        (low_bit_model, {"stores": ("pakced",)}, "did you mean packed"),
        (
            low_bit_model,
            {"stores": ("packed",), "formats": ("onnx",)},
            "the .onnx is of the scaled file; take --store scaled, or --format tflite",
        ),
        (digits_models.qat, {"portable": True}, "--portable takes a float network, .*; this one is quantisation-aware"),
    ]:
        with pytest.raises(EdgeqError, match=said):
            export(model, out, **options)
    alone = tmp_path / "alone.savedmodel"
    shutil.copytree(low_bit_model, alone)
    sidecar = json.loads(Path(f"{low_bit_model}.edgeq.json").read_text())
    Path(f"{alone}.edgeq.json").write_text(json.dumps({**sidecar, "data": None}))
    with pytest.raises(EdgeqError, match="needs images to see how far its logits reach; pass --calibrate DATA"):
        export(alone, out)
    assert not out.exists()


def test_weights_alone_are_exported_without_a_certificate(digits_models, tmp_path) -> None:
    from edgeq.keras import train
    from edgeq.keras.load import keras_model
    from edgeq.keras.quantizers import parse

    dataset = data.open("digits", split="train")
    images = np.stack([dataset.image(i) for i in range(64)])
    model, path = train.lower(keras_model(digits_models.keras)[1], parse("lsq:w4a32"), "int8", images, 0), tmp_path / "alone.savedmodel"
    train.save(model, path, images)
    said = {"net": "digits_cnn", "width": 1, "classes": 10, "shape": [8, 8, 1], "quant": "lsq:w4a32", "ends": "int8", "data": "digits"}
    Path(f"{path}.edgeq.json").write_text(json.dumps({**said, "preprocess": "mean=0,std=1"}))
    result = CliRunner().invoke(command, [str(path), "-o", str(tmp_path / "out"), "--n", "100", "--layers", "0", "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert set(content["files"]) == {"alone.tflite", "alone.onnx"}
    with pytest.raises(EdgeqError, match="--store is about networks with low-bit activations"):
        export(path, tmp_path / "out", stores=("packed",))
    assert content["certificate"] is None
    assert sum(n for op, n in content["files"]["alone.onnx"]["float_kernels"].items() if "Conv" in op) == 2
    lines = {line["runtime"]: line for line in content["fidelity"]["runtimes"]}
    assert set(lines) == {"keras", "ort", *RUNTIMES}
    for name in (*RUNTIMES, "ort"):
        assert lines[name]["flips"]["keras"] == 0, name
    assert lines["keras"]["accuracy"][0] > 0.9


# ---- what the other commands make of such files


def test_inspect_counts_the_levels_that_are_in_it(exported, monkeypatch) -> None:
    monkeypatch.setattr("edgeq.runtimes.probe_all", lambda names, *rest: probe_all(names[:2], *rest))
    scaled, packed = (inspect(exported / f"{STEM}{mark}.tflite") for mark in ("", "-packed"))
    for found, stored in [(scaled, [8, 8, 8]), (packed, [8, 4, 8])]:
        layers = [layer for layer in found.description.layers if layer.levels]
        assert [layer.bits for layer in layers] == stored
        assert layers[1].levels <= 8
        assert layers[1].bits_used == 3
        assert max(layer.levels for layer in layers) <= 63
    assert scaled.portable.proof.holds


def test_the_file_can_be_attacked(exported, tmp_path) -> None:
    file = exported / f"{STEM}.tflite"
    arguments = ["--target", str(file), "--data", "digits", "--attack", "spsa:steps=3:batch=8", "--eps", "24/255", "--n", "20"]
    arguments += ["--runtime", "litert-xnnpack,tflm", "--run", str(tmp_path / "run.sqlite"), "--json"]
    result = CliRunner().invoke(attack.command, arguments)
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    cell = next(c for c in printed["cells"] if c["attack"] == "spsa")
    both = [line["robust_accuracy"]["k"] for line in cell["targets"]]
    assert both[0] == both[1] <= 20  # one function, so one answer to every candidate
