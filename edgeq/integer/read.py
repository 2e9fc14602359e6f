"""Reads a model file, going by its content: as it is stored, or as the integer graph."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from edgeq.core import files, foreign
from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph
from edgeq.integer.model import Model, file_bytes


def format_of(path: str | Path, data: bytes) -> Literal["tflite", "onnx"]:
    """``tflite`` by its file identifier, else ``onnx`` by the file's name; else :class:`EdgeqError`."""
    if data[4:8] == b"TFL3":
        return "tflite"
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return "onnx"
    if suffix == ".tflite":
        raise EdgeqError(f"{path}: is not a TFLite model (it does not carry the file identifier TFL3); is it damaged, or another format?")
    foreign.refuse(path)
    raise EdgeqError(f"{path}: is neither a .tflite nor an .onnx model")


def content(path: str | Path) -> bytes:
    """A model file as one piece: its bytes, into which those of an ``.onnx`` file's second file are taken. Raises :class:`EdgeqError`."""
    if Path(path).suffix.lower() != ".onnx":
        return file_bytes(path)
    from edgeq.integer.onnx.content import self_contained

    return self_contained(path)


def sha256(path: Path) -> str:
    """What a model is: :func:`edgeq.core.files.sha256` of the file or folder; of an ``.onnx`` that keeps weights in a second file, over
    both files' sizes and bytes. Raises :class:`EdgeqError`."""
    return files.sha256(path, _beside(path))


def size(path: Path) -> int:
    """Bytes of all that :func:`sha256` is of."""
    return sum(part.stat().st_size for part in parts(path))


def parts(path: Path) -> list[Path]:
    """The files that :func:`sha256` is of."""
    return [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [f for f in (path, _beside(path)) if f is not None]


def _beside(path: Path) -> Path | None:
    if path.suffix.lower() != ".onnx" or path.is_dir() or find_spec("onnx") is None:  # without the package nothing here runs it
        return None
    from edgeq.integer.onnx.content import beside

    return beside(path)


def read(path: str | Path) -> Model:
    """The model in a ``.tflite`` or ``.onnx`` file. Raises :class:`EdgeqError`."""
    data = content(path)
    if format_of(path, data) == "tflite":
        from edgeq.integer.tflite_file import parse
    else:
        from edgeq.integer.onnx_file import parse
    return parse(data, str(path))


def differentiable(path: str | Path) -> tuple[Graph, str]:
    """What gradients are taken from: :func:`graph` and ``""``; or of a ``.tflite`` whose kernels are not followed bit by bit the same in
    real numbers, and its kind (:func:`edgeq.integer.reals.kind`). Raises :class:`EdgeqError`."""
    model = read(path)
    if model.format == "tflite":
        from edgeq.integer import read_tflite, reals

        if kind := reals.kind(model):
            return read_tflite.from_model(reals.lowered(model)), kind
    return _graph(model), ""


def graph(path: str | Path) -> Graph:
    """The integer graph of a ``.tflite`` file, or of an ``.onnx`` file as ONNX Runtime computes it. Raises :class:`EdgeqError`."""
    return _graph(read(path))


def _graph(model: Model) -> Graph:
    if model.format == "tflite":
        from edgeq.integer.read_tflite import from_model
    else:
        from edgeq.integer.read_onnx import from_model
    return from_model(model)
