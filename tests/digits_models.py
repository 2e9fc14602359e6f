"""Small networks trained, saved and exported once a session: what the tests that need a real file share."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner


@dataclass(frozen=True)
class DigitsModels:
    """Paths. ``keras``, ``h5``: float; ``qat``: SavedModel; ``tflite``, ``onnx``: the QAT network exported; ``ptq``: the float one."""

    keras: Path
    h5: Path
    qat: Path
    tflite: Path
    onnx: Path
    ptq: Path


def once(folder: Path, build: Callable[[], None]) -> None:
    """Builds what is not there yet. Processes of one session (pytest-xdist) wait for the one that came first."""
    done = folder / "done"
    try:
        folder.mkdir()
    except FileExistsError:
        end = time.monotonic() + 300
        while not done.exists():
            if time.monotonic() > end:
                raise TimeoutError("the process that trains the digits networks did not finish") from None
            time.sleep(0.2)
        return
    build()
    done.touch()


def make(folder: Path) -> DigitsModels:
    models = DigitsModels(
        folder / "digits_cnn.keras",
        folder / "digits_cnn.h5",
        folder / "digits_cnn-int8.savedmodel",
        folder / "digits_cnn-int8.tflite",
        folder / "digits_cnn-int8.onnx",
        folder / "digits_cnn.tflite",
    )

    def build() -> None:
        from edgeq.build.export import export
        from edgeq.build.train import train
        from edgeq.keras.load import keras_model

        train("digits_cnn", quant="tfmot:int8", output=folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            keras_model(models.keras)[1].save(models.h5)
        export(models.qat, folder, layers=20)
        export(models.keras, folder, layers=0)

    once(folder, build)
    return models


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def digits_models(tmp_path_factory: pytest.TempPathFactory) -> DigitsModels:
    for package in ("tensorflow_model_optimization", "tf2onnx", "onnxruntime"):
        if find_spec(package) is None:
            pytest.skip(f'{package} is not installed: pip install "edgeq[keras,onnx]"')
    return make(_shared(tmp_path_factory) / "digits-models")


@pytest.fixture(scope="session")
def low_bit_model(digits_models: DigitsModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SavedModel of a network that ``edgeq train --quant lsq:w3a3`` fine-tuned for an epoch, beside it ``exported/`` and
    ``exported.txt``, what the command said."""
    folder = _shared(tmp_path_factory) / "low-bit-model"
    path = folder / "digits_cnn-lsq-w3a3.savedmodel"

    def build() -> None:
        from edgeq.build.train import train
        from edgeq.cli.export import command

        train("digits_cnn", quant="lsq:w3a3", start=str(digits_models.keras), epochs=1, output=folder)
        result = CliRunner().invoke(command, [str(path), "-o", str(folder / "exported")])
        assert result.exit_code == 0, result.output
        (folder / "exported.txt").write_text(result.stdout, "utf-8")

    once(folder, build)
    return path
