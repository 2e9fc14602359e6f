"""`edgeq align` from outside: what it says, with and without gradients, and what is wrong in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_tflite

from edgeq.cli.align import command
from edgeq.core.errors import EdgeqError

SMALL = ["--data", "digits", "--n", "12", "--estimates", "spsa:pairs=8,coordinate:pixels=8", "--attack", "pgd:steps=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("align")
    (folder / "m.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    (folder / "label.tflite").write_bytes(tiny_tflite.classifier(seed=3, label=True))
    (folder / "logits.tflite").write_bytes(tiny_tflite.classifier(seed=3, softmax=False))
    (folder / "m.onnx").write_bytes(b"")
    return folder


def run(arguments: list[str], capsys: pytest.CaptureFixture) -> dict:
    command.main([*arguments, "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


@pytest.mark.tensorflow
def test_a_file_alone_has_both_clamps_and_both_views(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(place)
    found = run(["--target", "m.tflite", *SMALL, "--eps", "1/255,16/255"], capsys)
    assert list(found["gradients"]) == [
        *("file clipped", "file through", "spsa scores", "spsa logits", "coordinate scores", "coordinate logits"),
    ]
    assert len(found["cosines"]) == 15
    assert found["source"] is None
    assert found["logit_variance"] is None
    assert [s["pixels"] for s in found["shift"]] == [1, 16]
    assert all(s["crafted_on"] == "the file" and s["unequal"] == 0 for s in found["shift"])
    small, large = (sum(line["swallowed"] for line in s["adversarial"]["lines"]) for s in found["shift"])
    assert small > large  # a larger change moves more codes
    assert [line["kind"] for line in found["shift"][0]["noise"]["lines"]] == ["conv", "average_pool", "dense", "softmax"]
    assert found["differences"]["coordinate scores"]["explode"]["of"] > 0
    assert found["identity"]["engine"]


@pytest.mark.tensorflow
def test_with_its_float_network(digits_models, capsys: pytest.CaptureFixture) -> None:
    arguments = ["--target", digits_models.ptq, "--source", digits_models.h5, *SMALL, "--access", "logits", "--eps", "2/255"]
    command.main(list(map(str, arguments)), standalone_mode=False)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    mean = {tuple(line[:36].split(maxsplit=1)): line[36:].split()[0] for line in lines if line.startswith("float  ")}
    assert float(mean["float", "file clipped      "]) > 0.8  # 8 bits hardly bend the gradient
    assert float(mean["float", "coordinate float  "]) > 0.95
    assert "pgd at 2/255 on float" in out
    assert "file / float" in out
    assert "with the answers of litert-xnnpack on every image" in out


def test_without_tensorflow_the_estimates_are_left(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("edgeq.targets.access.find_spec", lambda name: None)
    found = run(["--target", "logits.tflite", *SMALL, "--runtime", "litert-reference"], capsys)
    assert list(found["gradients"]) == ["spsa logits", "coordinate logits"]
    assert found["differences"]["spsa logits"]["explode"] is None
    assert found["shift"] == []
    assert any("need TensorFlow" in note for note in found["notes"])
    assert any("value shift is left out" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target", "m.h5"], "is no .tflite or .onnx"),
        (["--target", "m.onnx"], "no such file"),
        (["--target", "none.tflite"], "no such file"),
        (["--target", "label.tflite"], "bare label"),
        (["--target", "m.tflite", "--estimates", "zpsa"], "did you mean spsa"),
        (["--target", "m.tflite", "--estimates", "spsa,spsa:step=2"], "names spsa twice"),
        (["--target", "m.tflite", "--estimates", "coordinate:step=0"], "1 to 127"),
        (["--target", "m.tflite", "--attack", "spsa"], "crafts without gradients"),
        (["--target", "m.tflite", "--attack", "noise"], "crafts without gradients"),
        (["--target", "m.tflite", "--eps", "1/255,0.001"], "--eps 0.001: below one pixel"),
        (["--target", "m.tflite", "--source", "none.h5"], "no such file"),
        (["--target", "m.tflite", "--runtime", "tflx"], "did you mean tflm"),
    ],
)
def test_what_is_wrong_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(EdgeqError, match=words):
        command.main([*arguments, "--data", "digits", "--n", "4"], standalone_mode=False)
