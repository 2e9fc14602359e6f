"""What ``edgeq export`` prints: 80 columns, certificates with what the rest is exact for, where runtimes leave the trained levels."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgeq.core.signature import Signature, Tensor
from edgeq.measure.certificate import LayerCertificate, Stored
from edgeq.measure.exported import Exported, MadeFile, Measured, Origin, Recipe
from edgeq.measure.fidelity import Fidelity, Line
from edgeq.measure.figures import Alike
from edgeq.measure.layers import Layers
from edgeq.measure.layers import Line as Op
from edgeq.measure.levels import Levels, Mismatch
from edgeq.measure.portability import Portability
from edgeq.report.fidelity import render

RUNTIMES = ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm")
NAMES = ("keras", "keras-float", *RUNTIMES, "ort")
SIGNATURE = Signature(Tensor((8, 8, 1), "int8", 1.0, -128), Tensor((10,), "int8", 1 / 256, -128), "probs")


def fidelity(**constant) -> Fidelity:
    """``constant``: runtime -> that it answers all images alike."""
    lines = [
        Line(name, "", 500, 455, {other: 2 for other in NAMES if other != name}, 0.0, 3, 458, constant.get(name.replace("-", "_")))
        for name in NAMES[:-1]
    ]
    return Fidelity("zip:" + "x" * 20, 0, 500, (*lines, Line("ort", "a.onnx: ort cannot run it")))


def exported(**changes) -> Exported:
    def stored(bits: int, certified: int, **shares: float) -> Stored:
        return Stored(bits, certified, dict.fromkeys(RUNTIMES, 1.0) | {name.replace("_", "-"): share for name, share in shares.items()})

    certificate = (
        LayerCertificate("conv2d", "conv", 16, 8, {"scaled": stored(8, 16), "packed": stored(4, 16)}),
        LayerCertificate(
            "block_of_a_long_name/[/bold]\x1b[2Jwith/0",
            "depthwise",
            1024,
            256,
            {"scaled": stored(8, 512, litert_builtin=0.5), "packed": Stored(8, 0, dict.fromkeys(RUNTIMES, 0.0))},
        ),
    )
    equal, other = Mismatch("conv2d", 5000, 0, 0, 0, 0), Mismatch("add[red]\x1b", 5000, 7, 2, 7, 1)
    levels = (
        Levels("tflm", 50, (equal, other)),
        Levels("litert-xnnpack", 50, (equal, replace(other, differ=0))),
        Levels("litert-builtin", 0, reason="cannot keep its inner tensors"),
    )
    layers = (
        Layers("litert-xnnpack", "tflm", 50, (Op(0, "CONV_2D", "a", 100_000, 0, 0.0, 0, 0.0, False),)),
        Layers("litert-xnnpack", "litert-builtin", 50, (Op(3, "CONV_2D", "b", 100_000, 9, 1.0, 9, 1.0, False),)),
    )
    proof = Portability("not known: op 3 (conv x) cannot be read")
    measured = Measured("m.tflite", SIGNATURE, "shift", 12_345, fidelity(), proof, levels, layers)
    whole = Exported(
        sidecar=Path("m.edgeq.json"),
        origin=Origin("m.savedmodel", "ab", "SavedModel", "none"),
        files={"m.tflite": MadeFile("ab", 23_456)},
        preprocess="none",
        labels=None,
        recipe=Recipe("quantisation-aware training"),
        training={},
        data=None,
        measured=measured,
        packed=replace(measured, file="m-packed.tflite"),
        certificate=certificate,
        versions={},
    )
    return replace(whole, **changes)


def printed(value) -> str:
    out = io.StringIO()
    render(value, Console(file=out, width=80, highlight=False))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    return text


def test_all_that_matters_of_a_low_bit_network_fits() -> None:
    text = printed(exported())
    rows, words = [line.split() for line in text.splitlines()], " ".join(text.split())
    assert ["tflm", ".910", "(.882", ".932)", ".006", ".916", ".004", "0"] in rows
    assert ["conv2d", "conv", "16", "8", "1.00", "(int8)", "1.00", "(int4)"] in rows
    at = next(i for i, row in enumerate(rows) if row[1:] == ["depthwise", "1024", "256", ".500", "(int8)", ".000", "(int8)"])
    assert rows[at + 1 : at + 5] == [["xnnpack", "1.0", "none"], ["builtin", ".50"], ["refer.", "1.0"], ["tflm", "1.0"]]
    assert "scaled: 528 of 1040 channels certified on every runtime (.508)" in text
    assert "packed: 16 of 1040 channels certified on every runtime (.015)" in text
    assert "tflm: 7 of 10,000 activations are not the trained level; first in add[red]\ufffd," in text
    assert "litert-xnnpack: 0 of 10,000 activations are not the trained level\n" in text
    assert "litert-builtin: cannot keep its inner tensors" in text
    assert "tflm against litert-xnnpack, 50 images: every element of every op is equal" in text
    assert "first differs in op 3 CONV_2D, 9 of 100,000 elements by at most 1 LSB" in words
    assert "portable: not known: op 3 (conv x)" in text
    assert "keras-float: the same in float32" in words
    assert "m-packed.tflite: INT4 weights" in text
    assert "ort: a.onnx: ort cannot run it" in text


def test_an_ordinary_network_has_no_certificate() -> None:
    text = printed(exported(measured=Measured("m.tflite", SIGNATURE, "shift", None, fidelity()), certificate=None, packed=None))
    assert "certified" not in text
    assert "Fidelity on 500 clean images" in text
    assert "m.tflite: 23,456 bytes" in text


def test_a_file_that_does_not_see_its_input_is_said_first() -> None:
    dead = fidelity(litert_xnnpack=Alike("scores", 0, True))
    text = printed(exported(measured=Measured("m.tflite", SIGNATURE, "shift", None, dead)))
    assert text.startswith("WARNING: litert-xnnpack answers all 500 clean images with the same scores")


def test_the_json_is_flat_and_leaves_out_what_was_not_measured() -> None:
    said = exported().to_json()
    assert said["signature"] == {
        "kind": "probs",
        "input": {"shape": (8, 8, 1), "dtype": "int8", "scale": 1.0, "zero": -128},
        "output": {"shape": (10,), "dtype": "int8", "scale": 1 / 256, "zero": -128},
    }
    assert (said["pixels"], said["arena_bytes"], said["recipe"]) == ("shift", 12_345, {"method": "quantisation-aware training"})
    assert said["portable"] == {"holds": None, "sentence": "not known: op 3 (conv x) cannot be read"}
    assert [levels["differ"] for levels in said["levels"]] == [7, 0, 0]
    assert list(said["packed"]) == ["fidelity", "portable", "levels", "layers", "file"]
    bare = exported(measured=Measured("m.tflite", SIGNATURE, "shift", None, fidelity()), packed=None, certificate=None).to_json()
    assert not {"portable", "levels", "layers"} & bare.keys()
    assert bare["packed"] is bare["certificate"] is None
    assert bare["files"] == {"m.tflite": {"sha256": "ab", "bytes": 23_456}}
