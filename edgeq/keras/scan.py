"""What a stranger's Keras file may not contain, looked for before anything loads it.

Three ways in are closed: code inside the configuration (Lambda layers, foreign modules), links out of the file (HDF5 external
links, zip members with paths), and declared sizes that no network here has.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from edgeq.core.errors import EdgeqError
from edgeq.keras import engine

BYTES = 2 << 30
"""The most weights a file may declare, in bytes: a frozen TensorFlow graph cannot hold more."""

CODE = {"Lambda", "__lambda__", "function", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"}
FILES = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup", "HashedCrossing"}
MODULES = ("keras", "tf_keras", "tensorflow", "tensorflow_model_optimization")
MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}

OUTSIDE = {"PyFunc", "EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles", "LoadDataset", "SaveDataset"}
"""Graph operations that run Python or touch files, and that nothing in the saving machinery needs."""


def config(path: Path, text: str | bytes) -> dict[str, Any]:
    """The parsed model configuration, if no part of it carries code, reads files or names a foreign module."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise EdgeqError(f"{path}: its model configuration is damaged; save the network again") from None
    todo: list[Any] = [parsed]
    while todo:
        node = todo.pop()
        if isinstance(node, list):
            todo.extend(node)
        if not isinstance(node, dict):
            continue
        todo.extend(node.values())
        kind = str(node.get("class_name", ""))
        if kind.rpartition(">")[2] in CODE:
            raise EdgeqError(f"{path}: it carries code of its own ({kind}), which is not run; rebuild the network without such layers")
        if kind in FILES:
            raise EdgeqError(f"{path}: the layer {kind} belongs to no image classifier and may read files; it is not loaded")
        module = node.get("module")
        if "class_name" in node and module is not None and str(module).split(".")[0] not in MODULES:
            raise EdgeqError(f"{path}: it names the foreign module {str(module)[:60]!r}, which is not imported; use Keras's own layers")
    if not isinstance(parsed, dict):
        raise EdgeqError(f"{path}: its model configuration is damaged; save the network again")
    return parsed


def h5(path: Path, stream: io.BytesIO | None = None) -> dict[str, str]:
    """The text attributes of an HDF5 file in which every link stays inside and no more than ``BYTES`` are declared."""
    h5py = engine.need("h5py")
    try:
        with h5py.File(stream or path, "r") as file:
            links: list[tuple[str, Any]] = []
            file.visititems_links(lambda name, link: links.append((name, link)))  # an error raised in there would crash h5py
            total = 0
            for name, link in links:
                if not isinstance(link, h5py.HardLink):
                    raise EdgeqError(f"{path}: {name} is a link to another place or file, which is not followed; save the network again")
                item = file[name]
                if not isinstance(item, h5py.Dataset):
                    continue
                if item.external or item.is_virtual:
                    raise EdgeqError(f"{path}: {name} keeps its data in another file, which is not read; save the network again")
                total += item.size * item.dtype.itemsize
                if total > BYTES:
                    raise EdgeqError(f"{path}: it declares more than {BYTES >> 30} GiB of weights; that is no network for edgeq")
            return {k: v.decode() if isinstance(v, bytes) else v for k, v in file.attrs.items() if isinstance(v, bytes | str)}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SystemError) as error:
        raise EdgeqError(f"{path}: damaged or cut short ({sentence(error)}); get the file again") from None


def archive(path: Path) -> str:
    """The Keras version that wrote a ``.keras`` archive, after its members, configuration and weights were checked."""
    try:
        with zipfile.ZipFile(path) as archived:
            entries = {e.filename: e for e in archived.infolist() if not e.is_dir()}
            if strange := sorted(set(entries) - MEMBERS):
                raise EdgeqError(f"{path}: unexpected member {strange[0][:80]!r} in the archive; save the network again")
            if missing := sorted(MEMBERS - set(entries)):
                raise EdgeqError(f"{path}: not a Keras model, {missing[0]} is missing from the archive")
            if sum(e.file_size for e in entries.values()) > BYTES or entries["config.json"].file_size > 64 << 20:
                raise EdgeqError(f"{path}: it unpacks to more than {BYTES >> 30} GiB; that is no network for edgeq")
            config(path, archived.read("config.json"))
            h5(path, io.BytesIO(archived.read("model.weights.h5")))
            return str(json.loads(archived.read("metadata.json")).get("keras_version", ""))
    except (zipfile.BadZipFile, zipfile.zlib.error, OSError, ValueError, NotImplementedError, EOFError, AttributeError) as error:  # type: ignore[attr-defined]
        raise EdgeqError(f"{path}: damaged or cut short ({sentence(error)}); get the file again") from None


def saved_model(path: Path) -> None:
    """Refuse a SavedModel whose functions run Python or touch files, or that TensorFlow 1 wrote."""
    pb2 = engine.need("tensorflow.core.protobuf.saved_model_pb2")
    decode_error = engine.need("google.protobuf.message").DecodeError
    model = pb2.SavedModel()
    try:
        model.ParseFromString((path / "saved_model.pb").read_bytes())
    except (decode_error, OSError) as error:
        raise EdgeqError(f"{path}: saved_model.pb is damaged or cut short ({sentence(error)}); get the directory again") from None
    if not model.meta_graphs:
        raise EdgeqError(f"{path}: saved_model.pb is empty; save the network again")
    for meta in model.meta_graphs:
        if not meta.HasField("object_graph_def"):
            raise EdgeqError(f"{path}: a SavedModel of TensorFlow 1; save it again with TensorFlow 2")
        pure(path, meta.graph_def, OUTSIDE)


def pure(path: Path, graph: Any, forbidden: set[str] | None = None) -> None:
    """Refuse a GraphDef with ``forbidden`` operations; without them, with any that has state or reaches outside."""
    registry = engine.need("tensorflow.python.framework.op_def_registry")
    calls = {"PartitionedCall", "StatefulPartitionedCall"}  # what they call is in the library, and looked at there
    used = {n.op for n in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
    functions = {f.signature.name for f in graph.library.function}
    if forbidden is not None:
        bad = used & forbidden
    else:
        bad = {op for op in used - functions - calls if op in OUTSIDE or (d := registry.get(op)) is None or d.is_stateful}
    if bad:
        names = ", ".join(sorted(bad)[:4])
        raise EdgeqError(f"{path}: its graph holds {names}, which reaches outside the network or keeps state; it is not run")


def sentence(error: BaseException) -> str:
    """The first line of an error's text, short enough to stand inside a sentence."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0].strip().rstrip(".;:")
    return text if len(text) <= 160 else text[:157] + "..."
