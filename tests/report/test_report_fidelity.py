"""What ``edgeq export`` prints: 80 columns, certificates with what the rest is exact for, where runtimes leave the trained levels."""

from __future__ import annotations

import io

from rich.console import Console

from edgeq.report.fidelity import render

RUNTIMES = ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm")
NAMES = ("keras", "keras-float", *RUNTIMES, "ort")


def content(**changes):
    lines = [
        {"runtime": name, "accuracy": [0.91, 0.88, 0.93], "with_ties": 0.916, "lsb": 0.0, "ties": 3, "flips": dict.fromkeys(NAMES, 2)}
        for name in NAMES[:-1]
    ] + [{"runtime": "ort", "reason": "a.onnx: ort cannot run it"}]

    def stored(bits: int, certified: int, **shares: float) -> dict:
        return {"bits": bits, "certified": certified, "runtimes": dict.fromkeys(RUNTIMES, 1.0) | shares}

    certificate = [
        {"layer": "conv2d", "kind": "conv", "channels": 16, "levels": 8, "stored": {"scaled": stored(8, 16), "packed": stored(4, 16)}},
        {
            **{"layer": "block_of_a_long_name/[/bold]\x1b[2Jwith/0", "kind": "depthwise", "channels": 1024, "levels": 256},
            "stored": {
                "scaled": stored(8, 512, **{"litert-builtin": 0.5}),
                "packed": stored(8, 0, **dict.fromkeys(RUNTIMES, 0.0)),
            },
        },
    ]
    ops = [
        {"name": "conv2d", "elements": 5000, "differ": 0, "largest": 0},
        {"name": "add[red]\x1b", "elements": 5000, "differ": 7, "largest": 2},
    ]
    levels = [
        {"runtime": "tflm", "reason": "", "differ": 7, "elements": 10_000, "ops": ops, "alone_largest": 1},
        {"runtime": "litert-xnnpack", "reason": "", "differ": 0, "elements": 10_000, "ops": ops[:1]},
        {"runtime": "litert-builtin", "reason": "cannot keep its inner tensors", "differ": 0, "elements": 0, "ops": []},
    ]
    layers = [
        {"base": "litert-xnnpack", "other": "tflm", "reason": "", "n": 50, "first": None},
        {
            **{"base": "litert-xnnpack", "other": "litert-builtin", "reason": "", "n": 50},
            "first": {"index": 3, "kind": "CONV_2D", "differ": 9, "elements": 100_000, "largest": 1.0},
        },
    ]
    fidelity = {"n": 500, "data": "zip:" + "x" * 20, "runtimes": lines}
    inside = {"portable": {"sentence": "not proven: op 3 (conv x) gives 4 on tflm"}, "levels": levels, "layers": layers}
    return {
        **{"fidelity": fidelity, "certificate": certificate, **inside, "arena_bytes": 12_345},
        **{"packed": {"file": "m-packed.tflite", "fidelity": fidelity}, "files": {"m.tflite": {"bytes": 23_456}}, **changes},
    }


def printed(value) -> str:
    out = io.StringIO()
    render(value, Console(file=out, width=80, highlight=False))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    return text


def test_all_that_matters_of_a_low_bit_network_fits() -> None:
    text = printed(content())
    rows, words = [line.split() for line in text.splitlines()], " ".join(text.split())
    assert ["tflm", "0.910", "(0.880..0.930)", "0.006", "0.916", "0.004", "0"] in rows
    assert ["conv2d", "conv", "16", "8", "1.000", "(int8)", "1.000", "(int4)"] in rows
    at = next(i for i, row in enumerate(rows) if row[1:] == ["depthwise", "1024", "256", "0.500", "(int8)", "0.000", "(int8)"])
    assert rows[at + 1 : at + 5] == [["xnnpack", "1.00", "none"], ["builtin", "0.50"], ["refer.", "1.00"], ["tflm", "1.00"]]
    assert "scaled: 528 of 1040 channels certified on every runtime (0.508)" in text
    assert "packed: 16 of 1040 channels certified on every runtime (0.015)" in text
    assert "tflm: 7 of 10,000 activations are not the trained level; first in add[red]\ufffd," in text
    assert "litert-xnnpack: 0 of 10,000 activations are not the trained level\n" in text
    assert "litert-builtin: cannot keep its inner tensors" in text
    assert "tflm against litert-xnnpack, 50 images: every element of every op is equal" in text
    assert "first differs in op 3 CONV_2D, 9 of 100,000 elements by at most 1 LSB" in words
    assert "portable: not proven: op 3 (conv x)" in text
    assert "keras-float: the same in float32" in words
    assert "m-packed.tflite: INT4 weights" in text
    assert "ort: a.onnx: ort cannot run it" in text


def test_an_ordinary_network_has_no_certificate() -> None:
    text = printed(content(certificate=None, packed=None, levels=(), layers=(), portable=None))
    assert "certified" not in text
    assert "Fidelity on 500 clean images" in text
    assert "m.tflite: 23,456 bytes" in text


def test_a_file_that_does_not_see_its_input_is_said_first() -> None:
    dead = content()["fidelity"]["runtimes"]
    dead[2] = {**dead[2], "constant": {"what": "scores", "label": 0, "dead": True}}
    text = printed(content(fidelity={"n": 500, "data": "digits", "runtimes": dead}))
    assert text.startswith("WARNING: litert-xnnpack answers all 500 clean images with the same scores")
