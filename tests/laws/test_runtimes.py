"""Every runtime that is found, held to its contract: rows independent of neighbours, batch, threads and order; probing and opening
agree; closing frees; a stand-in is what it stands in for; and all are close to the reference kernels."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_onnx
import tiny_tflite

from edgeq import runtimes
from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.protocols import AnswersLater
from edgeq.core.signature import Signature
from edgeq.integer.read import read
from edgeq.integer.rounding import SIMULATED
from edgeq.pipeline.codes import PixelCodes, codes_for
from edgeq.pipeline.preprocess import Preprocess
from edgeq.runtimes._probe import signature_of

FOUND = {name: plugins.load(plugins.RUNTIMES, name) for name in plugins.names(plugins.RUNTIMES)}
FILES: dict[str, Callable[[], bytes]] = {
    "int8.tflite": tiny_tflite.classifier,
    "uint8.tflite": functools.partial(tiny_tflite.classifier, dtype="uint8", c=3),
    "float32.tflite": functools.partial(tiny_tflite.classifier, dtype="float32"),
    "logits.tflite": functools.partial(tiny_tflite.classifier, softmax=False),
    "label.tflite": functools.partial(tiny_tflite.classifier, label=True),
    "fixed batch.tflite": functools.partial(tiny_tflite.classifier, fixed_batch=True),
    "no integers.tflite": tiny_tflite.floats,
    "lstm.tflite": (Path(__file__).parents[1] / "digits_lstm.tflite").read_bytes,
    "memory.tflite": tiny_tflite.stateful,
    "memory inside.tflite": functools.partial(tiny_tflite.stateful, inner=True),
    "int8.onnx": tiny_onnx.classifier,
    "float32.onnx": functools.partial(tiny_onnx.classifier, floats=True),
    "logits.onnx": functools.partial(tiny_onnx.classifier, softmax=False),
    "channels first.onnx": functools.partial(tiny_onnx.classifier, nchw=True),
    "fixed batch.onnx": functools.partial(tiny_onnx.classifier, fixed_batch=True),
}
STATEFUL = ("lstm.tflite", "memory.tflite", "memory inside.tflite")
QUICK = ("int8.tflite", "label.tflite")  # the files that `make quick` opens; each takes two processes per runtime


def unless_quick(file: str) -> tuple[pytest.MarkDecorator, ...]:
    return () if file in QUICK else (pytest.mark.slow,)


CASES = [(name, file) for name, runtime in FOUND.items() for file in FILES if Path(file).suffix in runtime.forms]
REFERENCE = "litert-reference"
CLOSE = [name for name, runtime in FOUND.items() if ".tflite" in runtime.forms and runtime.simulated and name != REFERENCE]
ZOO = {p.name: p for p in sorted((Path(__file__).parents[2] / "docs" / "results" / "zoo").glob("*.*")) if p.suffix in (".tflite", ".onnx")}
# Steps by which scores may differ from the reference kernels'. Each kernel set rounds its own way: one step in the logits of these two
# layers. Softmax moves by at most a quarter of what a logit moves: 16/255 / 4 = 4 of its 1/256 steps, and one for its own rounding.
LSB = {"logits.tflite": 1, "int8.tflite": 5, "uint8.tflite": 5, "float32.tflite": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def written(folder: Path, file: str) -> Path:
    """The path of one of ``FILES``; skips where it cannot be made here."""
    path = folder / file
    if not path.exists():
        if path.suffix == ".onnx":
            pytest.importorskip("onnx")
        path.write_bytes(FILES[file]())
    return path


@functools.cache
def probed(name: str, path: Path) -> Signature | EdgeqError:
    return runtimes.probe_all([name], path)[name]


def here(name: str) -> None:
    """Skips, with the runtime's own reason, where a module that it needs is missing."""
    if any(importlib.util.find_spec(module.partition(".")[0]) is None for module in FOUND[name].modules):
        pytest.skip(FOUND[name].missing)


def suits(name: str, path: Path) -> Signature:
    """What the runtime says of the file; skips where it does not run it, with its own reason."""
    here(name)
    signature = probed(name, path)
    if not isinstance(signature, Signature):
        pytest.skip(str(signature))
    return signature


def codes_of(signature: Signature) -> PixelCodes:
    h, w, c = signature.input.shape
    return codes_for(signature.input, Preprocess((h, w), c, mean=(0.0,), std=(255.0,)), "test")


def open_target(name: str, path: Path, signature: Signature, **options: Any) -> Any:
    here(name)
    return runtimes.open(name, path, signature, codes_of(signature), **options)


def images_for(signature: Signature, n: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (n, *signature.input.shape), np.uint8)


def children() -> set[str]:
    """Process numbers of this process's children, where the system tells."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = process.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(process.parent.name)
    return found


@pytest.mark.parametrize(("name", "file"), [pytest.param(*case, marks=unless_quick(case[1])) for case in CASES])
def test_answers_depend_on_neither_batch_nor_threads_nor_order(name: str, file: str, folder: Path) -> None:
    path = written(folder, file)
    signature = suits(name, path)
    images = images_for(signature, 37)
    kept, before, threads = images.copy(), children(), threading.active_count()
    few = open_target(name, path, signature, batch=4, threads=1)
    many = open_target(name, path, signature, batch=32, threads=3)
    try:
        assert few.name == many.name == name
        alone = np.concatenate([few.answer(images[i : i + 1]).raw for i in range(len(images))])
        assert len(np.unique(alone, axis=0)) > 5, "the file tells these images apart, so a mix-up would be seen"
        order = np.random.default_rng(0).permutation(len(images))
        whole = few.answer(images)
        assert np.array_equal(whole.raw, alone)
        assert np.array_equal(many.answer(images).raw, alone)
        assert np.array_equal(many.answer(images[order]).raw, alone[order])
        assert np.array_equal(many.answer(images[:5]).raw, alone[:5])
        assert len(many.answer(images[:0])) == 0
        if isinstance(many, AnswersLater):
            first, second = many.answer_later(images), many.answer_later(images[order[:9]])  # more than one round, and one not fetched
            assert np.array_equal(many.answer(images[:5]).raw, alone[:5])
            assert np.array_equal(second().raw, alone[order[:9]])
            assert np.array_equal(first().raw, alone)
        assert np.array_equal(images, kept), "images are left alone"
        # opening says what probing said
        assert (whole.kind, whole.raw.dtype if whole.kind != "label" else signature.output.dtype) == (
            signature.kind,
            signature.output.dtype,
        )
        assert whole.raw.shape[1:] == (() if signature.kind == "label" else (signature.classes,))
        # identity
        identity = few.identity()
        assert identity == many.identity() == json.loads(json.dumps(identity))
        assert {"engine", "version", "kernels", "cpu", "argmax"} <= identity.keys()
        assert all(value is not None and value != "" for value in identity.values())
        assert (file in STATEFUL) == ("state" in identity)
    finally:
        few.close()
        many.close()
    assert children() <= before
    assert threading.active_count() <= threads


@pytest.mark.parametrize(("name", "file"), [pytest.param(*case, marks=unless_quick(case[1])) for case in CASES])
def test_what_is_refused_when_it_is_tried_is_refused_when_it_is_opened(name: str, file: str, folder: Path) -> None:
    here(name)
    path = written(folder, file)
    refusal = probed(name, path)
    if isinstance(refusal, Signature):
        return
    assert str(refusal).startswith(f"{path}: ")
    before = children()
    with pytest.raises(EdgeqError, match=str(path)):
        open_target(name, path, signature_of(read(path), None), threads=1)
    assert children() <= before


@pytest.mark.parametrize(
    ("name", "file"), [pytest.param(*case, marks=unless_quick(case[1])) for case in CASES if FOUND[case[0]].stands_in_for]
)
def test_a_stand_in_is_what_it_stands_in_for(name: str, file: str, folder: Path) -> None:
    path = written(folder, file)
    signature = suits(name, path)
    real = FOUND[name].stands_in_for
    assert real is not None
    assert runtimes.real(name) == real
    assert signature == suits(real, path)
    images = images_for(signature, 100)
    raw = []
    for runtime in (name, real):
        target = open_target(runtime, path, signature)
        raw.append(target.answer(images).raw)
        target.close()
    assert np.array_equal(*raw)
    assert len(np.unique(raw[0], axis=0)) > 20


@pytest.mark.parametrize("name", FOUND)
def test_what_says_that_it_is_simulated_is(name: str) -> None:
    assert FOUND[name].simulated == runtimes.simulated(name)
    assert not FOUND[name].simulated or runtimes.real(name) in SIMULATED


@pytest.mark.parametrize("form", [".tflite", ".onnx"])
def test_every_runtime_runs_a_file_of_each_of_its_forms(form: str, folder: Path) -> None:
    names = [name for name, runtime in FOUND.items() if form in runtime.forms]
    assert names
    for name in names:
        if all(importlib.util.find_spec(module.partition(".")[0]) for module in FOUND[name].modules):
            assert isinstance(probed(name, written(folder, f"int8{form}")), Signature), name


@pytest.mark.slow
@pytest.mark.parametrize("file", [*FILES, *ZOO])
def test_a_row_asked_alone_equals_the_row_asked_after_others(file: str, folder: Path) -> None:
    """On every runtime that runs the file; TFLM's interpreter here in this process, as starting its workers takes longer."""
    path = ZOO.get(file) or written(folder, file)
    signature = signature_of(read(path), "logits" if file in ZOO and "int8" not in file else None)  # our own files need no child process
    images = images_for(signature, 4)
    for name in runtimes.listed(path.suffix):
        if FOUND[name].holds_lock:
            continue
        fresh, used = (open_target(name, path, signature, threads=1) for _ in range(2))
        used.answer(images[:-1])
        assert np.array_equal(used.answer(images[-1:]).raw, fresh.answer(images[-1:]).raw)
        assert np.array_equal(used.answer(images).raw[-1:], fresh.answer(images[-1:]).raw)
        assert (file in STATEFUL) == ("state" in fresh.identity())
        fresh.close()
        used.close()
    if path.suffix == ".tflite" and file not in ("uint8.tflite", "float32.tflite"):  # TFLM has no such QUANTIZE
        pytest.importorskip("tflite_micro")
        from edgeq.runtimes.tflm import Micro

        codes = codes_of(signature).encode(images).reshape(len(images), -1)
        out = np.empty((len(images), signature.classes or 1), signature.output.dtype)
        alone = np.empty_like(out)
        Micro(path).run(codes, out)
        for image, answer in zip(codes, alone, strict=True):
            Micro(path).run(image[None], answer[None])
        assert np.array_equal(out, alone)


def test_an_integer_graph_knows_no_state(folder: Path) -> None:
    from edgeq.integer import read_tflite

    with pytest.raises(EdgeqError, match=r"keeps the tensor .* from one image to the next"):
        read_tflite.read(written(folder, "memory.tflite"))


@pytest.mark.parametrize("file", [pytest.param(file, marks=unless_quick(file)) for file in LSB])
@pytest.mark.parametrize("name", CLOSE)
def test_agrees_with_the_reference_kernels_within_its_lsb(name: str, file: str, folder: Path) -> None:
    path = written(folder, file)
    signature = suits(name, path)
    images = images_for(signature, 200)
    one, other = (open_target(n, path, signature) for n in (name, REFERENCE))
    try:
        a, b = one.answer(images), other.answer(images)
        step = 1 / 256 if file == "float32.tflite" else 1
        assert np.abs(a.raw.astype(np.float64) - b.raw).max() <= LSB[file] * step
        assert (a.label() == b.label()).mean() > 0.9
        assert len(np.unique(b.label())) > 1
    finally:
        one.close()
        other.close()


@pytest.mark.slow
def test_float_and_byte_borders_mean_the_same_network(folder: Path) -> None:
    answers = {}
    for file in ("int8", "float32", "label", "logits", "fixed batch"):
        path = written(folder, f"{file}.tflite")
        signature = suits(REFERENCE, path)
        target = open_target(REFERENCE, path, signature)
        answers[file] = target.answer(images_for(signature, 64))
        target.close()
    assert answers["int8"].lsb == 1 / 256
    assert answers["float32"].lsb == 0
    assert np.array_equal(answers["int8"].values(), answers["float32"].values())
    assert np.array_equal(answers["int8"].raw, answers["fixed batch"].raw)
    assert np.array_equal(answers["label"].label(), answers["logits"].label()), "ARG_MAX names the lowest of equals"
    assert answers["int8"].raw.dtype == np.int8


def test_a_fixed_batch_is_run_one_image_at_a_time(folder: Path) -> None:
    chunks = {}
    for file in ("fixed batch.tflite", "int8.tflite"):
        path = written(folder, file)
        target = open_target("litert-xnnpack", path, suits("litert-xnnpack", path))
        chunks[file] = target.chunk
        target.close()
    assert chunks["fixed batch.tflite"] == 1
    assert chunks["int8.tflite"] > 1


@pytest.mark.parametrize("name", FOUND)
def test_wrong_images_are_refused(name: str, folder: Path) -> None:
    path = written(folder, f"int8{FOUND[name].forms[0]}")
    signature = suits(name, path)
    target = open_target(name, path, signature, threads=1)
    h, w, c = signature.input.shape
    with pytest.raises(ValueError, match="uint8 images of shape"):
        target.answer(np.zeros((2, h, w, c + 1), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        target.answer(np.zeros((2, h, w, c), np.float32))
    target.close()


def test_a_tflm_worker_that_dies_is_a_sentence(folder: Path) -> None:
    path = written(folder, "int8.tflite")
    signature = suits("tflm", path)
    target = open_target("tflm", path, signature, threads=1)
    target._workers[0].process.kill()
    with pytest.raises(EdgeqError, match="killed from outside"):
        target.answer(images_for(signature, 3))
