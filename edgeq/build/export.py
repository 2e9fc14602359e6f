"""From a Keras network to int8 ``.tflite`` and ``.onnx`` files, and how faithful these are on every runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import data as sets
from edgeq.build import fidelity, files, images, quantised
from edgeq.core.errors import EdgeqError
from edgeq.core.plugins import choose
from edgeq.core.reporter import SILENT, Reporter
from edgeq.integer.read import sha256
from edgeq.integer.realise import SCALED, STORES
from edgeq.keras import quantizers
from edgeq.keras.load import Network, load
from edgeq.measure import certificate
from edgeq.measure.exported import Exported, MadeFile, Origin, Recipe
from edgeq.pipeline import sidecar
from edgeq.pipeline.preprocess import Preprocess, resolve
from edgeq.targets.probing import own_normalisation, probe, stated

if TYPE_CHECKING:
    from edgeq.keras.ship import Shipped

FORMATS = ("tflite", "onnx")
PACKAGES = ("tensorflow", "tf-keras", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert", "tflite-micro", "numpy")
TRAINING = ("net", "width", "quant", "ends", "preset", "n", "epochs", "settled", "fit", "seed", "validation", "test")
"""What a network's own sidecar says of its training, and the export's repeats."""


def export(
    model: str | Path,
    output: str | Path,
    *,
    formats: Sequence[str] = (),
    calibrate: str | None = None,
    data: str | None = None,
    n: int | None = None,
    preprocess: str | None = None,
    exif: bool = True,
    skip_unreadable: bool = False,
    seed: int = 0,
    stores: Sequence[str] = (),
    portable: bool = False,
    output_name: str | None = None,
    layers: int = 50,
    reporter: Reporter = SILENT,
) -> Exported:
    """Writes ``NAME.tflite``, ``NAME.onnx``, of low-bit networks ``NAME-packed.tflite``, and ``NAME.edgeq.json`` into ``output``.

    ``model``: a Keras file or SavedModel; or a float ``.onnx``, of which ONNX Runtime's own quantiser makes ``NAME-int8.onnx`` alone.
    ``formats``: of ``FORMATS``, by default those that can be made here. ``calibrate``: a data set whose train split sets ranges; ``data``:
    one whose test split fills the fidelity tables; by default the network's own, as its sidecar names it. ``n``: images of each, by default
    200 and 500. ``preprocess``: how the device prepares an image; ``exif``: photographs are turned upright first, as their EXIF orientation
    says; ``skip_unreadable``: images that cannot be read are left out. ``stores``: of ``STORES``, how low-bit weights are stored, by
    default in both ways. ``portable``: a float network is snapped onto power-of-two steps. ``output_name``: which output, of a Keras
    network with several; "logits" where its single number is a logit. ``layers``: images on which every op is compared, 0 for none.
    ``seed``: of the samples.

    Raises :class:`EdgeqError`; then nothing is written.
    """
    model, output, photos = Path(model), Path(output), images.Photographs(exif, skip_unreadable)
    if model.suffix == ".onnx":
        if portable or stores or (formats and set(formats) != {"onnx"}):
            raise EdgeqError(f"{model}: becomes an int8 .onnx; --portable, --store and other formats take a Keras network")
        given = probe(model, (), output_name)
        prepared = _preprocess(given, model, calibrate, data, preprocess, output_name, photos, reporter)
        return quantised.export(given, output, prepared, calibrate, data, n, photos, seed, reporter)
    kinds = _formats(formats, reporter)
    ways = tuple(dict.fromkeys(choose("store", way, list(STORES)) for way in stores or STORES))
    recorded = sidecar.read(model)[0]
    calibrate, data = calibrate or _text(recorded, "data"), data or calibrate or _text(recorded, "data")
    network, low_bit = load(model, output_name), recorded.get("quant") not in (None, "float", "tfmot:int8")
    trained = "low-bit" if low_bit else "quantisation-aware" if network.quantised else "float"
    reporter.say(f"{model.name}: {network.form}, {trained}; {network.kind_note}")
    if portable and (network.quantised or (low_bit and recorded["quant"] != "tfmot:portable")):
        raise EdgeqError(f"{model}: --portable takes a float network, or one trained with --quant tfmot:portable; this one is {trained}")
    calibrated = low_bit or portable or not network.quantised
    if calibrated and calibrate is None:
        what = "to see how far its logits reach" if low_bit else "to find its ranges; a float network has none"
        raise EdgeqError(f"{model}: it needs images {what}; pass --calibrate DATA")
    if stores and not portable and (not low_bit or quantizers.parse(str(recorded["quant"])).a == quantizers.FLOAT):
        raise EdgeqError(f"{model}: --store is about networks with low-bit activations, which this one is not")
    if "onnx" in formats and SCALED not in ways:
        raise EdgeqError(f"{model}: the .onnx is of the scaled file; take --store scaled, or --format tflite")

    prepare = _preprocess(network, model, calibrate, data, preprocess, output_name, photos, reporter)
    sample, recipe = None, Recipe("quantisation-aware training")
    if calibrated:
        sample, calibration = images.calibration(str(calibrate), n or 200, seed, prepare, photos, reporter)
        method = "low-bit training; these images set the step of the logits" if low_bit else "post-training quantisation"
        recipe = Recipe(method, calibration)
        reporter.say(f"calibration: {calibration.n} images of {calibrate}, sha256 {calibration.sha256[:16]}")
    stem = model.stem + ("-portable" if portable and not low_bit else "")
    snapped = portable and not low_bit
    shipped = _ship(network, model, sample, prepare, stem, low_bit, snapped, ways, "onnx" in kinds, output_name, reporter)
    device = replace(prepare, mean=None, std=None, bytes=True) if snapped else prepare
    test = images.sample(data, n or 500, seed, network, prepare, photos, reporter)
    with files.staging(output) as folder:
        made = _write(folder, shipped, "tflite" in kinds, reporter)
        tflites, onnx = [name for name in made if name.endswith(".tflite")], next((name for name in made if name.endswith(".onnx")), None)
        measured, *others = (
            fidelity.measure(folder, name, onnx if name == tflites[0] else None, shipped, network, prepare, device, test, layers, reporter)
            for name in tflites
        )
        reporter.say(f"pixels enter as {measured.pixels}; the output is {measured.signature.reading}")
        if "tflite" not in kinds:
            for name in tflites:
                (folder / name).unlink()
                made.pop(name)
        exported = Exported(
            sidecar=output / (stem + sidecar.SUFFIX),
            origin=Origin(model.name, network.sha256, network.form, prepare.spec),
            files=made,
            preprocess=device.spec,
            labels=recorded.get("labels") or test.labels,
            recipe=recipe,
            training={key: recorded[key] for key in TRAINING if key in recorded},
            data=data,
            measured=measured,
            packed=next(iter(others), None),
            certificate=certificate.table(shipped.certificates) if shipped.certificates else None,
            versions=files.versions(PACKAGES),
            unreadable=test.unreadable,
        )
        files.write_sidecar(folder / exported.sidecar.name, exported.to_json())
    reporter.say(f"wrote {', '.join(str(output / name) for name in (*made, exported.sidecar.name))}")
    return exported


def _formats(asked: Sequence[str], reporter: Reporter) -> tuple[str, ...]:
    """What was asked for; else what can be made here."""
    if asked:
        return tuple(choose("format", name, list(FORMATS)) for name in asked)
    missing = next((name for name in ("tf2onnx", "onnxruntime") if find_spec(name) is None), None)
    if missing:
        reporter.say(f'no .onnx: {missing} is not installed; pip install "edgeq[onnx]"', "yellow")
    return FORMATS[:1] if missing else FORMATS


def _text(recorded: Mapping[str, Any], key: str) -> str | None:
    value = recorded.get(key)
    return value if isinstance(value, str) else None


def _preprocess(
    network: images.Bordered,
    model: Path,
    calibrate: str | None,
    data: str | None,
    override: str | None,
    output: str | None,
    photos: images.Photographs,
    reporter: Reporter,
) -> Preprocess:
    shape: tuple[int, ...] = network.signature.input.shape
    spec, _, where = stated(model, output)
    image = shape
    if source := calibrate or data:
        dataset = sets.open(source, split="test", classes=network.signature.classes, exif=photos.exif)
        image = dataset.image(int(sets.sample(dataset, 1, 0, photos.unreadable(dataset, 1, 0))[0])).shape
    prepare, sentence = resolve((shape[0], shape[1]), shape[2], image, override=override, stated=spec, where=where)
    for said in (sentence, *own_normalisation(model, prepare, output)):
        reporter.say(said, "yellow" if said.startswith("warning") else "")
    return prepare


def _ship(
    network: Network,
    model: Path,
    sample: np.ndarray | None,
    prepare: Preprocess,
    stem: str,
    low_bit: bool,
    portable: bool,
    stores: tuple[str, ...],
    onnx: bool,
    output: str | None,
    reporter: Reporter,
) -> Shipped:
    """The files' bytes. ``sample``: ``(n, h, w, c) uint8``, None where the network brings its ranges."""
    from edgeq.keras import ship  # imports TensorFlow

    if not (low_bit or portable):
        return ship.converted(network, sample, None if sample is None else fidelity.real(network, prepare), stem, onnx)
    assert sample is not None
    real = fidelity.real(network, prepare)
    if portable:
        snapped = ship.portable(model, sample, real, output)
        for sentence in snapped.sentences:
            reporter.say(sentence)
        return ship.frozen(snapped.model, sample, stem, stores, onnx, snapped.zero)
    if not np.array_equal(real, np.broadcast_to(np.arange(256, dtype=np.float32)[:, None], real.shape)):
        raise EdgeqError(
            f"{model}: is frozen with raw pixels 0 to 255 as its input, and here they mean {real.min():g} to {real.max():g}; "
            "pass --preprocess mean=0,std=1 if it was trained so, or train it so"
        )
    return ship.frozen(ship.low_bit(model), sample, stem, stores, onnx)


def _write(folder: Path, shipped: Shipped, alone: bool, reporter: Reporter) -> dict[str, MadeFile]:
    """Every file into ``folder``, and what is to be said of each. An ``.onnx`` that is not int8 is left out if the ``.tflite`` may stand
    ``alone``; else that is an :class:`EdgeqError`."""

    def leave_out(reason: str) -> None:
        if not alone:
            raise EdgeqError(reason)
        reporter.say(f"no .onnx: {reason}", "yellow")

    if shipped.no_onnx:
        leave_out(shipped.no_onnx)
    made = {}
    for name, content in shipped.files.items():
        (folder / name).write_bytes(content)
        made[name] = MadeFile(sha256(folder / name), len(content))
    source = next(name for name in made if name.endswith(".tflite"))
    for name in [name for name in made if name.endswith(".onnx")]:
        try:
            kernels = fidelity.integer(folder / name, not shipped.integer, reporter)
            made[name] = replace(made[name], made_from=source, kernels=kernels)
        except EdgeqError as error:
            leave_out(str(error).removeprefix(f"{folder}/"))
            (folder / name).unlink()
            made.pop(name)
    return made
