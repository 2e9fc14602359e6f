"""Keras files as a stranger would make them: each generator writes one, which on loading would run code, or take hours or gigabytes."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Config = dict[str, Any]


def plain(keras: Any) -> Any:
    """A small functional classifier."""
    layers = keras.layers
    given = layers.Input((6, 6, 1), name="given")
    hidden = layers.Flatten(name="flat")(layers.Conv2D(2, 3, name="conv")(given))
    return keras.Model(given, layers.Dense(3, name="dense")(layers.ReLU(name="relu")(hidden)))


def edited(good: Path, bad: Path, change: Callable[[Config], None]) -> Path:
    """``good``, an ``.h5`` or ``.keras`` file, with its configuration changed."""
    import h5py

    if good.suffix == ".h5":
        bad.write_bytes(good.read_bytes())
        with h5py.File(bad, "a") as file:
            config = json.loads(file.attrs["model_config"])
            change(config)
            del file.attrs["model_config"]
            file.attrs.create("model_config", json.dumps(config), dtype=h5py.string_dtype())
        return bad
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            new.writestr(name, content)
    return bad


def crashes_hdf5(good: Path, bad: Path) -> Path:
    """A text that is a list of no known kind, on which HDF5 2 crashes."""
    before, after = (b"\x19" + kind + b"\1\0\x10" for kind in (b"\1", b"\5"))
    content = good.read_bytes()
    assert before in content
    bad.write_bytes(content.replace(before, after))
    return bad


def fills_memory(good: Path, bad: Path) -> Path:
    """An array of 32 bytes, stored as 1.5 GiB of zeros that are packed into 1.5 MB: the HDF5 library unpacks them all."""
    import h5py

    packer, block, times = zlib.compressobj(9), bytes(1 << 20), 1536
    first, again = (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    checksum = ((times << 20) % 65521 << 16 | 1).to_bytes(4, "big")
    bad.write_bytes(good.read_bytes())
    with h5py.File(bad, "a") as file:
        array = file.create_dataset("bomb", (8,), "f4", chunks=(1 << 20,), maxshape=(None,), compression="gzip")
        array.id.write_direct_chunk((0,), first + again * (times - 1) + packer.flush()[:-4] + checksum)
    return bad


def layers(config: Config) -> list[Config]:
    return config["config"]["layers"]


def layer(config: Config, name: str) -> Config:
    return next(node for node in layers(config) if node.get("name", node["config"].get("name")) == name)


def calls_function(function: str, first: str, **others: Any) -> Callable[[Config], None]:
    """A TFOpLambda, whose function Keras 2 calls while it loads."""

    def change(config: Config) -> None:
        node = {"class_name": "TFOpLambda", "config": {"name": "op", "trainable": True, "dtype": "float32", "function": function}}
        node |= {"name": "op", "inbound_nodes": [["_CONSTANT_VALUE", -1, first, others]]}
        if "module" in layers(config)[0]:
            node |= {"module": "tf_keras.src.layers.core.tf_op_layer", "registered_name": "TFOpLambda"}
        layers(config).insert(1, node)

    return change


def setting(name: str, key: str, value: Any) -> Callable[[Config], None]:
    """One setting of one layer."""
    return lambda config: layer(config, name)["config"].update({key: value})


def kind(name: str, **node: Any) -> Callable[[Config], None]:
    """A layer of another class."""
    return lambda config: layer(config, name).update(node)


def argument(value: Any) -> Callable[[Config], None]:
    """Keras 3: what the layer ``relu`` is called with beside its input."""
    return lambda config: layer(config, "relu")["inbound_nodes"][0]["kwargs"].update({"training": value})


def operation(module: str, name: str, **settings: Any) -> Callable[[Config], None]:
    """Keras 3: an operation in the place of the layer ``relu``."""
    return kind("relu", module=module, class_name=name, registered_name=name, config={"name": "relu", **settings})


def chain(length: int) -> Callable[[Config], None]:
    """Keras 2: the same ReLU called again and again."""

    def change(config: Config) -> None:
        node = layer(config, "relu")
        node["inbound_nodes"] += [[["relu", i, 0, {}]] for i in range(length)]

    return change


def nested(depth: int) -> Callable[[Config], None]:
    """Networks in networks."""

    def change(config: Config) -> None:
        inner: Config = dict(layer(config, "relu"))
        for i in range(depth):
            inner = {"class_name": "Sequential", "config": {"name": f"net{i}", "layers": [inner]}}
            if "module" in layers(config)[0]:
                inner |= {"module": "keras", "registered_name": None}
        layer(config, "relu").update({**inner, "name": "relu", "inbound_nodes": layer(config, "relu")["inbound_nodes"]})

    return change


def doubling(levels: int) -> Callable[[Config], None]:
    """Keras 2: each network calls the one inside it eight times."""

    def change(config: Config) -> None:
        inner: Config = {"class_name": "ReLU", "config": {"name": "inner"}}
        for i in range(levels):
            first = {
                "class_name": "InputLayer",
                "config": {"batch_input_shape": [None, 32], "name": "in"},
                "name": "in",
                "inbound_nodes": [],
            }
            again = {
                **inner,
                "name": "again",
                "inbound_nodes": [[["in", 0, 0, {}]], *([[["again", j + (i > 0), 0, {}]] for j in range(7)])],
            }
            ends = {"input_layers": [["in", 0, 0]], "output_layers": [["again", 7 + (i > 0), 0]]}
            inner = {"class_name": "Functional", "config": {"name": f"net{i}", "layers": [first, again], **ends}}
        layer(config, "relu").update({**inner, "name": "relu"})

    return change


def many_arrays(good: Path, bad: Path) -> Path:
    """An ``.h5`` with a hundred thousand arrays."""
    import h5py

    bad.write_bytes(good.read_bytes())
    with h5py.File(bad, "a", libver="latest") as file:
        first = file.create_dataset("one", (1,), "f4")
        group = file.create_group("many")
        for i in range(30_000):
            group[str(i)] = first
    return bad


def inflated(good: Path, bad: Path) -> Path:
    """A ``.keras`` whose weights are a gigabyte of compressed zeros."""
    import h5py

    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = io.BytesIO(old.read(name))
            if name.endswith(".h5"):
                with h5py.File(content, "a") as file:
                    file.create_dataset("zeros", (1 << 28,), "f4", chunks=(1 << 22,), compression="gzip")
            new.writestr(name, content.getvalue())
    return bad


def saved_with_initialiser(path: Path, trace: Path) -> Path:
    """A SavedModel that writes files when its resources are initialised, that is while it loads."""
    import tensorflow as tf

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.SummaryWriter(shared_name="stranger")

        def _initialize(self):
            tf.raw_ops.PrintV2(input="written", output_stream=f"file://{trace}")
            tf.raw_ops.CreateSummaryFileWriter(
                writer=self.resource_handle, logdir=f"{trace}-logs", max_queue=1, flush_millis=1, filename_suffix=""
            )
            return tf.constant(1)

    class Module(tf.Module):
        def __init__(self):
            self.resource = Resource()

        @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 1))])
        def call(self, x):
            with tf.control_dependencies([self.resource.resource_handle]):
                return {"scores": tf.reshape(x, (-1, 16))}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.call)
    return path


def saved(path: Path, answer: Callable[[Any], Any]) -> Path:
    """A SavedModel that answers ``(b, 4, 4, 1)`` images with ``answer(images)``."""
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 1))])
        def call(self, x):
            return {"scores": answer(x)}

    module = Module()
    tf.saved_model.save(module, str(path), signatures=module.call)
    return path


def forever(x: Any) -> Any:
    import tensorflow as tf

    flat = tf.reshape(x, (-1, 16))
    return tf.while_loop(lambda y: tf.reduce_all(y < 9e9), lambda y: (y * 1.0,), (flat,))[0]


def enormous(x: Any) -> Any:
    import tensorflow as tf

    wide = tf.tile(tf.reshape(x, (-1, 16)), (1, 1 << 26))
    return tf.reshape(tf.reduce_max(tf.reshape(wide, (-1, 1 << 26, 16)), 1), (-1, 16))


def unfolding(path: Path, levels: int) -> Path:
    """A SavedModel in which each function calls the one below it twice."""
    import tensorflow as tf
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    inner = tf.function(lambda y: y + 1.0, input_signature=[tf.TensorSpec((None, 16))], autograph=False)
    outer = tf.function(lambda y: inner(inner(y)), input_signature=[tf.TensorSpec((None, 16))], autograph=False)
    saved(path, lambda x: outer(tf.reshape(x, (-1, 16))))
    model = SavedModel.FromString((path / "saved_model.pb").read_bytes())
    library = model.meta_graphs[0].graph_def.library.function

    def called(function: Any) -> list[Any]:
        return [node.attr["f"].func for node in function.node_def if "f" in node.attr]

    twice = next(f for f in library if len(called(f)) == 2)
    name, above = twice.signature.name, [f for f in library if twice.signature.name in [c.name for c in called(f)]]
    for level in range(levels):
        copy = library.add()
        copy.CopyFrom(twice)
        copy.signature.name = f"level{level}"
        for call in called(copy):
            call.name = f"level{level - 1}" if level else name
    for function in above:
        for call in called(function):
            call.name = f"level{levels - 1}" if call.name == name else call.name
    (path / "saved_model.pb").write_bytes(model.SerializeToString())
    return path
