"""``edgeq inspect`` and ``edgeq doctor`` as a user meets them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_tflite
from click.testing import CliRunner
from random_graphs import random_graph
from rich.console import Console

from edgeq.cli import doctor, inspect
from edgeq.core.errors import EdgeqError
from edgeq.integer.write_tflite import write_tflite
from edgeq.measure import inspection, installation
from edgeq.report.inspection import render
from edgeq.runtimes import probe_all


def run(command, *arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_inspect_prints_what_a_person_asks(tmp_path: Path) -> None:
    file = tmp_path / "m[red].tflite"
    file.write_bytes(tiny_tflite.classifier(c=3))
    text = run(inspect.command, str(file))
    assert max(map(len, text.splitlines())) <= 80
    for words in ("m[red].tflite", "8x8x3 int8", "read as probs", "q = p - 128", "CONV_2D", "✓ litert-xnnpack", "stm32f469"):
        assert words in text


def test_inspect_json_is_one_document(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.classifier())
    facts = json.loads(run(inspect.command, str(file), "--json"))
    assert facts["bytes"] == file.stat().st_size
    assert facts["macs"] == 8 * 8 * 8 * 9 + 128 * 10
    assert facts["runtimes"]["litert-reference"] is None
    assert facts["devices"]["stm32f469"]["flash"] is True


def test_fit_and_no_fit_are_said_in_words_and_nothing_fits_where_its_runtime_refuses_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.classifier())
    whole = inspection.inspect(file)
    fit = whole.devices["stm32f469"].fit
    small = replace(whole.devices["stm32f469"], fit=replace(fit, ram=False))
    assert [d.verdict for d in (whole.devices["stm32f469"], small, replace(small, fit=replace(fit, flash=False)))] == [
        *("yes", "no: too little RAM", "no: too little flash"),
    ]
    assert replace(small, fit=replace(fit, ram=None)).verdict == "flash yes, RAM unknown"

    def refuses(names, *rest):
        return probe_all(names, *rest) | {"tflm": EdgeqError("m.tflite: tflm cannot run it: no such op")}

    monkeypatch.setattr("edgeq.runtimes.probe_all", refuses)
    refused = inspection.inspect(file)
    for name, device in refused.to_json()["devices"].items():
        assert device["fits"] == ("no: tflm does not run it" if device["runtime"] == "tflm" else "flash yes, RAM unknown"), name
    for width in (80, 60):
        out = io.StringIO()
        render(refused, Console(file=out, width=width))  # no terminal: no colour
        lines = out.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert "…" not in out.getvalue()
        assert any("stm32f469" in line and "no: tflm" in line for line in lines)
        assert any("litert-xnnpack runs it" in line for line in lines)


def test_inspect_proves_that_a_file_is_one_function_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.runtimes.probe_all", lambda names, *rest: probe_all(names[:2], *rest))  # who runs it, not what it answers
    file = tmp_path / "m.tflite"
    for content, sentence, holds in [
        (write_tflite(random_graph(3, portable=True)), "proven: the same answer on litert-xnnpack", True),
        (write_tflite(random_graph(3, portable=True, softmax=True)), "proven up to the softmax: the same on litert-xnnpack", False),
        (write_tflite(random_graph(3)), "not proven: op 0 (conv t3) gives ", False),
        (tiny_tflite.classifier(label=True), "not known: ARG_MAX (label) cannot be read", None),
    ]:
        file.write_bytes(content)
        text = run(inspect.command, str(file))
        assert f"portable   {sentence}" in text
        assert max(map(len, text.splitlines())) <= 80
        portable = inspection.inspect(file).portable
        assert portable is not None
        assert portable.sentence.startswith(sentence)
        assert json.loads(json.dumps(portable.to_json()))["holds"] is holds
    file.write_bytes(tiny_tflite.edgetpu())
    nothing = inspection.inspect(file)
    assert nothing.portable is None
    assert "portable" not in nothing.to_json()


def test_inspect_describes_what_nothing_can_run(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.edgetpu())
    text = run(inspect.command, str(file))
    assert "Edge TPU" in text
    assert "edgetpu-custom-op" in text
    file.write_bytes(b"")
    with pytest.raises(EdgeqError, match="is empty"):
        run(inspect.command, str(file))


def test_inspect_says_what_a_float_input_needs(tmp_path: Path) -> None:
    file = tmp_path / "m.tflite"
    file.write_bytes(tiny_tflite.classifier(dtype="float32"))
    assert "mean=" in json.loads(run(inspect.command, str(file), "--json"))["pixels"]
    stated = json.loads(run(inspect.command, str(file), "--json", "--preprocess", "mean=0,std=255"))["pixels"]
    assert "0..1" in stated


def test_doctor_runs_the_runtimes() -> None:
    facts = json.loads(run(doctor.command, "--json"))
    assert facts["runtimes"]["litert-xnnpack"] is None, "the base install runs LiteRT"
    assert facts["packages"]["base"]["numpy"]
    assert set(facts["runtimes"]) == {"litert-xnnpack", "litert-builtin", "litert-reference", "tflm", "ort", "keras"}
    for extra, packages in facts["packages"].items():
        advised = any(f"edgeq[{extra}]" in line for line in facts["advice"])
        assert advised == (extra != "base" and None in packages.values())


def test_doctor_tells_a_person_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_version", lambda package: None if package == "tflite-micro" else "1.0")
    text = run(doctor.command)
    assert "tflite-micro missing" in text
    assert 'pip install "edgeq[tflm]"' in text


@pytest.mark.parametrize(
    ("machine", "flags", "avx2", "note"),
    [
        ("x86_64", ("avx2", "fma"), True, "speak of x86-64 with AVX2, as this processor is."),
        ("x86_64", ("fma",), False, "speak of x86-64 with AVX2, which this processor is not: they say nothing of its kernels."),
        ("aarch64", ("neon",), False, "which this processor is not"),
        ("AMD64", (), None, "this system does not say whether its processor is one."),
    ],
)
def test_doctor_says_whether_proofs_speak_of_this_processor(machine, flags, avx2, note, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation.cpu, "flags", lambda: flags)
    monkeypatch.setattr(installation.platform, "machine", lambda: machine)
    monkeypatch.setattr(installation, "_runtimes", lambda packages: {})
    facts = json.loads(run(doctor.command, "--json"))
    assert facts["avx2"] is avx2
    assert note in facts["notes"][-1]
    assert note in " ".join(run(doctor.command).split())
