"""``edgeq export``: a Keras network as int8 ``.tflite`` and ``.onnx``, and how faithful they are on every runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgeq.cli import console, exporting, files, trusting
from edgeq.core.errors import EdgeqError
from edgeq.measure import certificate
from edgeq.pipeline import sidecar

if TYPE_CHECKING:
    from edgeq.keras.load import Network
    from edgeq.measure.fidelity import Line
    from edgeq.pipeline.preprocess import Preprocess

FORMATS = ("tflite", "onnx")
PACKAGES = ("tensorflow", "tf-keras", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "tflite-micro", "numpy")
TOLD = ("net", "width", "quant", "ends", "preset", "n", "epochs", "settled", "fit", "seed", "validation", "test")
"""What a network's own sidecar says of its training, and the export's repeats."""
EXAMPLE = """
\b
Examples:
  edgeq export models/digits_cnn-int8.savedmodel -o build
  edgeq export float.h5 -o build --calibrate zip:cifar10.zip --preprocess mean=0,std=1
  edgeq export float.h5 -o build --portable --calibrate zip:cifar10.zip --preprocess mean=0,std=1
  edgeq export models/resnet8-lsq-w4a4.savedmodel -o build --store packed
"""


@click.command(epilog=EXAMPLE)
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Where the files go.")
@click.option("--format", "formats", metavar="A,B", help="tflite, onnx. Default: both, where tf2onnx is installed.")
@click.option("--calibrate", metavar="DATA", help="Images whose training split sets the ranges of a float network.")
@click.option("--data", metavar="DATA", help="Images whose test split fills the fidelity table. Default: those of --calibrate.")
@click.option("--n", type=click.IntRange(1), help="Images sampled, for each of the two. Default: 200 to calibrate, 500 to test.")
@click.option("--preprocess", metavar="SPEC", help="How the device prepares an image, as in imagenet or mean=127.5,std=127.5.")
@click.option("--store", metavar="A,B", help="Low-bit weights: scaled (int8, certified), packed (INT4, half the flash). Default: both.")
@click.option("--portable", is_flag=True, help="Snap a float network onto power-of-two steps: one function on every runtime, proven.")
@click.option("--layers", type=click.IntRange(0), default=50, show_default=True, help="Images on which every op is compared; 0 for none.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The sidecar's content on stdout, nothing else.")
@trusting.option
def command(model: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Turn the Keras network MODEL (.h5, .keras or a SavedModel) into int8 files in DIR, and measure how faithful they are.

    A quantisation-aware network brings its ranges; a float one needs --calibrate, unless edgeq train recorded its data. The .onnx is
    made from the very .tflite. A low-bit network is written level by level, with a certificate of which channels compute the trained
    levels on every runtime. NAME.edgeq.json beside the files says where they come from.
    """
    content, _ = export(model, output, **options)
    if as_json:
        import json

        print(json.dumps(content, allow_nan=False))
    else:
        from edgeq.report.fidelity import render

        render(content, console.out)


def export(
    model: Path,
    output: Path,
    formats: str | None = None,
    calibrate: str | None = None,
    data: str | None = None,
    n: int | None = None,
    preprocess: str | None = None,
    seed: int = 0,
    store: str | None = None,
    portable: bool = False,
    layers: int = 50,
) -> tuple[dict[str, Any], list[Line]]:
    """Writes ``NAME.tflite``, ``NAME.onnx``, of low-bit networks ``NAME-packed.tflite``, and ``NAME.edgeq.json`` into ``output``.

    The sidecar's content and the main file's fidelity table. Raises :class:`EdgeqError`; then nothing is written.
    """
    wanted, stores = _formats(formats), _stores(store)
    from edgeq.keras import quantizers, ship
    from edgeq.keras.load import load

    recorded = sidecar.read(model)[0]
    calibrate, data = calibrate or _text(recorded, "data"), data or calibrate or _text(recorded, "data")
    low_bit = recorded.get("quant") not in (None, "float", "tfmot:int8")
    network = load(model)
    trained = "low-bit" if low_bit else "quantisation-aware" if network.quantised else "float"
    console.say(f"{model.name}: {network.form}, {trained}; {network.kind_note}")
    if portable and (network.quantised or (low_bit and recorded["quant"] != "tfmot:portable")):
        raise EdgeqError(f"{model}: --portable takes a float network, or one trained with --quant tfmot:portable; this one is {trained}")
    if (low_bit or portable or not network.quantised) and calibrate is None:
        what = "to see how far its logits reach" if low_bit else "to find its ranges; a float network has none"
        raise EdgeqError(f"{model}: it needs images {what}; pass --calibrate DATA")

    if store and not portable and (not low_bit or quantizers.parse(str(recorded["quant"])).a == quantizers.FLOAT):
        raise EdgeqError(f"{model}: --store is about networks with low-bit activations, which this one is not")
    if formats and "onnx" in wanted and ship.SCALED not in stores:
        raise EdgeqError(f"{model}: the .onnx is of the scaled file; take --store scaled, or --format tflite")

    prepare = _preprocess(network, model, calibrate, data, preprocess)
    recipe: dict[str, Any] = {"method": "quantisation-aware training"}
    stem, calibration = model.stem, None
    if low_bit or portable or not network.quantised:
        calibration, recipe = _calibration(str(calibrate), n or 200, seed, prepare, low_bit)
        console.say(f"calibration: {recipe['n']} images of {calibrate}, sha256 {recipe['sha256'][:16]}")
    if low_bit or portable:
        assert calibration is not None
        _raw(exporting.real(network, prepare), model)
        keras = ship.low_bit(model) if low_bit else ship.portable(model, calibration)
        stem += "" if low_bit else "-portable"
        shipped = ship.frozen(keras, calibration, stem, stores, "onnx" in wanted)
    else:
        real = None if calibration is None else exporting.real(network, prepare)
        shipped = ship.converted(network, calibration, real, stem, "onnx" in wanted)
    test = exporting.images(data, n or 500, seed, network, prepare)
    with files.staging(output) as folder:
        made = {}
        for name, held in shipped.files.items():
            (folder / name).write_bytes(held)
            made[name] = files.file_record(folder / name)
        tflites = [name for name in made if name.endswith(".tflite")]
        onnx = next((name for name in made if name.endswith(".onnx")), None)
        if onnx:
            made[onnx] |= {"made_from": tflites[0], **exporting.integer(folder / onnx, not shipped.integer)}
        main, *others = (
            exporting.measure(folder, name, onnx if name == tflites[0] else None, shipped, network, prepare, test, layers)
            for name in tflites
        )
        console.say(f"pixels enter as {main.border['pixels']}; the output is {main.border['signature']['kind']}")
        content = {
            "edgeq": files.VERSION,
            "kind": "export",
            "source": {"file": model.name, "sha256": network.sha256, "form": network.form},
            **main.border,
            "files": made,
            "preprocess": prepare.spec,
            "labels": recorded.get("labels") or test.labels,
            "recipe": recipe,
            "training": {key: recorded[key] for key in TOLD if key in recorded},
            "data": data,
            **main.content,
            "packed": {**others[0].content, "file": tflites[1]} if others else None,
            "certificate": certificate.table(shipped.certificates) if shipped.certificates else None,
            "versions": files.versions(PACKAGES),
        }
        if "tflite" not in wanted:
            for name in tflites:
                (folder / name).unlink()
                made.pop(name)
        files.write_sidecar(folder / (stem + sidecar.SUFFIX), content)
    console.say(f"wrote {', '.join(str(output / name) for name in (*made, stem + sidecar.SUFFIX))}")
    return content, main.lines


def _stores(text: str | None) -> tuple[str, ...]:
    from edgeq.core.plugins import choose
    from edgeq.keras.ship import PACKED, SCALED

    return tuple(dict.fromkeys(choose("store", part.strip(), [SCALED, PACKED]) for part in (text or f"{SCALED},{PACKED}").split(",")))


def _raw(real: np.ndarray, model: Path) -> None:
    if not np.array_equal(real, np.broadcast_to(np.arange(256, dtype=np.float32)[:, None], real.shape)):
        raise EdgeqError(
            f"{model}: is frozen with raw pixels 0 to 255 as its input, and here they mean {real.min():g} to {real.max():g}; "
            "pass --preprocess mean=0,std=1 if it was trained so, or train it so"
        )


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


def _calibration(spec: str, n: int, seed: int, prepare: Preprocess, low_bit: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    from edgeq import data as sets
    from edgeq.keras import convert

    source = sets.open(spec, split="train")
    for note in source.notes:
        console.say(note)
    images = sets.decode(source, sets.sample(source, n, seed), prepare.apply)
    method = "low-bit training; these images set the step of the logits" if low_bit else "post-training quantisation"
    recipe = {"method": method, "n": len(images), "sha256": convert.calibration_hash(images)}
    return images, {**recipe, "data": spec, "split": "train", "seed": seed}
