"""From a Keras network to the bytes of its files: through TensorFlow's converter, or for low-bit networks without it, level by level."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.integer.graph import Graph
from edgeq.integer.realise import PACKED, SCALED, Layer, realise
from edgeq.integer.rewrite import scales_behind_layers
from edgeq.integer.write_tflite import write_tflite
from edgeq.keras import convert, train
from edgeq.keras.freeze import freeze
from edgeq.keras.load import Network, keras_model, narrowed
from edgeq.keras.plain import Plain, plain
from edgeq.keras.quantizers import PORTABLE
from edgeq.keras.source import affine

MARK = {SCALED: "", PACKED: "-packed"}
"""How a file's name says in which way its weights are stored."""


@dataclass(frozen=True, eq=False)
class Shipped:
    """``files``: name -> content, the ``.tflite`` to be measured first. ``trained``: the frozen network that the files shall be, where the
    levels of a low-bit one were kept; ``certificates``: way of storing -> what was proven of each layer. ``integer``: of an ``.onnx``,
    whether its heavy kernels should be; ``no_onnx``: why there is none."""

    files: dict[str, bytes]
    trained: Graph | None = None
    certificates: dict[str, tuple[Layer, ...]] | None = None
    integer: bool = True
    no_onnx: str = ""


def converted(network: Network, calibration: np.ndarray | None, real: np.ndarray | None, stem: str, onnx: bool) -> Shipped:
    """A float or TF-MOT int8 network; ``calibration``, ``real`` as :func:`~edgeq.keras.convert.to_tflite` takes them."""
    tflite = convert.to_tflite(network, calibration, real)
    files, no_onnx = {f"{stem}.tflite": tflite}, ""
    try:
        files |= {f"{stem}.onnx": convert.to_onnx(tflite, network.path)} if onnx else {}
    except EdgeqError as error:
        no_onnx = str(error)
    return Shipped(files, no_onnx=no_onnx)


def low_bit(path: Path) -> Any:
    """The Keras model of a low-bit network that ``edgeq train`` saved."""
    return train.restore(path)[0]


def portable(path: Path, images: np.ndarray, real: np.ndarray, output: str | None = None) -> Plain:
    """A float network, snapped onto the portable grids without training, as a network of whole pixels.

    ``images``: ``(n, h, w, c) uint8`` set the steps; ``real``: ``(256, c)``, what it takes for each pixel value; ``output``:
    which one of several.
    """
    if path.is_dir():
        raise EdgeqError(f"{path}: --portable takes a float .keras or .h5 file, or a network that edgeq train made with tfmot:portable")
    slope, offset = affine(path, real, real.shape[1])
    network = plain(narrowed(keras_model(path)[1], path, output), path, slope / 255, offset)
    model = train.lower(network.model, PORTABLE, "int8", images.astype(np.float32) - network.zero, 0)
    train.settle(model)
    return replace(network, model=model)


def frozen(model: Any, images: np.ndarray, stem: str, stores: tuple[str, ...], onnx: bool, zero: int = 0) -> Shipped:
    """A low-bit network of pixels less ``zero``. ``images``: ``(n, h, w, c) uint8``, to see how far logits reach; ``stores``: SCALED,
    PACKED, those that apply.

    The ``.onnx`` is the scaled file's graph. Weight-only networks have one form, in which TFLite Micro dequantises rightly too.
    """
    from edgeq.integer.write_onnx import write_onnx

    trained = freeze(model, images, zero)
    if trained.tensors[trained.output].dtype == "float32":
        graph = scales_behind_layers(trained)
        files = {f"{stem}.tflite": write_tflite(graph)} | ({f"{stem}.onnx": write_onnx(trained)} if onnx else {})
        return Shipped(files, integer=False)
    files, certificates = {}, {}
    for store in stores:
        graph, layers = realise(trained, packed=store == PACKED)
        if store == PACKED and all(layer.stored == 8 for layer in layers):
            continue  # no layer has weights that fit INT4
        files[f"{stem}{MARK[store]}.tflite"] = write_tflite(graph)
        certificates[store] = layers
        if onnx and store == SCALED:
            files[f"{stem}.onnx"] = write_onnx(graph)
    if not files:
        raise EdgeqError(f"{model.name}: no layer's weights fit INT4, so there is no packed form of it; take --store scaled")
    return Shipped(files, trained, certificates)
