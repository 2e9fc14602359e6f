"""What ``edgeq export`` measures of the files it made: kernels, targets, fidelity on clean images, op by op."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.cli import console
from edgeq.core.errors import EdgeqError

if TYPE_CHECKING:
    from edgeq.keras.load import Network
    from edgeq.keras.ship import Shipped
    from edgeq.measure.fidelity import Line
    from edgeq.pipeline.preprocess import Preprocess

KERAS, FLOAT = "keras", "keras-float"


@dataclass(frozen=True, eq=False)
class Images:
    """The test images: ``data``: what they are; ``total`` of them, in ``batches()`` of ``(uint8 images, labels or None)``."""

    data: str
    total: int
    seed: int
    labels: list[str] | None
    batches: Any

    def first(self, n: int) -> np.ndarray:
        found, count = [], 0
        for images, _ in self.batches():
            found.append(images[: n - count])
            count += len(found[-1])
            if count >= n:
                break
        return np.concatenate(found)


def images(spec: str | None, n: int, seed: int, network: Network, prepare: Preprocess) -> Images:
    """A sample of the test split, or random images where no data is known."""
    from edgeq import data as sets

    shape = network.signature.input.shape
    if spec is None:
        console.say("no test images are known (pass --data), so random images are compared, without accuracy", "yellow")

        def noise() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
            rng = np.random.default_rng(seed)
            for at in range(0, n, 256):
                yield rng.integers(0, 256, (min(256, n - at), *shape), np.uint8), None

        return Images("uniform random images", n, seed, None, noise)
    dataset = sets.open(spec, split="test", classes=network.signature.classes)
    index = sets.sample(dataset, n, seed)

    def sampled() -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        for at in range(0, len(index), 256):
            part = index[at : at + 256]
            yield sets.decode(dataset, part, prepare.apply), dataset.labels[part]

    return Images(spec, len(index), seed, list(dataset.classes) if dataset.classes else None, sampled)


@dataclass(frozen=True, eq=False)
class Measured:
    """One ``.tflite`` (and the ``.onnx`` beside it): the fidelity table, and what of it goes into the sidecar."""

    lines: list[Line]
    border: dict[str, Any]
    content: dict[str, Any]


def measure(
    folder: Path, tflite: str, onnx: str | None, shipped: Shipped, network: Network, prepare: Preprocess, test: Images, layers: int
) -> Measured:
    """``layers``: images on which all ops' outputs are compared; 0 for none. Raises :class:`EdgeqError` where no runtime runs the file."""
    from edgeq.measure import fidelity

    targets, signatures, border = _targets(folder, tflite, onnx, shipped, network, prepare)
    try:
        with console.progress() as show:
            lines = fidelity.compare(targets, test.batches(), lambda done: show(f"{tflite} on every runtime", done, test.total))
        inner = _inner(folder / tflite, targets, signatures, shipped, prepare, test.first(layers)) if layers else {}
    finally:
        for target in targets.values():
            if not isinstance(target, str):
                target.close()
    said = {"data": test.data, "seed": test.seed, "n": test.total, "runtimes": [line.to_json() for line in lines]}
    return Measured(lines, border, {"fidelity": said, **inner})


def _inner(
    file: Path, targets: dict[str, Any], signatures: dict[str, Any], shipped: Shipped, prepare: Preprocess, sample: np.ndarray
) -> dict[str, Any]:
    """The proof, and op by op: against the frozen network where there is one, else between runtimes."""
    from edgeq.integer import portable, read_tflite
    from edgeq.measure import layers, levels
    from edgeq.pipeline.codes import codes_for

    try:
        found: dict[str, Any] = {"portable": portable.prove(read_tflite.read(file), list(signatures)).to_json()}
    except EdgeqError as error:
        found = {"portable": {"holds": None, "sentence": f"not known: {str(error).removeprefix(f'{file}: ')}"}}
    codes = {name: codes_for(s.input, prepare, file.name) for name, s in signatures.items()}
    first = next(iter(signatures))
    with console.progress() as show:
        if shipped.trained is not None:
            found["levels"] = [
                held.to_json()
                for held in levels.hold(
                    shipped.trained, file, signatures, codes[first], sample, lambda done: show("levels on every runtime", done, len(sample))
                )
            ]
        sides = [layers.Side(name, file, name, s, codes[name], targets[name]) for name, s in signatures.items()]
        tables = layers.compare(sides[0], sides[1:], sample, lambda done: show("op by op on every runtime", done, len(sample)))
        found["layers"] = [table.to_json() for table in tables]
    return found


def integer(onnx: Path, heavy_allowed: bool = False) -> dict[str, Any]:
    """Proof that ONNX Runtime computes in integers: the kernels of its optimised graph."""
    from edgeq import runtimes

    integral, floating = runtimes.integer_kernels(onnx)
    heavy = [f"{count} {op}" for op, count in floating.items() if any(k in op for k in ("Conv", "Gemm", "MatMul"))]
    if (heavy and not heavy_allowed) or not (integral or heavy_allowed):
        what = ", ".join(heavy) or "everything"
        raise EdgeqError(f"{onnx.name}: ORT would compute {what} in floats, so it is not int8; take --format tflite")
    held = ", ".join(f"{count} {op}" for op, count in integral.items())
    console.say(f"{onnx.name}: ONNX Runtime's optimised graph holds {held or 'float kernels alone'}")
    if floating:
        console.say(f"{onnx.name}: left in floats: {', '.join(f'{count} {op}' for op, count in floating.items())}", "yellow")
    return {"integer_kernels": integral, "float_kernels": floating}


def _targets(
    folder: Path, tflite: str, onnx: str | None, shipped: Shipped, network: Network, prepare: Preprocess
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Runtime -> target, or why there is none; runtime -> signature of the ``.tflite``; and what the sidecar says of the file's border.

    ``keras`` is the network that was trained: where it was frozen, the frozen one, and its float32 form stands beside it.
    """
    from edgeq import runtimes
    from edgeq.core.signature import Signature
    from edgeq.keras.source import KerasSource
    from edgeq.measure.levels import Trained
    from edgeq.pipeline.codes import codes_for

    low_bit = shipped.trained is not None
    found: dict[str, Any] = {KERAS: None} | ({FLOAT: None} if low_bit else {})
    output = "logits" if low_bit or not shipped.integer else network.signature.kind
    main, signatures = None, {}
    files = [(folder / tflite, runtimes.listed(".tflite"))]
    for file, names in [*files, *([(folder / onnx, runtimes.listed(".onnx"))] if onnx else [])]:
        for name, answer in runtimes.probe_all(names, file, output=output).items():
            if isinstance(answer, Signature):
                codes = codes_for(answer.input, prepare, file.name)
                found[name] = runtimes.open(name, file, answer, codes)
                main = main or (answer, codes)
                if name != "ort":
                    signatures[name] = answer
            else:
                found[name] = str(answer).replace(f"{folder}/", "")
    if main is None:
        raise EdgeqError(f"no runtime here runs the converted file: {next(v for v in found.values() if v)}")
    signature, codes = main
    source = KerasSource(network, codes.real if prepare.mean is None else real(network, prepare))
    if shipped.trained is not None:
        found[KERAS], found[FLOAT] = Trained(shipped.trained, codes), source
    else:
        found[KERAS] = source
    border = {"kind": signature.kind, "input": dataclasses.asdict(signature.input), "output": dataclasses.asdict(signature.output)}
    arena = runtimes.arena_bytes(folder / tflite) if "tflm" in signatures else None
    return found, signatures, {"signature": border, "pixels": codes.describe(), "arena_bytes": arena}


def real(network: Network, prepare: Preprocess) -> np.ndarray:
    """``(256, c) float32``: what the float network takes for each pixel value, from the stated mean and std."""
    from edgeq.pipeline.codes import codes_for

    return codes_for(network.signature.input, prepare, str(network.path)).real
