"""`edgeq compare` from outside, as a process: what it says, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import tiny_tflite

from edgeq.cli.compare import command
from edgeq.core.errors import EdgeqError

SMALL = ["--data", "digits", "--n", "24", "--layers", "6", "--eps", "4/255"]


def edgeq(*arguments, cwd, code=0):
    command = [sys.executable, "-m", "edgeq", "compare", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    (folder / "old.tflite").write_bytes(tiny_tflite.classifier(seed=3))
    (folder / "new.tflite").write_bytes(tiny_tflite.classifier(seed=4))
    (folder / "logits.tflite").write_bytes(tiny_tflite.classifier(seed=3, softmax=False))
    (folder / "label.tflite").write_bytes(tiny_tflite.classifier(seed=3, label=True))
    (folder / "wide.tflite").write_bytes(tiny_tflite.classifier(seed=3, h=16, w=16))
    return folder


def test_two_runtimes_of_one_file(place: Path) -> None:
    done = edgeq("old.tflite", "--runtimes", "litert-xnnpack,litert-reference", *SMALL, "--json", cwd=place)
    found = json.loads(done.stdout)
    assert {name: side["runtime"] for name, side in found["sides"].items()} == {"A": "litert-xnnpack", "B": "litert-reference"}
    assert found["n"] == 24
    assert found["layers"]["origin"] == {"A": "kept", "B": "kept"}
    assert [line["kind"] for line in found["layers"]["lines"]] == ["CONV_2D", "AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    assert found["layers"]["n"] == 6
    assert found["adversarial"] == []


def test_two_files_with_a_gate_and_their_adversarial_examples(place: Path) -> None:
    gates = ["--max-flips", "0.05", "--max-accuracy-drop", "1"]
    done = edgeq("old.tflite", "new.tflite", *SMALL, "--attack", "spsa:steps=4:batch=16", *gates, cwd=place, code=1)
    assert "NOT MET" in done.stdout
    assert "--max-accuracy-drop 1: met" in done.stdout
    assert "A  old.tflite on litert-xnnpack" in done.stdout
    assert "*: weights" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_run_is_kept_and_gone_on_with_by_the_same_options_alone(place: Path) -> None:
    asked = ["old.tflite", "new.tflite", *SMALL, "--run", "kept.sqlite", "--json"]
    first, again = (edgeq(*asked, cwd=place).stdout for _ in range(2))
    assert first == again
    refused = edgeq(*asked, "--seed", "1", cwd=place, code=2)
    assert "kept.sqlite: was begun with other options" in refused.stderr


def test_ctrl_c_says_how_to_go_on_where_a_run_is_kept(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(place)
    monkeypatch.setattr("edgeq.api.comparing.execute", interrupted)
    with pytest.raises(click.Abort):
        command.main(["old.tflite", *SMALL], standalone_mode=False)
    with pytest.raises(SystemExit) as stopped:
        command.main(["old.tflite", *SMALL, "--run", "stopped.sqlite"], standalone_mode=False)
    assert stopped.value.code == 130
    assert "kept in stopped.sqlite. The same command goes on" in " ".join(capsys.readouterr().err.split())


def test_files_of_other_ops_are_compared_all_the_same(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(place)
    command.main(["old.tflite", "logits.tflite", *SMALL, "--max-flips", "0.2", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["layers"]["reason"] == "not compared, the two graphs have 5 and 4 ops"
    assert found["clean"]["scores"]["kind"] == "probs"
    assert found["clean"]["scores"]["largest"] < 1 / 256  # the same logits, one side's through a softmax of 256 levels


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["old.tflite", "--runtime", "tflm"], "name two"),
        (["old.tflite", "--runtime", "tflm,tflm"], "name two"),
        (["old.tflite", "new.tflite", "--runtime", "tflm,tflm,ort"], "at most"),
        (["old.tflite", "--eps", "0.001"], "below one pixel"),
        (["old.tflite", "wide.tflite", "--preprocess", "stretch"], "same examples cannot be shown to both"),
        (["old.tflite", "old.tflite", "--attack", "noise"], "is no attack"),
        (["old.tflite", "old.tflite", "--attack", "spsa", "--norm", "l2"], "--norm linf"),
        (["old.tflite", "--max-robust-drop", "0.1"], "add --attack"),
        (["old.onnx"], "name a second file"),
        (["none.tflite", "old.tflite"], "no such file"),
        (["old.tflite", "label.tflite", "--attack", "spsa"], "needs scores"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(EdgeqError, match=words):
        command.main([*arguments, "--data", "digits", "--n", "8"], standalone_mode=False)
