"""What is measured of the files that an export made: kernels, fidelity on clean images, and inside, op by op."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq import runtimes
from edgeq.build.images import Sample
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import Target
from edgeq.core.reporter import Reporter
from edgeq.core.signature import Signature
from edgeq.integer import tflite_file
from edgeq.keras.load import Network
from edgeq.keras.source import KerasSource
from edgeq.measure import fidelity, layers, levels
from edgeq.measure.exported import Measured
from edgeq.measure.kernels import Kernels, kernels
from edgeq.measure.portability import Portability, portability
from edgeq.pipeline.codes import PixelCodes, codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.targets.opener import open_target
from edgeq.targets.spec import TargetSpec

if TYPE_CHECKING:
    from edgeq.keras.ship import Shipped  # imports TensorFlow

KERAS, FLOAT = "keras", "keras-float"


@dataclass(frozen=True, eq=False)
class Opened:
    """A file in a runtime that runs it."""

    signature: Signature
    codes: PixelCodes
    target: Target


def measure(
    folder: Path,
    tflite: str,
    onnx: str | None,
    shipped: Shipped,
    network: Network,
    prepare: Preprocess,
    device: Preprocess,
    test: Sample,
    inside: int,
    reporter: Reporter,
) -> Measured:
    """The file ``tflite`` in ``folder`` (and the ``onnx`` made from it) against the ``network``, on every runtime that runs them.

    ``prepare``, ``device``: what a pixel means to the network, and to the files. ``inside``: images on which all ops' outputs are compared;
    0 for none. Raises :class:`EdgeqError` where no runtime runs the file.
    """
    with contextlib.ExitStack() as stack:
        files = dict.fromkeys(runtimes.listed(".tflite"), folder / tflite)
        files |= dict.fromkeys(runtimes.listed(".onnx"), folder / onnx) if onnx else {}
        opened = _open(files, "logits" if shipped.trained is not None or not shipped.integer else network.signature.kind, device, stack)
        running = {name: value for name, value in opened.items() if isinstance(value, Opened)}
        if not running:
            raise EdgeqError(f"no runtime here runs the converted file: {next(iter(opened.values()))}")
        main = next(iter(running.values()))
        answering: dict[str, fidelity.Answering | str] = {**_networks(shipped, network, prepare, main.codes)}
        answering |= {name: value.target if isinstance(value, Opened) else value for name, value in opened.items()}
        with reporter.progress() as show:
            lines = fidelity.compare(answering, test.batches(), lambda done: show(f"{tflite} on every runtime", done, test.total))
        of_tflite = {name: value for name, value in running.items() if name != "ort"}
        ops = _inside(folder / tflite, of_tflite, shipped, test.first(inside), reporter) if inside and of_tflite else (None, None, None)
        arena = runtimes.arena_bytes(folder / tflite) if "tflm" in running else None
    about = fidelity.Fidelity(test.data, test.seed, test.total, lines)
    return Measured(tflite, main.signature, main.codes.describe(), arena, about, *ops)


def integer(onnx: Path, heavy_allowed: bool, reporter: Reporter) -> Kernels:
    """Proof that ONNX Runtime computes in integers: the kernels of its optimised graph.

    Raises :class:`EdgeqError` where a convolution or a product of matrices is left in floats, unless that is ``heavy_allowed``.
    """
    counted = kernels(onnx)
    heavy = [f"{count} {op}" for op, count in counted.float.items() if any(k in op for k in ("Conv", "Gemm", "MatMul"))]
    if (heavy and not heavy_allowed) or not (counted.integer or heavy_allowed):
        what = ", ".join(heavy) or "everything"
        raise EdgeqError(f"{onnx.name}: ORT would compute {what} in floats, so it is not int8; its .tflite is, take --format tflite")
    integral, floating = (", ".join(f"{count} {op}" for op, count in ops.items()) for ops in (counted.integer, counted.float))
    reporter.say(f"{onnx.name}: ONNX Runtime's optimised graph holds {integral or 'float kernels alone'}")
    if floating:
        reporter.say(f"{onnx.name}: left in floats: {floating}", "yellow")
    return counted


def real(network: Network, prepare: Preprocess) -> np.ndarray:
    """``(256, c) float32``: what the float network takes for each pixel value, from the stated mean and std."""
    return codes_for(network.signature.input, prepare, str(network.path)).real


def _open(files: Mapping[str, Path], output: str, prepare: Preprocess, stack: contextlib.ExitStack) -> dict[str, Opened | str]:
    """Runtime -> the file of that runtime in it, closed with ``stack``; or why it cannot run it."""
    opened: dict[str, Opened | str] = {}
    for file in dict.fromkeys(files.values()):
        for name, answer in runtimes.probe_all([name for name in files if files[name] == file], file, output=output).items():
            if isinstance(answer, Signature):
                codes = codes_for(answer.input, prepare, file.name)
                spec = TargetSpec(name, runtime=name, signature=answer, codes=codes)
                opened[name] = Opened(answer, codes, stack.enter_context(contextlib.closing(open_target(spec, file))))
            else:
                opened[name] = str(answer).replace(f"{file.parent}/", "")
    return opened


def _networks(shipped: Shipped, network: Network, prepare: Preprocess, codes: PixelCodes) -> dict[str, fidelity.Answering]:
    """``keras``: the network that was trained; where it was frozen the frozen one, and its float32 form beside it."""
    source = KerasSource(network, codes.real if prepare.mean is None else real(network, prepare))
    if shipped.trained is None:
        return {KERAS: source}
    return {KERAS: levels.Frozen(shipped.trained, codes), FLOAT: source}


def _inside(
    file: Path, opened: Mapping[str, Opened], shipped: Shipped, images: np.ndarray, reporter: Reporter
) -> tuple[Portability, tuple[levels.Levels, ...] | None, tuple[layers.Layers, ...]]:
    """The proof, and op by op: against the frozen network where there is one, and between runtimes."""
    proof = portability(tflite_file.read(str(file)), list(opened))
    base, *others = (layers.Side(name, file, name, o.signature, o.codes, o.target) for name, o in opened.items())
    n, kept = len(images), None
    with reporter.progress() as show:
        if shipped.trained is not None:
            signatures = {name: o.signature for name, o in opened.items()}
            kept = levels.compare(
                shipped.trained, file, signatures, base.codes, images, lambda done: show("levels on every runtime", done, n)
            )
        tables = layers.compare(base, others, images, lambda done: show("op by op on every runtime", done, n))
    return proof, kept, tuple(tables)
