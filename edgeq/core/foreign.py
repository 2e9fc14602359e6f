"""Files of other frameworks, which people give in good faith: what they are, and what to give instead."""

from __future__ import annotations

from pathlib import Path

from edgeq.core.errors import EdgeqError

_TORCH = "is a PyTorch checkpoint; export the network to ONNX with torch.onnx.export, and give the .onnx"
_CONVERT = "convert it to ONNX, and give the .onnx"
_KINDS = {
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".pt2": "is an exported PyTorch program; export the network to ONNX with torch.onnx.export, and give the .onnx",
    ".safetensors": "contains weights without a network; load it in its framework, export that to ONNX, and give the .onnx",
    ".pb": "is a TensorFlow graph without its directory; give the SavedModel's directory, or a .keras or .h5 file",
    ".mlmodel": f"is a Core ML model; {_CONVERT}",
    ".pdmodel": f"is a PaddlePaddle model; {_CONVERT}",
    ".caffemodel": f"is a Caffe model; {_CONVERT}",
    ".engine": "is a TensorRT engine, built for one GPU; give the .onnx that it was built from",
}


def refuse(path: str | Path) -> None:
    """Raises :class:`EdgeqError` for a file that its name says is of another framework; nothing is read."""
    if (what := _KINDS.get(Path(path).suffix.lower())) is not None:
        raise EdgeqError(f"{path}: {what}")
