"""``edgeq export``: the files, what stands beside them, and that nothing is written when something fails."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeq import data, runtimes
from edgeq.build.export import export
from edgeq.build.files import staging
from edgeq.build.images import Photographs, calibration
from edgeq.cli.export import command
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import SILENT
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess

pytest.importorskip("tf_keras")
pytestmark = pytest.mark.tensorflow


def sidecar(file: Path) -> dict:
    return json.loads(file.with_name(file.stem + ".edgeq.json").read_text())


@pytest.mark.parametrize("which", ["tflite", "ptq"])
def test_the_sidecar_vouches_for_the_files(digits_models, which) -> None:
    file = getattr(digits_models, which)
    content = sidecar(file)
    assert {Path(name).suffix for name in content["files"]} == {".tflite", ".onnx"}
    for name, record in content["files"].items():
        held = file.with_name(name).read_bytes()
        assert record["sha256"] == hashlib.sha256(held).hexdigest()
        assert record["bytes"] == len(held)
    assert content["signature"]["input"] == {"shape": [8, 8, 1], "dtype": "int8", "scale": 1.0, "zero": -128}
    assert content["signature"]["output"]["scale"] == 1 / 256
    assert content["pixels"].startswith("shift q = p - 128; 256 of 256")
    assert content["labels"] == list("0123456789")
    assert content["arena_bytes"] is None or content["arena_bytes"] > 1000
    onnx = content["files"][file.with_suffix(".onnx").name]
    assert onnx["made_from"] == file.name
    assert onnx["integer_kernels"]["QLinearConv"] == 2
    assert not onnx["float_kernels"]
    if which == "ptq":
        assert content["recipe"]["n"] == 200
        assert content["recipe"]["split"] == "train"
        assert len(content["recipe"]["sha256"]) == 64
    else:
        assert content["recipe"] == {"method": "quantisation-aware training"}


@pytest.mark.parametrize("which", ["tflite", "onnx", "ptq"])
def test_the_file_is_as_right_as_the_network(digits_models, which) -> None:
    """Measured here with the runtimes themselves; and what the sidecar's fidelity table says of it is the same."""
    file = getattr(digits_models, which)
    name = "ort" if which == "onnx" else "litert-xnnpack"
    dataset = data.open("digits")
    images = np.stack([dataset.image(i) for i in range(len(dataset))])
    signature = runtimes.probe(name, file)
    target = runtimes.open(name, file, signature, codes_for(signature.input, Preprocess((8, 8), 1), file.name))
    right = float((target.answer(images).label() == dataset.labels).mean())
    target.close()
    said = {line["runtime"]: line for line in sidecar(file)["fidelity"]["runtimes"]}
    assert right > 0.97
    assert said[name]["accuracy"][0] == pytest.approx(right)
    assert abs(right - said["keras"]["accuracy"][0]) <= 0.01
    assert said["litert-reference"]["lsb"] == 0
    assert said["keras"]["flips"]["litert-reference"] <= 0.02 * len(dataset)


@pytest.mark.parametrize(("which", "formats"), [("keras", ("tflite",)), ("qat", ("tflite", "onnx"))])
def test_exporting_twice_gives_the_same_bytes(digits_models, tmp_path, which, formats) -> None:
    model = getattr(digits_models, which)
    for part in ("a", "b"):
        export(model, tmp_path / part, n=50, formats=formats, layers=0)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert names == sorted(f"{model.stem}.{suffix}" for suffix in (*formats, "edgeq.json"))
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    if which == "qat":  # nothing of it depends on the sample
        for file in (digits_models.tflite, digits_models.onnx):
            assert (tmp_path / "a" / file.name).read_bytes() == file.read_bytes()


def test_another_seed_is_another_calibration_sample() -> None:
    shape = Preprocess((8, 8), 1)
    images, first = calibration("digits", 40, 1, shape, Photographs(), SILENT)
    _, again = calibration("digits", 40, 1, shape, Photographs(), SILENT)
    _, other = calibration("digits", 40, 2, shape, Photographs(), SILENT)
    assert first == again
    assert first.sha256 != other.sha256
    assert len(images) == first.n == 40


def test_a_float_network_of_nowhere_needs_images_and_a_meaning_of_its_pixels(digits_models, tmp_path) -> None:
    model = tmp_path / "model.h5"
    model.write_bytes(digits_models.h5.read_bytes())
    with pytest.raises(EdgeqError, match="--calibrate DATA"):
        export(model, tmp_path / "out")
    with pytest.raises(EdgeqError, match="--preprocess mean"):
        export(model, tmp_path / "out", calibrate="digits")
    assert not (tmp_path / "out").exists()
    exported = export(model, tmp_path / "out", calibrate="digits", preprocess="mean=0,std=1", formats=("tflite",), n=30, layers=0)
    assert exported.origin.form == "Keras 2 h5"
    assert next(line for line in exported.measured.fidelity.runtimes if line.name == "litert-xnnpack").accuracy[0] > 0.9
    assert json.loads(json.dumps(exported.to_json())) == json.loads(exported.sidecar.read_text())


def test_without_test_images_random_ones_are_compared_without_accuracy(digits_models, tmp_path) -> None:
    import shutil

    shutil.copytree(digits_models.qat, tmp_path / "model")
    fidelity = export(tmp_path / "model", tmp_path / "out", formats=("tflite",), n=64, layers=0).measured.fidelity
    lines = fidelity.runtimes
    assert fidelity.data == "uniform random images"
    assert all(line.accuracy is None and line.n == 64 for line in lines if not line.reason)
    assert max(line.lsb for line in lines if line.name == "litert-xnnpack") < 64


@pytest.mark.parametrize("fault", ["kernels", "conversion"])
def test_an_onnx_file_that_is_not_int8_is_left_out_or_refused_if_alone(digits_models, tmp_path, monkeypatch, fault) -> None:
    if fault == "kernels":
        monkeypatch.setattr(runtimes, "integer_kernels", lambda *_: ({"QLinearConv": 1}, {"Conv": 1}))
    else:
        monkeypatch.setattr("edgeq.keras.convert.to_onnx", lambda *_: unwilling())
    words = "1 Conv in floats" if fault == "kernels" else "tf2onnx cannot convert it"
    with pytest.raises(EdgeqError, match=words):
        export(digits_models.qat, tmp_path / "out", formats=("onnx",), n=20)
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(command, [str(digits_models.qat), "-o", str(tmp_path / "out"), "--layers", "0", "--n", "20"])
    assert result.exit_code == 0, result.output
    assert re.search(f"no .onnx: .*{words}", " ".join(result.stderr.split()))
    assert list(sidecar(tmp_path / "out" / "digits_cnn-int8.tflite")["files"]) == ["digits_cnn-int8.tflite"]
    assert not list((tmp_path / "out").glob("*.onnx"))


def unwilling() -> bytes:
    raise EdgeqError("m.keras: tf2onnx cannot convert it (no such op)")


def test_what_a_runtime_cannot_run_is_a_row(digits_models, tmp_path, monkeypatch) -> None:
    honest = runtimes.probe_all

    def probe_all(names, path, output=None, timeout=60):
        found = honest(names, path, output, timeout)
        return {k: EdgeqError(f"{path}: tflm cannot run it: hybrid") if k == "tflm" else v for k, v in found.items()}

    monkeypatch.setattr(runtimes, "probe_all", probe_all)
    result = CliRunner().invoke(
        command, [str(digits_models.qat), "-o", str(tmp_path / "out"), "--format", "tflite", "--layers", "0", "--n", "20"]
    )
    assert result.exit_code == 0, result.output
    assert "tflm: digits_cnn-int8.tflite: tflm cannot run it: hybrid" in result.stdout
    assert "litert-xnnpack" in result.stdout
    assert sidecar(tmp_path / "out" / "digits_cnn-int8.tflite")["arena_bytes"] is None


def test_json_is_one_document(digits_models, tmp_path) -> None:
    result = CliRunner().invoke(
        command, [str(digits_models.qat), "-o", str(tmp_path), "--format", "tflite", "--layers", "0", "--n", "20", "--json"]
    )
    assert json.loads(result.stdout)["files"].keys() == {"digits_cnn-int8.tflite"}


def test_unknown_formats_and_missing_files(digits_models, tmp_path) -> None:
    with pytest.raises(EdgeqError, match="did you mean onnx"):
        export(digits_models.qat, tmp_path / "out", formats=("tflite", "onxx"))
    with pytest.raises(EdgeqError, match="no such file"):
        export(tmp_path / "none.h5", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgeqError, match="cannot be written"), staging(tmp_path / "file" / "out"):
        pass


def test_a_full_disk_leaves_what_was_there(tmp_path) -> None:
    (tmp_path / "model.tflite").write_text("old")

    def write() -> None:
        with staging(tmp_path) as folder:
            (folder / "model.tflite").write_text("new")
            raise OSError(28, os.strerror(28))

    with pytest.raises(EdgeqError, match="nothing was written"):
        write()
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
    assert (tmp_path / "model.tflite").read_text() == "old"


def test_a_low_bit_network_without_its_network_is_not_quietly_quantised_anew(digits_models, tmp_path) -> None:
    import shutil

    model = tmp_path / "low.keras"
    shutil.copy(digits_models.keras, model)
    said = {"quant": "lsq:w2a2", "data": "digits", "preprocess": "mean=0,std=1"}
    (tmp_path / "low.keras.edgeq.json").write_text(json.dumps(said))
    with pytest.raises(EdgeqError, match="does not tell what network this is"):
        export(model, tmp_path / "build")
    assert not (tmp_path / "build").exists()
