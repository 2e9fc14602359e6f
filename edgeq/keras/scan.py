"""What a stranger's Keras file holds, looked at before anything loads it: its texts, its declared sizes, its graph.

Links out of the file are refused (HDF5 external links, zip members with paths), sizes that the file does not hold, and graphs with
operations that are not in the allow-list, or that take more memory or time than a classifier for an edge device.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from edgeq.core.errors import EdgeqError
from edgeq.core.errors import sentence as sentence
from edgeq.keras import allowed, engine, hdf5, trust

CONFIG = 8 << 20
MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}

PROBE = 4
"""Images that a network of any batch size is shown to see its answers."""
TENSOR, TENSORS, MACS = 1 << 24, 1 << 26, 1 << 34
"""For an image: the most numbers in a tensor and in all, and multiplications. VGG16 takes 15.5e9 of these."""


class Stored(NamedTuple):
    """``config``: the model's, parsed. ``version``: of the Keras that wrote it. ``numbers``: stored ones. ``weights``: a copy of them, in a
    file that Keras may read."""

    config: Any
    version: str
    numbers: int
    weights: Path


def parsed(path: Path, text: str | bytes) -> Any:
    try:
        if len(text) > CONFIG:
            raise EdgeqError(f"{path}: its model configuration is larger than {CONFIG >> 20} MiB; that is no network for edgeq")
        return json.loads(text)
    except (ValueError, RecursionError):
        raise EdgeqError(f"{path}: its model configuration is damaged; save the network again") from None


def h5(path: Path, folder: Path) -> Stored:
    """What an HDF5 file of Keras holds, in which every link stays inside and no more is declared than can be stored.

    Its weights are copied into ``folder``.
    """
    texts, stored = hdf5.plain(path, path, copy := folder / "model.h5")
    if "model_config" not in texts:
        raise EdgeqError(f"{path}: it holds weights without a network; save the whole model")
    return Stored(parsed(path, texts["model_config"]), texts.get("keras_version", ""), stored, copy)


def archive(path: Path, folder: Path) -> Stored:
    """What a ``.keras`` archive holds. Its weights are copied into ``folder``."""
    try:
        with zipfile.ZipFile(path) as archived:
            entries = {e.filename: e for e in archived.infolist() if not e.is_dir()}
            if strange := sorted(set(entries) - MEMBERS):
                raise EdgeqError(f"{path}: unexpected member {strange[0][:80]!r} in the archive; save the network again")
            if missing := sorted(MEMBERS - set(entries)):
                raise EdgeqError(f"{path}: not a Keras model, {missing[0]} is missing from the archive")
            if any(e.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for e in entries.values()):
                raise EdgeqError(f"{path}: it is packed in a way that Keras never uses; save the network again")
            if any(e.file_size > min(hdf5.BYTES, CONFIG + hdf5.PACKED * e.compress_size) for e in entries.values()):
                raise EdgeqError(f"{path}: it unpacks to more than {hdf5.PACKED} times its own size; that is no network for edgeq")
            if entries["config.json"].file_size > CONFIG or entries["metadata.json"].file_size > CONFIG:
                raise EdgeqError(f"{path}: its model configuration is larger than {CONFIG >> 20} MiB; that is no network for edgeq")
            config = parsed(path, archived.read("config.json"))
            version = str(json.loads(archived.read("metadata.json")).get("keras_version", ""))
            weights = archived.read("model.weights.h5")
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, EOFError, AttributeError, RuntimeError) as error:
        raise EdgeqError(f"{path}: damaged or cut short ({sentence(error)}); get the file again") from None
    member, copy = folder / "member", folder / "model.weights.h5"
    try:
        member.write_bytes(weights)
    except OSError as error:
        raise hdf5.no_copy(path, copy, error.strerror) from None
    _, stored = hdf5.plain(path, member, copy)
    return Stored(config, version, stored, copy)


def pure(path: Path, nodes: Any, known: set[str] = allowed.GRAPH) -> None:
    """Refuse graph nodes with operations that are not ``known``, or with constants that are larger than what stands for them."""
    strange = sorted({n.op for n in nodes} - known)
    if strange:
        raise EdgeqError(
            f"{path}: its graph contains {', '.join(strange[:4])}, not known to be free of state and of ways out; it is not run; "
            f"{trust.hint(path)}"
        )
    constants = [
        (n, math.prod(abs(d.size) for d in v.tensor.tensor_shape.dim)) for n in nodes for v in n.attr.values() if v.HasField("tensor")
    ]
    if sum(max(0, size - n.ByteSize()) for n, size in constants) > TENSOR:
        raise EdgeqError(f"{path}: its constants are larger than what stands for them; that is no network for edgeq")


def stateless(path: Path, graph: Any) -> None:
    """Refuse a frozen graph of a trusted file where it keeps state: its answers would depend on what it saw before."""
    registry = engine.need("tensorflow.python.framework.op_def_registry")
    bad = sorted({n.op for n in graph.node if (op := registry.get(n.op)) is None or op.is_stateful})
    if bad:
        ops = ", ".join(bad[:4])
        raise EdgeqError(f"{path}: its graph contains {ops}, which reaches outside the network or keeps state; it is not run")


def small(path: Path, inputs: Any) -> None:
    """Refuse inputs that no image is as large as: TensorFlow makes one of each when it freezes a graph."""
    for given in inputs:
        size = math.prod(int(d) for d in given.shape if d is not None) if given.shape.rank else 0
        if size > TENSOR * PROBE:
            raise EdgeqError(f"{path}: it takes an input of {size:,} numbers; that is no network for edgeq")


def affordable(path: Path, graph: Any, image: str) -> None:
    """Refuse a frozen graph that takes more memory or time for one input ``image`` than ``TENSOR``, ``TENSORS`` and ``MACS``.

    The sizes are TensorFlow's own, for the batch it takes, or ``PROBE`` images; nothing is computed.
    """
    tf = engine.tensorflow()
    what = "that is no network for edgeq"
    with tf.Graph().as_default() as whole:
        node = next(n for n in graph.node if n.name == image)
        shape = [d.size for d in node.attr["shape"].shape.dim]
        batch = shape[0] if shape and shape[0] > 0 else PROBE
        given = tf.compat.v1.placeholder(node.attr["dtype"].type, [batch, *shape[1:]])
        try:
            tf.graph_util.import_graph_def(graph, {f"{image}:0": given}, name="")
        except (ValueError, tf.errors.OpError) as error:
            raise EdgeqError(f"{path}: its graph does not fit together ({sentence(error)}); get it again") from None
        total = work = 0
        for op in (op for op in whole.get_operations() if op.name != image):
            for tensor in op.outputs[:1] if op.type.startswith("FusedBatchNorm") else op.outputs:  # the others are for training
                if not tensor.shape.is_fully_defined():
                    raise EdgeqError(f"{path}: how large {op.name} is shows only when it runs; {trust.hint(path)}")
                size = tensor.shape.num_elements()
                total += 0 if op.type == "Const" else size
                work += size * _factor(op)
                if size > (hdf5.BYTES >> 2 if op.type == "Const" else TENSOR * max(batch, PROBE)):
                    raise EdgeqError(f"{path}: {op.name} holds {size:,} numbers; {what}")
        if total > TENSORS * PROBE:
            raise EdgeqError(f"{path}: its values take {total:,} numbers for {batch} images; {what}")
        if work > MACS * PROBE:
            raise EdgeqError(f"{path}: it takes {work:,} multiplications for {batch} images; {what}")


def _factor(op: Any) -> int:
    """Multiplications, or values that are compared, for each number that an operation returns."""
    if op.type in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput"):
        kernel = [int(d) for d in op.inputs[1].shape]
        return math.prod(kernel[:2]) * (1 if op.type == "DepthwiseConv2dNative" else kernel[3 if op.type == "Conv2DBackpropInput" else 2])
    if op.type in ("MaxPool", "AvgPool"):
        return math.prod(op.get_attr("ksize"))
    if op.type == "LRN":
        return 2 * int(op.get_attr("depth_radius")) + 1
    if op.type in ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        return max(int(d) for d in op.inputs[0].shape[-2:])
    if op.type == "Einsum":
        terms, _, returned = op.get_attr("equation").decode().partition("->")
        sizes = {
            k: int(d) for t, x in zip(terms.split(","), op.inputs, strict=True) if "." not in t for k, d in zip(t, x.shape, strict=True)
        }
        return math.prod(size for key, size in sizes.items() if key not in returned)
    return 1
