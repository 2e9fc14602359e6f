"""Files are opened in a child process first: what it says of good, odd, bad and damaged ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_onnx
import tiny_tflite

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature, Tensor

XNNPACK = "litert-xnnpack"


def probe(path: Path, content: bytes, name: str = XNNPACK, output: str | None = None) -> Signature:
    path.write_bytes(content)
    return runtimes.probe(name, path, output=output)


def refusal(path: Path, content: bytes, name: str = XNNPACK, output: str | None = None) -> str:
    with pytest.raises(EdgeqError) as caught:
        probe(path, content, name, output)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_a_signature_says_shapes_types_scales_and_kind(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    found = probe(file, tiny_tflite.classifier(h=8, w=6, c=3, classes=7))
    assert found == Signature(Tensor((8, 6, 3), "int8", pytest.approx(1 / 255), -128), Tensor((7,), "int8", 1 / 256, -128), "probs", "nhwc")
    assert probe(file, tiny_tflite.classifier(softmax=False)).kind == "logits"
    label = probe(file, tiny_tflite.classifier(label=True))
    assert (label.kind, label.classes, label.output.dtype) == ("label", None, "int32")
    floats = probe(file, tiny_tflite.classifier(dtype="float32"))
    assert (floats.input, floats.output) == (Tensor((8, 8, 1), "float32"), Tensor((10,), "float32"))


def test_output_names_what_cannot_be_told(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    assert "--output" in refusal(file, tiny_tflite.puzzling())
    assert probe(file, tiny_tflite.puzzling(), output="logits").kind == "logits"
    assert probe(file, tiny_tflite.classifier(), output="logits").kind == "logits", "the user is believed"
    assert "does not fit" in refusal(file, tiny_tflite.classifier(), output="label")
    assert "does not fit" in refusal(file, tiny_tflite.classifier(label=True), output="probs")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (tiny_tflite.two_inputs, "takes 2 inputs"),
        (tiny_tflite.detector, "object detector"),
        (tiny_tflite.segmentation, "segmentation"),
        (tiny_tflite.labelled_pixels, "returns a map of shape 1x8x8 .segmentation"),
        (tiny_tflite.unresolved, "contains the custom op fake-op-double, and networks of built-in ops alone"),
        (tiny_tflite.sound, "contains the custom op SignalFft, and takes input of shape 1x480, which is no image"),
        (lambda: tiny_tflite.edgetpu("ethos-u"), "is compiled for the Arm Ethos-U .ethos-u."),
        (tiny_tflite.autoencoder, "autoencoder"),
        (tiny_tflite.edgetpu, "Edge TPU"),
        (tiny_tflite.not_an_image, "no image"),
        (lambda: tiny_tflite.restless("RANDOM_UNIFORM"), "contains RANDOM_UNIFORM: its answer to an image depends on chance"),
        (lambda: tiny_tflite.restless("READ_VARIABLE"), "contains READ_VARIABLE, VAR_HANDLE: its answer"),
        (lambda: tiny_tflite.classifier(classes=1), "a softmax of a single unit, which is 1 for every image"),
        (
            lambda: tiny_tflite.classifier(classes=1, softmax=False),
            "no sigmoid makes it: .* pass --output logits if above",
        ),
        (lambda: b"", "is empty"),
        (lambda: b"\x89PNG\r\n\x1a\n" * 9, "not a TFLite model"),
        (lambda: tiny_tflite.classifier()[:900], "truncated or damaged"),
    ],
)
def test_what_is_no_classifier_is_refused_in_a_sentence(make, words: str, tmp_path: Path) -> None:
    assert re.search(words, refusal(tmp_path / "m.tflite", make()))


def test_a_missing_file_and_a_wrong_runtime(tmp_path: Path) -> None:
    with pytest.raises(EdgeqError, match="no such file"):
        runtimes.probe(XNNPACK, tmp_path / "none.tflite")
    with pytest.raises(EdgeqError, match="did you mean litert-xnnpack"):
        runtimes.probe("litert-xnpack", tmp_path / "none.tflite")
    assert "ort runs an .onnx file" in refusal(tmp_path / "m.tflite", tiny_tflite.classifier(), "ort")


def test_probe_all_keeps_the_reasons(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.classifier())
    found = runtimes.probe_all((XNNPACK, "ort"), file)
    assert isinstance(found[XNNPACK], Signature)
    assert isinstance(found["ort"], EdgeqError)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
        ("import time; time.sleep(60)", "did not finish one image in 1 s"),
        ("raise SystemExit(3)", "ended without an answer"),
        ("print('{')", "makes no sense"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", r"killed from outside \(SIGTERM\)"),
        ('print(\'{"refused": "lib/x.cc:12 no  kernel"}\')', "litert-xnnpack cannot run it: no kernel$"),
    ],
)
def test_the_ways_a_child_can_end(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.runtimes._process.python_child", lambda *_: ([sys.executable, "-c", body], {}))
    with pytest.raises(EdgeqError, match=words):
        runtimes.probe(XNNPACK, tmp_path / "m.tflite", timeout=1 if "sleep" in body else 30)


def test_damaged_files_give_a_signature_or_a_sentence(tmp_path: Path) -> None:
    content, rng = bytearray(tiny_tflite.classifier()), np.random.default_rng(5)
    refused = []
    for i in range(6):
        flipped = bytearray(content)
        for at in rng.integers(0, len(content), 8):
            flipped[at] ^= 1 << int(rng.integers(8))
        file = tmp_path / f"{i}.tflite"
        file.write_bytes(flipped)
        found = runtimes.probe_all(("litert-builtin",), file)["litert-builtin"]
        if not isinstance(found, Signature):
            refused.append(str(found).startswith(f"{file}: "))
    assert refused
    assert all(refused)


def test_the_arena_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    sizes = []
    for side in (8, 16):
        file = tmp_path / f"{side}.tflite"
        file.write_bytes(tiny_tflite.classifier(h=side, w=side))
        sizes.append(runtimes.arena_bytes(file))
    # the first convolution's output and input live at once: side^2 * (8 + 1) bytes
    assert 576 <= sizes[0] <= 16_384
    assert sizes[1] - sizes[0] >= 3 * 64 * 9 * 0.9


def test_importing_the_package_loads_no_interpreter() -> None:
    heavy = ("ai_edge_litert", "tensorflow", "onnx", "onnxruntime", "tflite_micro")
    code = f"import sys, edgeq.runtimes; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_imports_its_own_runtime_and_no_other() -> None:
    code = (
        "import sys, edgeq.runtimes._worker; from edgeq.core import plugins; plugins.load(plugins.RUNTIMES, 'litert-builtin'); "
        "rooms = ('edgeq.runtimes.', 'edgeq.integer.s', 'edgeq.integer.onnx', 'importlib.metadata'); "
        "print(sorted(m for m in sys.modules if m.startswith(rooms)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own = ("_lanes", "_layout", "_limits", "_litert", "_probe", "_process", "_quantise", "_worker", "litert_builtin")
    assert done.stdout.strip() == str([f"edgeq.runtimes.{name}" for name in own])


def test_the_small_files_of_the_doctor_are_reproducible() -> None:
    shipped = Path(runtimes.__file__).parent
    assert (shipped / "small.tflite").read_bytes() == tiny_tflite.classifier(h=4, w=4, classes=4)
    pytest.importorskip("onnx")
    assert (shipped / "small.onnx").read_bytes() == tiny_onnx.smallest()
