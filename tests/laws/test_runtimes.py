"""Every runtime, held to the contract of a target: independent of batch and threads, in order, close to the reference kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_tflite

from edgeq import runtimes
from edgeq.core.errors import EdgeqError
from edgeq.core.signature import Signature
from edgeq.integer.read import read
from edgeq.pipeline.codes import PixelCodes, codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes._probe import signature_of

LITERT = ("litert-xnnpack", "litert-builtin", "litert-reference")
FILES: dict[str, dict[str, Any]] = {
    "int8": {},
    "uint8": {"dtype": "uint8", "c": 3},
    "float32": {"dtype": "float32"},
    "logits": {"softmax": False},
    "label": {"label": True},
    "fixed batch": {"fixed_batch": True},
    "no integers": {},
    "lstm": {},
    "memory": {},
    "memory inside": {},
}
OTHERS = {
    "no integers": tiny_tflite.floats,
    "lstm": (Path(__file__).parents[1] / "digits_lstm.tflite").read_bytes,
    "memory": tiny_tflite.stateful,
    "memory inside": lambda: tiny_tflite.stateful(inner=True),
}
STATEFUL = ("lstm", "memory", "memory inside")
QUICK = ("int8", "label", "memory")  # the files that `make quick` opens; each takes two processes per runtime
ZOO = {p.name: p for p in sorted((Path(__file__).parents[2] / "docs" / "results" / "zoo").glob("*.*")) if p.suffix in (".tflite", ".onnx")}
# Steps by which scores may differ from the reference kernels'. Each kernel set rounds its own way: one step in the logits of these two
# layers. Softmax moves by at most a quarter of what a logit moves: 16/255 / 4 = 4 of its 1/256 steps, and one for its own rounding.
LSB = {"logits": 1, "int8": 5, "uint8": 5, "float32": 5}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    paths = {}
    for name, options in FILES.items():
        paths[name] = folder / f"{name}.tflite"
        paths[name].write_bytes(OTHERS[name]() if name in OTHERS else tiny_tflite.classifier(**options))
    return paths


@pytest.fixture(scope="module")
def signatures(files: dict[str, Path]) -> dict[str, Signature]:
    return {name: runtimes.probe("litert-reference", path) for name, path in files.items()}


def codes_of(signature: Signature) -> PixelCodes:
    h, w, c = signature.input.shape
    return codes_for(signature.input, Preprocess((h, w), c, mean=(0.0,), std=(255.0,)), "test")


def open_target(name: str, path: Path, signature: Signature, **options: Any) -> Any:
    if name == "tflm":
        pytest.importorskip("tflite_micro")
    return runtimes.open(name, path, signature, codes_of(signature), **options)


def unless_quick(file: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if file in QUICK else (pytest.mark.slow,)


def images_for(signature: Signature, n: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (n, *signature.input.shape), np.uint8)


PAIRS = [*((n, f) for n in LITERT for f in FILES), ("tflm-exact", "int8"), *(("tflm", f) for f in ("int8", "label", *STATEFUL))]


@pytest.mark.parametrize(("name", "file"), [pytest.param(n, f, marks=unless_quick(f)) for n, f in PAIRS])
def test_answers_depend_on_neither_batch_nor_threads_nor_order(
    name: str, file: str, files: dict[str, Path], signatures: dict[str, Signature]
) -> None:
    signature = signatures[file]
    images = images_for(signature, 37)
    kept = images.copy()
    few = open_target(name, files[file], signature, batch=4, threads=1)
    many = open_target(name, files[file], signature, batch=32, threads=3)
    try:
        alone = np.concatenate([few.answer(images[i : i + 1]).raw for i in range(len(images))])
        assert len(np.unique(alone, axis=0)) > 5, "the file tells these images apart, so a mix-up would be seen"
        order = np.random.default_rng(0).permutation(len(images))
        assert np.array_equal(few.answer(images).raw, alone)
        assert np.array_equal(many.answer(images).raw, alone)
        assert np.array_equal(many.answer(images[order]).raw, alone[order])
        assert np.array_equal(many.answer(images[:5]).raw, alone[:5])
        assert len(many.answer(images[:0])) == 0
        assert np.array_equal(images, kept), "images are left alone"
        assert few.identity() == many.identity()
    finally:
        few.close()
        many.close()


@pytest.mark.slow
@pytest.mark.parametrize("file", [*FILES, *ZOO])
def test_a_row_asked_alone_equals_the_row_asked_after_others(file: str, files: dict[str, Path]) -> None:
    """On every runtime that runs the file; TFLM's interpreter here in this process, as starting its workers takes longer."""
    path = ZOO.get(file) or files[file]
    signature = signature_of(read(path), "logits" if file in ZOO and "int8" not in file else None)  # our own files need no child process
    images = images_for(signature, 4)
    for name in ("ort",) if path.suffix == ".onnx" else LITERT:
        if name == "ort":
            pytest.importorskip("onnxruntime")
        fresh, used = (open_target(name, path, signature, threads=1) for _ in range(2))
        used.answer(images[:-1])
        assert np.array_equal(used.answer(images[-1:]).raw, fresh.answer(images[-1:]).raw)
        assert np.array_equal(used.answer(images).raw[-1:], fresh.answer(images[-1:]).raw)
        assert (file in STATEFUL) == ("state" in fresh.identity())
        fresh.close()
        used.close()
    if path.suffix == ".tflite" and file not in ("uint8", "float32"):  # TFLM has no such QUANTIZE
        pytest.importorskip("tflite_micro")
        from edgeq.runtimes._micro import Micro

        codes = codes_of(signature).encode(images).reshape(len(images), -1)
        out = np.empty((len(images), signature.classes or 1), signature.output.dtype)
        alone = np.empty_like(out)
        Micro(path).run(codes, out)
        for image, answer in zip(codes, alone, strict=True):
            Micro(path).run(image[None], answer[None])
        assert np.array_equal(out, alone)


def test_an_integer_graph_knows_no_state(files: dict[str, Path]) -> None:
    from edgeq.integer import read_tflite

    with pytest.raises(EdgeqError, match=r"keeps the tensor .* from one image to the next"):
        read_tflite.read(files["memory"])


@pytest.mark.parametrize("file", [pytest.param(f, marks=unless_quick(f)) for f in LSB])
@pytest.mark.parametrize("name", ["litert-xnnpack", "litert-builtin", "tflm", "tflm-exact"])
def test_agrees_with_the_reference_kernels_within_its_lsb(
    name: str, file: str, files: dict[str, Path], signatures: dict[str, Signature]
) -> None:
    signature = signatures[file]
    if name == "tflm-exact" and file == "float32":
        pytest.skip("its float borders are refused: tests/runtimes/test_exact.py")
    images = images_for(signature, 200)
    one, other = (open_target(n, files[file], signature) for n in (name, "litert-reference"))
    try:
        a, b = one.answer(images), other.answer(images)
        step = 1 / 256 if file == "float32" else 1
        assert np.abs(a.raw.astype(np.float64) - b.raw).max() <= LSB[file] * step
        assert (a.label() == b.label()).mean() > 0.9
        assert len(np.unique(b.label())) > 1
    finally:
        one.close()
        other.close()


def test_float_and_byte_borders_mean_the_same_network(files: dict[str, Path], signatures: dict[str, Signature]) -> None:
    images = images_for(signatures["int8"], 64)
    answers = {}
    for file in ("int8", "float32", "label", "logits", "fixed batch"):
        target = open_target("litert-reference", files[file], signatures[file])
        answers[file] = target.answer(images)
        target.close()
    assert answers["int8"].lsb == 1 / 256
    assert answers["float32"].lsb == 0
    assert np.array_equal(answers["int8"].values(), answers["float32"].values())
    assert np.array_equal(answers["int8"].raw, answers["fixed batch"].raw)
    assert np.array_equal(answers["label"].label(), answers["logits"].label()), "ARG_MAX names the lowest of equals"
    assert answers["int8"].raw.dtype == np.int8


def test_a_fixed_batch_is_run_one_image_at_a_time(files: dict[str, Path], signatures: dict[str, Signature]) -> None:
    fixed = open_target("litert-xnnpack", files["fixed batch"], signatures["fixed batch"])
    free = open_target("litert-xnnpack", files["int8"], signatures["int8"])
    assert fixed.chunk == 1
    assert free.chunk > 1
    fixed.close()
    free.close()


def test_wrong_images_are_refused(files: dict[str, Path], signatures: dict[str, Signature]) -> None:
    target = open_target("litert-xnnpack", files["int8"], signatures["int8"])
    with pytest.raises(ValueError, match="uint8 images of shape"):
        target.answer(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        target.answer(np.zeros((2, 8, 8, 1), np.float32))
    target.close()


def test_every_runtime_states_its_identity(files: dict[str, Path], signatures: dict[str, Signature]) -> None:
    for name in [*LITERT, "tflm", "tflm-exact"]:
        target = open_target(name, files["int8"], signatures["int8"], threads=1)
        identity = target.identity()
        target.close()
        assert {"engine", "version", "kernels", "cpu", "argmax"} <= identity.keys()
        assert all(identity.values())


def test_a_tflm_worker_that_dies_is_a_sentence(files: dict[str, Path], signatures: dict[str, Signature]) -> None:
    target = open_target("tflm", files["int8"], signatures["int8"], threads=1)
    target._workers[0].process.kill()
    with pytest.raises(EdgeqError, match="killed from outside"):
        target.answer(images_for(signatures["int8"], 3))
    target.close()
