"""From a float ``.onnx`` to an int8 one, by ONNX Runtime's own static quantisation, and how faithful it is."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgeq.build import fidelity, files, images
from edgeq.core.errors import EdgeqError
from edgeq.core.reporter import Reporter
from edgeq.integer import read
from edgeq.measure import fidelity as figures
from edgeq.measure.exported import Exported, MadeFile, Measured, Origin, Recipe
from edgeq.pipeline import sidecar
from edgeq.pipeline.codes import codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes import FORM, probe, quantise
from edgeq.targets.opener import open_target
from edgeq.targets.probing import Probed
from edgeq.targets.spec import TargetSpec

FLOAT = "ort-float"
PACKAGES = ("onnx", "onnxruntime", "numpy")


def export(
    network: Probed,
    output: Path,
    prepare: Preprocess,
    calibrate: str | None,
    data: str | None,
    n: int | None,
    photos: images.Photographs,
    seed: int,
    reporter: Reporter,
) -> Exported:
    """As :func:`edgeq.build.export.export`, of the float ``.onnx`` that ``network`` is: ``NAME-int8.onnx`` and its sidecar."""
    path, signature = network.path, network.signature
    if any("Quantize" in op.name or "QLinear" in op.name or op.name == "QGemm" for op in read.read(path).ops):
        raise EdgeqError(f"{path}: is quantised already; export takes a float .onnx or a Keras network")
    if calibrate is None:
        raise EdgeqError(f"{path}: it needs images to find its ranges; pass --calibrate DATA")
    reporter.say(f"{path.name}: float ONNX, {signature.layout}; its output is {signature.kind}")
    sample, calibration = images.calibration(calibrate, n or 200, seed, prepare, photos, reporter)
    reporter.say(f"calibration: {calibration.n} images of {calibrate}, sha256 {calibration.sha256[:16]}")
    codes = codes_for(signature.input, prepare, str(path))
    content = quantise(path, signature, codes, sample)
    test, name = images.sample(data or calibrate, n or 500, seed, network, prepare, photos, reporter), f"{path.stem}-int8.onnx"
    with files.staging(output) as folder, contextlib.ExitStack() as stack:
        (folder / name).write_bytes(content)
        kernels = fidelity.integer(folder / name, True, reporter)
        made = MadeFile(read.sha256(folder / name), len(content), path.name, kernels)
        border = probe("ort", folder / name, output=signature.kind)
        answering: dict[str, figures.Answering | str] = {}
        for called, file, at in ((FLOAT, path, signature), ("ort", folder / name, border)):
            spec = TargetSpec(called, runtime="ort", signature=at, codes=codes)
            answering[called] = stack.enter_context(contextlib.closing(open_target(spec, file)))
        with reporter.progress() as show:
            lines = figures.compare(answering, test.batches(), lambda done: show(f"{name} and the float network", done, test.total))
        exported = Exported(
            sidecar=output / (f"{path.stem}-int8" + sidecar.SUFFIX),
            origin=Origin(path.name, read.sha256(path), "float ONNX", prepare.spec),
            files={name: made},
            preprocess=prepare.spec,
            labels=test.labels,
            recipe=Recipe(f"post-training quantisation by onnxruntime ({FORM})", calibration),
            training={},
            data=data or calibrate,
            measured=Measured(name, border, codes.describe(), None, figures.Fidelity(test.data, test.seed, test.total, lines)),
            packed=None,
            certificate=None,
            versions=files.versions(PACKAGES),
            unreadable=test.unreadable,
        )
        files.write_sidecar(folder / exported.sidecar.name, exported.to_json())
    reporter.say(f"wrote {output / name}, {output / exported.sidecar.name}")
    return exported
