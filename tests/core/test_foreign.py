"""What is said of files of other frameworks, by every command that takes a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import edgeq
from edgeq.core.errors import EdgeqError
from edgeq.core.foreign import refuse


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("net.pt", "is a PyTorch checkpoint; export the network to ONNX with torch.onnx.export"),
        ("NET.PTH", "is a PyTorch checkpoint"),
        ("net.safetensors", "contains weights without a network"),
        ("saved_model.pb", "give the SavedModel's directory"),
        ("net.mlmodel", "is a Core ML model; convert it to ONNX"),
    ],
)
def test_a_file_of_another_framework_is_named_with_a_way_out(tmp_path: Path, name: str, words: str) -> None:
    path = tmp_path / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    for asked in (refuse, edgeq.inspect, edgeq.open):
        with pytest.raises(EdgeqError, match=words):
            asked(path)


def test_names_that_are_ours_are_not_refused() -> None:
    for name in ("net.tflite", "net.onnx", "net.h5", "net.keras", "folder", "net"):
        refuse(name)
