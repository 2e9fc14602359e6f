"""A SavedModel as one function, without TensorFlow's loader.

``tf.saved_model.load`` restores all objects of the file and runs their initialisers. Here only the serving function is taken out of
``saved_model.pb``, with the functions that it calls; every operation in them must be in the allow-list. Its variables are arrays out of
the checkpoint. Nothing else of the file is ever looked at, so nothing else can run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.keras import allowed, engine, scan, trust

NODES = 50_000
"""The most operations of a serving function, those of a function inside it counted each time it is called."""
FILE = 512 << 20
GRAPH_KEY = "_CHECKPOINTABLE_OBJECT_GRAPH"


def read(path: Path) -> Any:
    """The serving function of the SavedModel ``path``, concrete, with variables of its own. Raises :class:`EdgeqError`."""
    objects, library, graph = _parse(path)
    name, bound = _serving(path, objects)
    used = _reachable(path, library, name)
    scan.pure(path, [n for f in used for n in f.node_def], allowed.GRAPH | allowed.CALLS | {"ReadVariableOp"} | set(library))
    try:
        return _function(path, objects, used, graph, name, bound)
    except EdgeqError:
        raise
    except Exception as error:  # TensorFlow's, of any kind
        raise EdgeqError(f"{path}: TensorFlow cannot build its graph ({scan.sentence(error)}); get the directory again") from None


def _parse(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The object graph, the functions by name, the nodes of the main graph by name."""
    pb2 = engine.need("tensorflow.core.protobuf.saved_model_pb2")
    decode_error = engine.need("google.protobuf.message").DecodeError
    model, file = pb2.SavedModel(), path / "saved_model.pb"
    try:
        if file.stat().st_size > FILE:
            raise EdgeqError(f"{path}: saved_model.pb is larger than {FILE >> 20} MiB; that is no network for edgeq")
        model.ParseFromString(file.read_bytes())
    except (decode_error, OSError, RecursionError) as error:
        raise EdgeqError(f"{path}: saved_model.pb is damaged or cut short ({scan.sentence(error)}); get the directory again") from None
    if not model.meta_graphs:
        raise EdgeqError(f"{path}: saved_model.pb is empty; save the network again")
    if len(model.meta_graphs) > 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        raise EdgeqError(f"{path}: a SavedModel of TensorFlow 1; save it again with TensorFlow 2")
    meta = model.meta_graphs[0]
    for node in meta.object_graph_def.nodes:
        if (kind := node.WhichOneof("kind")) in ("resource", "asset"):
            what = f"a {kind} ({node.resource.device or 'with an initialiser'})" if kind == "resource" else "an asset, a file of its own"
            raise EdgeqError(
                f"{path}: it contains {what}, which reaches outside the network or keeps state; it is not run; {trust.hint(path)}"
            )
    library = {f.signature.name: f for f in meta.graph_def.library.function}
    return meta.object_graph_def, library, {n.name: n for n in meta.graph_def.node}


def _serving(path: Path, objects: Any) -> tuple[str, list[int]]:
    """The serving function's name, and the objects that it is bound to."""
    children = {c.local_name: c.node_id for c in objects.nodes[0].children} if objects.nodes else {}
    if not 0 <= children.get("signatures", -1) < len(objects.nodes):
        raise _none(path)
    signatures = {c.local_name: c.node_id for c in objects.nodes[children["signatures"]].children}
    if "serving_default" not in signatures and len(signatures) != 1:
        raise _none(path)
    at = signatures.get("serving_default", next(iter(signatures.values())))
    if not 0 <= at < len(objects.nodes):
        raise _none(path)
    node = objects.nodes[at]
    names = [node.bare_concrete_function.concrete_function_name, *node.function.concrete_functions]
    name = next((n for n in names if n in objects.concrete_functions), None)
    if name is None:
        raise _none(path)
    return name, list(objects.concrete_functions[name].bound_inputs)


def _none(path: Path) -> EdgeqError:
    return EdgeqError(f"{path}: the SavedModel has no serving_default signature; save it with model.save or model.export")


def _called(node: Any) -> Iterator[str]:
    """The functions that a node names, in whatever attribute."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (f.name for f in value.list.func)


def _reachable(path: Path, library: dict[str, Any], first: str) -> list[Any]:
    """The functions that ``first`` calls, itself included; refused where they call themselves, or unfold to more than ``NODES``."""
    sizes: dict[str, int | None] = {}
    todo = [first]
    while todo:  # no recursion: a file may nest functions as deep as it likes
        name = todo[-1]
        if name not in library:
            raise EdgeqError(f"{path}: saved_model.pb is damaged, the function {name[:60]!r} is missing; get the directory again")
        called = [c for n in library[name].node_def for c in ([n.op] if n.op in library else []) + list(_called(n)) if c in library]
        if name not in sizes:
            sizes[name] = None
            todo += [c for c in dict.fromkeys(called) if c not in sizes]
            if any(sizes.get(c, 0) is None for c in called):
                raise EdgeqError(f"{path}: its graph calls itself without end; {trust.hint(path)}")
            continue
        todo.pop()
        if sizes[name] is None:
            sizes[name] = len(library[name].node_def) + sum(sizes[c] or 0 for c in called)
            if (sizes[name] or 0) > NODES or len(sizes) > NODES // 10:
                raise EdgeqError(f"{path}: its graph unfolds to more than {NODES:,} operations; that is no network for edgeq")
    return [library[name] for name in sizes]


def _function(path: Path, objects: Any, used: list[Any], graph: dict[str, Any], name: str, bound: list[int]) -> Any:
    tf = engine.tensorflow()
    entry = used[0].signature
    given = list(entry.input_arg)[: len(entry.input_arg) - len(bound)]
    if len(given) != 1:
        raise EdgeqError(f"{path}: not an image classifier, it has {len(given)} inputs")
    captured = _captured(path, objects, graph, bound)
    mark = hashlib.sha256(b"".join(f.SerializeToString(deterministic=True) for f in used)).hexdigest()[:16]
    whole = tf.compat.v1.GraphDef()
    _library(whole, used, mark)
    types = [a.type for a in entry.input_arg]
    for i, kind in enumerate(types):
        whole.node.add(name=f"arg{i}", op="Placeholder").attr["dtype"].type = kind
    call = whole.node.add(name="call", op="StatefulPartitionedCall", input=[f"arg{i}" for i in range(len(types))])
    call.attr["f"].func.name = f"{name}_{mark}"
    call.attr["Tin"].list.type.extend(types)
    call.attr["Tout"].list.type.extend(a.type for a in entry.output_arg)
    spec = tf.TensorSpec(_shape(used[0]), tf.as_dtype(given[0].type), name="image")

    def serve(image: Any) -> Any:
        inner = tf.compat.v1.get_default_graph()
        for variable in (v for v in captured if isinstance(v, tf.Variable)):
            inner.watch_variable(variable)  # else it would not be frozen
        fed = [
            image,
            *(inner.capture(v.handle, f"weight{i}") if isinstance(v, tf.Variable) else tf.constant(v) for i, v in enumerate(captured)),
        ]
        return tf.graph_util.import_graph_def(
            whole, {f"arg{i}:0": v for i, v in enumerate(fed)}, [f"call:{i}" for i in range(len(entry.output_arg))], name=""
        )

    with engine.quiet():
        made = tf.function(serve, autograph=False).get_concrete_function(spec)
    made.owner = captured  # a function does not keep its variables alive
    return made


def _shape(function: Any) -> list[int | None] | None:
    shapes = function.arg_attr[0].attr["_output_shapes"].list.shape if 0 in function.arg_attr else []
    if not shapes or shapes[0].unknown_rank:
        return None
    return [d.size if d.size >= 0 else None for d in shapes[0].dim]


def _library(whole: Any, used: list[Any], mark: str) -> None:
    """The functions with names of their own, so that those of two files in one process do not meet."""
    own = {f.signature.name for f in used}
    for function in used:
        copy = whole.library.function.add()
        copy.CopyFrom(function)
        copy.signature.name += f"_{mark}"
        copy.ClearField("attr")
        for node in copy.node_def:
            if node.op in own:
                node.op += f"_{mark}"
            for value in node.attr.values():
                for func in ([value.func] if value.HasField("func") else []) + list(value.list.func):
                    func.name += f"_{mark}" if func.name in own else ""
            for key in [k for k in node.attr if k.startswith("_")]:
                del node.attr[key]  # hints to TensorFlow's optimisers


def _captured(path: Path, objects: Any, graph: dict[str, Any], bound: list[int]) -> list[Any]:
    """What the serving function is bound to: variables with the checkpoint's arrays, and constants."""
    tf = engine.tensorflow()
    if any(not 0 <= i < len(objects.nodes) for i in bound):
        raise _none(path)
    wanted = {i: objects.nodes[i].variable for i in bound if objects.nodes[i].HasField("variable")}
    arrays = _arrays(path, objects, wanted) if wanted else {}
    inputs: list[Any] = []
    made: dict[int, Any] = {}
    for i in bound:
        node = objects.nodes[i]
        if i in wanted:
            if i not in made:
                made[i] = tf.Variable(arrays[i], trainable=False)
            inputs.append(made[i])
        elif node.HasField("constant") and (constant := graph.get(node.constant.operation)) is not None and constant.op == "Const":
            scan.pure(path, [constant])
            inputs.append(tf.make_ndarray(constant.attr["value"].tensor))
        else:
            raise EdgeqError(
                f"{path}: its graph contains a {node.WhichOneof('kind')}, which is none of those that edgeq runs; {trust.hint(path)}"
            )
    return inputs


def _arrays(path: Path, objects: Any, wanted: dict[int, Any]) -> dict[int, np.ndarray]:
    """The checkpoint's array of each variable. The two object graphs are walked side by side, by the names of their edges."""
    tf = engine.tensorflow()
    pb2 = engine.need("tensorflow.core.protobuf.trackable_object_graph_pb2")
    reader = checkpoint(path)
    saved = pb2.TrackableObjectGraph.FromString(reader.get_tensor(GRAPH_KEY))
    pairs, todo = {0: 0}, [0]
    while todo:
        here = todo.pop()
        there = {c.local_name: c.node_id for c in saved.nodes[pairs[here]].children}
        for child in objects.nodes[here].children:
            if child.node_id not in pairs and child.local_name in there:
                pairs[child.node_id] = there[child.local_name]
                todo.append(child.node_id)
    arrays = {}
    for i, variable in wanted.items():
        keys = [a.checkpoint_key for a in saved.nodes[pairs[i]].attributes if a.name == "VARIABLE_VALUE"] if i in pairs else []
        if not keys:
            raise EdgeqError(f"{path}: the weights of {variable.name[:60]} are missing; get the directory again")
        value = reader.get_tensor(keys[0])
        if list(value.shape) != [d.size for d in variable.shape.dim] or tf.as_dtype(value.dtype) != tf.as_dtype(variable.dtype):
            raise EdgeqError(f"{path}: the weights of {variable.name[:60]} are of another size; get the directory again")
        arrays[i] = value
    return arrays


def checkpoint(path: Path) -> Any:
    """TensorFlow's reader of the weights of ``path``, in which no more is declared than lies on the disk. Raises :class:`EdgeqError`."""
    tf, folder = engine.tensorflow(), path / "variables"
    try:
        with engine.quiet():
            reader = tf.train.load_checkpoint(str(folder / "variables"))
            shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        declared = sum(int(np.prod(shape, dtype=object)) * types[name].size for name, shape in shapes.items())
        stored = sum(f.stat().st_size for f in folder.iterdir() if f.is_file())
    except (ValueError, OSError, RuntimeError, TypeError, tf.errors.OpError) as error:
        raise EdgeqError(f"{path}: its weights are damaged or missing ({scan.sentence(error)}); get the directory again") from None
    if declared > stored or GRAPH_KEY not in shapes:
        raise EdgeqError(f"{path}: its weights are damaged, more is declared than is there; get the directory again")
    return reader


def numbers(reader: Any) -> int:
    """How many numbers a checkpoint holds."""
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in reader.get_variable_to_shape_map().values())
