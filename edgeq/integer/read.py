"""Reads a model file, going by its content: as it is stored, or as the integer graph."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

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
    raise EdgeqError(f"{path}: is neither a .tflite nor an .onnx model")


def read(path: str | Path) -> Model:
    """The model in a ``.tflite`` or ``.onnx`` file. Raises :class:`EdgeqError`."""
    data = file_bytes(path)
    if format_of(path, data) == "tflite":
        from edgeq.integer.tflite_file import parse
    else:
        from edgeq.integer.onnx_file import parse
    return parse(data, str(path))


def graph(path: str | Path) -> Graph:
    """The integer graph of a ``.tflite`` file, or of an ``.onnx`` file as ONNX Runtime computes it. Raises :class:`EdgeqError`."""
    model = read(path)
    if model.format == "tflite":
        from edgeq.integer.read_tflite import from_model
    else:
        from edgeq.integer.read_onnx import from_model
    return from_model(model)
