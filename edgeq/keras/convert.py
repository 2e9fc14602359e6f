"""A frozen network as an int8 ``.tflite``, and that very file as ``.onnx``.

Both conversions give the same bytes for the same inputs (tested): nothing of the clock, of paths or of name counters stays in them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch
from edgeq.keras import engine, scan
from edgeq.keras.load import Network

OPSET = 13
"""The first ONNX operator set with per-channel (de)quantisation, so the one that most runtimes know."""


def calibration_hash(images: np.ndarray) -> str:
    """SHA-256 of shape and bytes of the ``(n, h, w, c) uint8`` calibration sample, in its order."""
    return hashlib.sha256(repr(images.shape).encode() + np.ascontiguousarray(images).tobytes()).hexdigest()


def to_tflite(network: Network, calibration: np.ndarray | None = None, real: np.ndarray | None = None) -> bytes:
    """Int8 weights and activations, int8 input and output.

    A QAT network brings its ranges. A float one is quantised after training (PTQ) with the ranges that the ``(n, h, w, c) uint8``
    images of ``calibration`` reach, whose pixels mean ``real``, ``(256, c)``. Two pixels of the first image are set to black and white,
    so that the input's range is all 256 pixel values, and not the darkest to the brightest of a sample.
    """
    tf = engine.tensorflow()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    if not network.quantised:
        if calibration is None or real is None or not len(calibration):
            raise EdgeqError(f"{network.path}: a float network needs images to find its ranges; pass --calibrate DATA")
        first = calibration[:1].copy()
        first[0, 0, 0], first[0, 0, -1] = 0, 255
        channels = np.arange(calibration.shape[3])

        def images() -> Any:
            for image in (first[0], *calibration[1:]):
                yield [real[image, channels][None].astype(np.float32)]

        converter.representative_dataset = images
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    try:
        with engine.quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bytes(converter.convert())
    except Exception as error:
        raise EdgeqError(f"{network.path}: TensorFlow cannot make an int8 .tflite of it ({scan.sentence(error)})") from None


def to_onnx(tflite: bytes, path: Path) -> bytes:
    """The ``.tflite`` file's graph with QuantizeLinear and DequantizeLinear around its ops, any batch. ``path`` names it in errors."""
    tf2onnx = engine.need("tf2onnx", "onnx")
    before = logging.root.manager.disable
    with scratch() as folder:
        source = folder / "model.tflite"
        source.write_bytes(tflite)
        try:
            logging.disable(logging.WARNING)
            with engine.quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model, _ = tf2onnx.convert.from_tflite(os.fspath(source), opset=OPSET)
        except Exception as error:
            raise EdgeqError(f"{path}: tf2onnx cannot convert it ({scan.sentence(error)})") from None
        finally:
            logging.disable(before)
    _canonical(model.graph)
    return bytes(model.SerializeToString(deterministic=True))


def _canonical(graph: Any) -> None:
    """Nodes in the order in which the output needs them and names by position, in place: tf2onnx walks over sets, and counts names up.

    The border is called ``image`` and ``scores``, its first axis ``batch``.
    """
    maker = {value: node for node in graph.node for value in node.output}
    ordered: list[Any] = []
    todo, seen = [(graph.output[0].name, False)], set()
    while todo:
        value, ready = todo.pop()
        if ready:
            ordered.append(maker[value])
        elif value in maker and value not in seen:
            seen.update(maker[value].output)
            todo += [(value, True), *((v, False) for v in reversed(maker[value].input))]
    names = {graph.input[0].name: "image", graph.output[0].name: "scores"}
    for at, node in enumerate(ordered):
        node.name = f"{node.op_type}_{at}"
        node.ClearField("doc_string")
        if not node.domain:
            node.ClearField("domain")  # some of its passes write the empty default down
        for values in (node.input, node.output):
            values[:] = [v and names.setdefault(v, f"t{len(names)}") for v in values]
    for item in (*graph.input, *graph.output, *graph.initializer):
        item.name = names.get(item.name, item.name)
    for border in (graph.input[0], graph.output[0]):
        dim = border.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_param = "batch"
    constants = sorted((t for t in graph.initializer if t.name in names.values()), key=lambda t: t.name)
    for field, items in ((graph.node, ordered), (graph.initializer, constants)):
        copies = [type(i).FromString(i.SerializeToString(deterministic=True)) for i in items]
        del field[:]
        field.extend(copies)
    del graph.value_info[:]
    graph.name, graph.doc_string = "edgeq", ""
