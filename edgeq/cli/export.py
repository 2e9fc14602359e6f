"""``edgeq export``: a Keras network as int8 ``.tflite`` and ``.onnx``, and how faithful they are on every runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgeq.cli import console, files
from edgeq.core.errors import EdgeqError
from edgeq.pipeline import sidecar

if TYPE_CHECKING:
    from edgeq.keras.load import Network
    from edgeq.measure.fidelity import Line
    from edgeq.pipeline.preprocess import Preprocess

FORMATS = ("tflite", "onnx")
PACKAGES = ("tensorflow", "tf-keras", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "tflite-micro", "numpy")
EXAMPLE = """
\b
Examples:
  edgeq export models/digits_cnn-int8.savedmodel -o build
  edgeq export float.h5 -o build --calibrate zip:cifar10.zip --preprocess mean=0,std=1
"""


@click.command(epilog=EXAMPLE)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where the files go.")
@click.option("--format", "formats", metavar="A,B", help="tflite, onnx. Default: both, where tf2onnx is installed.")
@click.option("--calibrate", metavar="DATA", help="Images whose training split sets the ranges of a float network.")
@click.option("--data", metavar="DATA", help="Images whose test split fills the fidelity table. Default: those of --calibrate.")
@click.option("--n", type=click.IntRange(1), help="Images sampled, for each of the two. Default: 200 to calibrate, 500 to test.")
@click.option("--preprocess", metavar="SPEC", help="How the device prepares an image, as in imagenet or mean=127.5,std=127.5.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The sidecar's content on stdout, nothing else.")
def command(model: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Turn the Keras network MODEL (.h5, .keras or a SavedModel) into int8 files in DIR, and measure how faithful they are.

    A quantisation-aware network brings its ranges; a float one needs --calibrate, unless edgeq train recorded its data. The .onnx is
    made from the very .tflite. NAME.edgeq.json beside them says where they come from.
    """
    content, lines = export(model, output, **options)
    if as_json:
        import json

        print(json.dumps(content, allow_nan=False))
    else:
        from edgeq.report.fidelity import render

        render(content, lines, console.out)


def export(
    model: Path,
    output: Path,
    formats: str | None = None,
    calibrate: str | None = None,
    data: str | None = None,
    n: int | None = None,
    preprocess: str | None = None,
    seed: int = 0,
) -> tuple[dict[str, Any], list[Line]]:
    """Writes ``NAME.tflite``, ``NAME.onnx`` and ``NAME.edgeq.json`` into ``output``; the sidecar's content and the fidelity table.

    Raises :class:`EdgeqError`; then nothing is written.
    """
    wanted = _formats(formats)
    from edgeq.keras import convert
    from edgeq.keras.load import load

    recorded = sidecar.read(model)[0]
    calibrate, data = calibrate or _text(recorded, "data"), data or calibrate or _text(recorded, "data")
    if (quant := recorded.get("quant")) not in (None, "float", "tfmot:int8"):
        raise EdgeqError(
            f"{model}: was trained as {quant}, whose levels TensorFlow's converter would throw away (it quantises anew to int8); "
            "edgeq cannot export low-bit networks yet, export a float or tfmot:int8 one"
        )
    network = load(model)
    console.say(f"{model.name}: {network.form}, {'quantisation-aware' if network.quantised else 'float'}; {network.kind_note}")
    if not network.quantised and calibrate is None:
        raise EdgeqError(f"{model}: a float network needs images to find its ranges; pass --calibrate DATA")

    prepare = _preprocess(network, model, calibrate, data, preprocess)
    recipe: dict[str, Any] = {"method": "quantisation-aware training"}
    calibration = None
    if not network.quantised:
        calibration, recipe = _calibration(str(calibrate), n or 200, seed, prepare)
        console.say(f"calibration: {recipe['n']} images of {calibrate}, sha256 {recipe['sha256'][:16]}")
    stem = model.stem
    with files.staging(output) as folder:
        real = _real(network, prepare, model) if calibration is not None else None
        tflite = folder / f"{stem}.tflite"
        tflite.write_bytes(convert.to_tflite(network, calibration, real))
        made = {tflite.name: files.file_record(tflite)}
        if "onnx" in wanted:
            onnx = folder / f"{stem}.onnx"
            onnx.write_bytes(convert.to_onnx(tflite.read_bytes(), model))
            made[onnx.name] = {**files.file_record(onnx), "made_from": tflite.name, **_integer(onnx)}
        targets, about = _targets(folder, list(made), network, prepare)
        lines, tested = _compare(targets, data, n or 500, seed, network, prepare)
        about["files"] = made
        content = {
            "edgeq": files.VERSION,
            "kind": "export",
            "source": {"file": model.name, "sha256": network.sha256, "form": network.form},
            **about,
            "preprocess": prepare.spec,
            "labels": recorded.get("labels") or tested.pop("labels", None),
            "recipe": recipe,
            "data": data,
            "fidelity": {**tested, "runtimes": [line.to_json() for line in lines]},
            "versions": files.versions(
                ["tensorflow", "tf-keras", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "tflite-micro"]
            ),
        }
        if "tflite" not in wanted:
            tflite.unlink()
            made.pop(tflite.name)
        files.write_sidecar(folder / (stem + sidecar.SUFFIX), content)
    console.say(f"wrote {', '.join(str(output / name) for name in (*made, stem + sidecar.SUFFIX))}")
    return content, lines


def _formats(text: str | None) -> tuple[str, ...]:
    """What ``--format`` asks for; without it, what can be made."""
    from importlib.util import find_spec

    from edgeq.core.plugins import choose

    if text is not None:
        return tuple(choose("format", part.strip(), list(FORMATS)) for part in text.split(","))
    missing = next((name for name in ("tf2onnx", "onnxruntime") if find_spec(name) is None), None)
    if missing:
        console.say(f'no .onnx: {missing} is not installed; pip install "edgeq[onnx]"', "yellow")
    return FORMATS[:1] if missing else FORMATS


def _text(recorded: dict[str, Any], key: str) -> str | None:
    value = recorded.get(key)
    return value if isinstance(value, str) else None


def _preprocess(network: Network, model: Path, calibrate: str | None, data: str | None, override: str | None) -> Preprocess:
    from edgeq import data as sets
    from edgeq.pipeline import metadata
    from edgeq.pipeline.preprocess import resolve

    shape: tuple[int, ...] = network.signature.input.shape
    spec, _, where = metadata.stated(model)
    image = shape
    if source := calibrate or data:
        image = sets.open(source, split="test", classes=network.signature.classes).image(0).shape
    found, sentence = resolve((shape[0], shape[1]), shape[2], image, override=override, stated=spec, where=where)
    console.say(sentence)
    return found


def _real(network: Network, prepare: Preprocess, model: Path) -> np.ndarray:
    """``(256, c) float32``: what the float network takes for each pixel value, from the stated mean and std."""
    from edgeq.pipeline.codes import codes_for

    return codes_for(network.signature.input, prepare, str(model)).real


def _calibration(spec: str, n: int, seed: int, prepare: Preprocess) -> tuple[np.ndarray, dict[str, Any]]:
    from edgeq import data as sets
    from edgeq.keras import convert

    source = sets.open(spec, split="train")
    for note in source.notes:
        console.say(note)
    images = sets.decode(source, sets.sample(source, n, seed), prepare.apply)
    recipe = {"method": "post-training quantisation", "n": len(images), "sha256": convert.calibration_hash(images)}
    return images, {**recipe, "data": spec, "split": "train", "seed": seed}


def _integer(onnx: Path) -> dict[str, Any]:
    """Proof that ONNX Runtime computes in integers: the kernels of its optimised graph."""
    from edgeq import runtimes

    integer, floating = runtimes.integer_kernels(onnx)
    heavy = [f"{count} {op}" for op, count in floating.items() if any(k in op for k in ("Conv", "Gemm", "MatMul"))]
    if heavy or not integer:
        what = ", ".join(heavy) or "everything"
        raise EdgeqError(f"{onnx.name}: ONNX Runtime would compute {what} in floats, so it would not be int8; pass --format tflite")
    console.say(f"{onnx.name}: ONNX Runtime's optimised graph holds {', '.join(f'{count} {op}' for op, count in integer.items())}")
    if floating:
        console.say(f"{onnx.name}: left in floats: {', '.join(f'{count} {op}' for op, count in floating.items())}", "yellow")
    return {"integer_kernels": integer, "float_kernels": floating}


def _targets(folder: Path, made: list[str], network: Network, prepare: Preprocess) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runtime -> target, or why there is none; and what the sidecar says of the file's border."""
    from edgeq import runtimes
    from edgeq.core.signature import Signature
    from edgeq.keras.source import KerasSource
    from edgeq.pipeline.codes import codes_for

    tflite = folder / made[0]
    found: dict[str, Any] = {"keras": None}
    output = network.signature.kind
    main = None
    for file, names in ((tflite, [r for r in runtimes.NAMES if r != "ort"]), (tflite.with_suffix(".onnx"), ["ort"])):
        if file.name not in made:
            continue
        for name, answer in runtimes.probe_all(names, file, output=output).items():
            if isinstance(answer, Signature):
                codes = codes_for(answer.input, prepare, file.name)
                found[name] = runtimes.open(name, file, answer, codes)
                main = main or (answer, codes)
            else:
                found[name] = str(answer).replace(f"{folder}/", "")
    if main is None:
        raise EdgeqError(f"no runtime here runs the converted file: {next(v for v in found.values() if v)}")
    signature, codes = main
    real = codes.real if prepare.mean is None else _real(network, prepare, network.path)
    found["keras"] = KerasSource(network, real)
    border = {"kind": signature.kind, "input": dataclasses.asdict(signature.input), "output": dataclasses.asdict(signature.output)}
    console.say(f"pixels enter as {codes.describe()}; the output is {signature.kind}")
    arena = None
    if not isinstance(found.get("tflm", ""), str):
        arena = runtimes.arena_bytes(tflite)
    return found, {"signature": border, "pixels": codes.describe(), "arena_bytes": arena}


def _compare(
    targets: dict[str, Any], spec: str | None, n: int, seed: int, network: Network, prepare: Preprocess
) -> tuple[list[Line], dict[str, Any]]:
    from edgeq import data as sets
    from edgeq.measure import fidelity

    shape, total = network.signature.input.shape, n
    tested: dict[str, Any] = {"data": spec, "seed": seed}
    if spec is None:
        console.say("no test images are known (pass --data), so random images are compared, without accuracy", "yellow")
        tested["data"] = "uniform random images"

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
            rng = np.random.default_rng(seed)
            for at in range(0, n, 256):
                yield rng.integers(0, 256, (min(256, n - at), *shape), np.uint8), None
    else:
        dataset = sets.open(spec, split="test", classes=network.signature.classes)
        index = sets.sample(dataset, n, seed)
        total = len(index)
        tested["labels"] = list(dataset.classes) if dataset.classes else None

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
            for at in range(0, total, 256):
                part = index[at : at + 256]
                yield sets.decode(dataset, part, prepare.apply), dataset.labels[part]

    try:
        with console.progress() as show:
            lines = fidelity.compare(targets, batches(), lambda done: show("clean images on every runtime", done, total))
    finally:
        for target in targets.values():
            if not isinstance(target, str):
                target.close()
    return lines, {**tested, "n": total}
