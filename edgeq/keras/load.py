"""One ``load`` for every Keras file: ``.h5``, ``.keras`` (Keras 2 and 3), SavedModel; float or quantisation-aware.

Whatever the file, what comes out is one frozen graph: the weights are constants, the functions inlined, nothing keeps state.
So the softmax at its end is cut off in one way for all, and the graph that gives gradients is the one that is exported.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from edgeq.core import foreign
from edgeq.core.answer import Kind
from edgeq.core.errors import EdgeqError
from edgeq.core.files import scratch, sha256
from edgeq.core.signature import Signature, Tensor
from edgeq.keras import engine, finite, normalised, rebuild, saved_model, scan, trust


@dataclass(frozen=True, eq=False)
class Network:
    """A frozen image classifier.

    ``form``: "Keras 2 h5", "Keras 3", "SavedModel" ...; ``sha256``: of the file, or of a directory's names and bytes.
    ``function``, ``logits``: TensorFlow functions ``(b, h, w, c) float32 -> (b, classes)``: the file's own output, and the logits.
    ``frozen``: the concrete function behind them, for the converter.
    ``kind_note``: what the output is taken for, and why. ``batch``: the only batch size the graph takes; None for any.
    ``quantised``: it holds fake quantisation (QAT). ``normalised``: what it does itself to its pixels; None for nothing.
    """

    path: Path
    form: str
    sha256: str
    function: Any
    logits: Any
    frozen: Any
    signature: Signature
    kind_note: str
    batch: int | None
    quantised: bool
    normalised: normalised.Normalised | None = None

    @property
    def preprocess(self) -> str | None:
        """How its pixels are meant (``--preprocess``), where its graph tells that for certain."""
        return "mean=0,std=1" if self.normalised is not None and self.normalised.takes_pixels else None


def load(path: str | Path, output: str | None = None) -> Network:
    """Read ``path`` without running code from it, unless it is trusted. Raises :class:`EdgeqError`, also for what is no classifier.

    ``output``: which one, by name, of a network with several; or "logits" where the single number that it returns is a logit.
    """
    path = Path(path)
    if not path.exists():
        raise EdgeqError(f"{path}: there is no such file")
    content = sha256(path)
    return _load(path, content, trust.vouched(content), output)


@lru_cache(maxsize=2)  # a command looks at a network's signature before it opens the same network as a source
def _load(path: Path, content: str, _trusted: bool, output: str | None) -> Network:
    form, called, name = _open(path, content, output)
    return freeze(path, form, content, called, output, name)


def freeze(path: Path, form: str, sha256: str, called: Any, output: str | None = None, name: str = "") -> Network:
    """The :class:`Network` of a concrete function with one image input; ``path`` is who to blame in errors. ``output``: as :func:`load`
    takes it; ``name``: of the output, where it was chosen out of several."""
    tf = engine.tensorflow()
    if not trust.vouched(sha256):
        scan.small(path, called.inputs)
    convert = engine.need("tensorflow.python.framework.convert_to_constants").convert_variables_to_constants_v2
    try:
        with engine.quiet():
            function = convert(called)
    except Exception as error:
        raise EdgeqError(f"{path}: its graph cannot be frozen ({scan.sentence(error)})") from None
    _differentiate_swish(function.graph)
    _state_sizes(function.graph)
    graph = function.graph.as_graph_def()
    finite.graph(path, graph)
    if trust.vouched(sha256):
        scan.stateless(path, graph)
    else:
        scan.pure(path, graph.node)
    shape, classes, batch = _classifier(path, function, tf)
    if not trust.vouched(sha256):
        scan.affordable(path, graph, function.inputs[0].op.name)
    logits, kind, note = _logits(path, function, batch, shape, tf, output)
    quantised = any(n.op.startswith("FakeQuant") for n in graph.node)
    signature = Signature(Tensor(shape, "float32"), Tensor((classes,), "float32", name=name), kind)
    own = None if quantised else normalised.of(function)
    return Network(path, form, sha256, _single(function), logits, function, signature, note, batch, quantised, own)


def _open(path: Path, content: str, output: str | None) -> tuple[str, Any, str]:
    """The form of a file, a concrete function of the network in it, and the name of its output where that was chosen out of several."""
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise EdgeqError(f"{path}: a directory without saved_model.pb; name a SavedModel, a .keras or an .h5 file")
        return "SavedModel", _saved_model(path) if trust.vouched(content) else saved_model.read(path), ""
    form, model = keras_model(path, content)
    several = len(getattr(model, "outputs", None) or ()) > 1
    return form, concrete(narrowed(model, path, output), path), str(output) if several else ""


def narrowed(model: Any, path: Path, output: str | None) -> Any:
    """``model``, or the part of it that computes the ``output`` of this name, which a network with several has to be given."""
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) < 2:
        if output not in (None, *get_args(Kind)) and [output] != [_made_by(end) for end in outputs]:
            raise EdgeqError(f"{path}: has one output, so there is none called {output}; leave the name out")
        return model
    names = [_made_by(end) for end in outputs]
    if output not in names:
        asked = "" if output is None else f" and none called {output}"
        how = f"name the one that classifies: --output {names[0]} (of edgeq export: --output-name {names[0]})"
        raise EdgeqError(f"{path}: it has {len(names)} outputs ({', '.join(names)}){asked}; {how}")
    return type(model)(model.inputs, outputs[names.index(output)])


def _made_by(tensor: Any) -> str:
    return str(tensor._keras_history[0].name)


def keras_model(path: Path, content: str | None = None) -> tuple[str, Any]:
    """The form of an ``.h5`` or ``.keras`` file and its Keras model: built by us, or by Keras itself where the file is trusted.

    ``content``: its SHA-256, where it is known.
    """
    try:
        with open(path, "rb") as stream:
            magic = stream.read(8)
    except OSError as error:
        raise EdgeqError(f"{path}: {error.strerror}") from None
    foreign.refuse(path)
    if not magic:
        raise EdgeqError(f"{path}: the file is empty")
    if magic == b"\x89HDF\r\n\x1a\n":
        scanned, name, suffixes = scan.h5, "h5", [".h5", ".hdf5"]
    elif magic[:4] == b"PK\x03\x04":
        scanned, name, suffixes = scan.archive, ".keras", [".keras"]
    else:
        raise EdgeqError(f"{path}: neither a Keras .h5 nor a .keras file; it may be damaged")
    if path.suffix not in suffixes:
        raise EdgeqError(f"{path}: Keras goes by the file's name; rename it to end in {suffixes[0]}")
    with scratch() as folder:
        stored = scanned(path, folder)
        major = 3 if stored.version.split(".")[0] == "3" else 2
        tf = engine.tensorflow()
        keras = engine.need("keras") if major == 3 else tf.keras
        trusted = trust.vouched(content or sha256(path))
        own = trust.own() if trusted else {}
        try:
            with engine.quiet(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if trusted:
                    options = {} if name == "h5" and major == 2 else {"safe_mode": False}
                    model = keras.models.load_model(str(path), compile=False, custom_objects=own, **options)
                else:
                    model = rebuild.rebuild(path, stored.config, keras, major, stored.numbers)
                    model.load_weights(str(stored.weights))
        except EdgeqError:
            raise
        except Exception as error:
            raise EdgeqError(
                f"{path}: Keras {major} cannot load it ({scan.sentence(error)}); it is damaged, or has layers of its own: "
                "save it as a SavedModel then"
            ) from None
    policy = "" if trusted else rebuild.mixed(stored.config)
    return f"Keras {major} {name}" + (f" in {policy}, computed in float32 as its weights are" if policy else ""), model


def concrete(model: Any, path: Path) -> Any:
    """The inference function of a Keras model (2 or 3) with one input, any batch."""
    tf = engine.tensorflow()
    try:
        inputs = getattr(model, "inputs", None)
    except ValueError:  # Keras 3
        inputs = None
    if not inputs:
        raise EdgeqError(f"{path}: a network that was never built, its input shape is unknown; call it once and save it again")
    if len(inputs) != 1:
        raise EdgeqError(f"{path}: it has {len(inputs)} inputs; edgeq takes classifiers of one image")
    spec = tf.TensorSpec(tuple(inputs[0].shape), tf.as_dtype(inputs[0].dtype), name="image")
    try:
        return tf.function(lambda image: model(image, training=False), autograph=False).get_concrete_function(spec)
    except Exception as error:
        raise EdgeqError(f"{path}: the network cannot be called ({scan.sentence(error)})") from None


def _saved_model(path: Path) -> Any:
    tf = engine.tensorflow()
    try:
        with engine.quiet():
            loaded = tf.saved_model.load(str(path))
            signatures = dict(loaded.signatures)
    except Exception as error:
        raise EdgeqError(f"{path}: TensorFlow cannot load this SavedModel ({scan.sentence(error)}); get the directory again") from None
    if "serving_default" not in signatures and len(signatures) != 1:
        raise EdgeqError(f"{path}: the SavedModel has no serving_default signature; save it with model.save or model.export")
    called = signatures.get("serving_default") or next(iter(signatures.values()))
    called.owner = loaded  # a restored function does not keep its variables alive
    return called


def _classifier(path: Path, function: Any, tf: Any) -> tuple[tuple[int, int, int], int, int | None]:
    """Input shape, number of classes, fixed batch size; :class:`EdgeqError` for what is no image classifier."""

    def no(why: str) -> EdgeqError:
        return EdgeqError(f"{path}: not an image classifier, {why}")

    if len(function.inputs) != 1:
        raise no(f"it has {len(function.inputs)} inputs")
    if len(function.outputs) != 1:
        raise no(f"it has {len(function.outputs)} outputs; save it as .keras, of which one is named with --output, or with that one alone")
    given, returned = function.inputs[0], function.outputs[0]
    if given.shape.rank != 4 or given.shape[3] not in (1, 3):
        raise no(f"its input {_text(given.shape)} is not an image (height, width, 1 or 3 channels last)")
    if given.shape[1] is None or given.shape[2] is None:
        raise EdgeqError(f"{path}: its input size is open {_text(given.shape)}; save it with a fixed height and width")
    if given.dtype != tf.float32:
        raise EdgeqError(f"{path}: its input is {given.dtype.name}, which has no gradient; save it with a float32 input")
    if returned.shape.rank is not None and returned.shape.rank > 2:
        raise no(f"its output {_text(returned.shape)} is a map, not one score a class")
    if returned.shape.rank != 2 or returned.shape[1] is None or returned.dtype != tf.float32:
        raise no(f"its output {_text(returned.shape)} {returned.dtype.name} is not one float32 score a class")
    if not returned.shape[1]:
        raise no("it has no output unit")
    return tuple(given.shape[1:]), int(returned.shape[1]), given.shape[0]


def _text(shape: Any) -> str:
    return "(" + ", ".join("?" if d is None else str(d) for d in shape) + ")" if shape.rank is not None else "of unknown shape"


def _logits(path: Path, function: Any, batch: int | None, shape: tuple[int, ...], tf: Any, output: str | None) -> tuple[Any, Any, str]:
    """A function up to the logits, what the file's own output is, and a sentence about it."""
    tensor, rounded = function.outputs[0], False
    while tensor.op.type in ("Identity", "StopGradient") or tensor.op.type.startswith("FakeQuant"):
        rounded |= tensor.op.type.startswith("FakeQuant")
        tensor = tensor.op.inputs[0]
    plain = _single(function)
    probe = np.random.default_rng(0).random((batch or scan.PROBE, *shape), dtype=np.float32)
    with engine.quiet():
        scores = np.concatenate([plain(tf.constant(probe * top)).numpy() for top in (1.0, 255.0)])
    if not np.isfinite(scores).all():
        raise EdgeqError(f"{path}: its answers to plain noise are not finite; the weights are damaged")
    if scores.shape[1] == 1 and tensor.op.type != "Sigmoid" and (output != "logits" or tensor.op.type == "Softmax"):
        softmax = "its softmax of a single unit is 1 for every image; give it a unit a class" if tensor.op.type == "Softmax" else ""
        raise EdgeqError(
            f"{path}: not an image classifier, "
            + (softmax or "it returns a single number and no sigmoid makes it; pass --output logits if that is the logit of class 1")
        )
    if tensor.op.type == "Sigmoid" and scores.shape[1] == 1:
        note = "it ends in a sigmoid, one score of two classes: class 1 has p, class 0 has 1 - p; gradients are taken before it"
        return _single(function.prune(function.inputs, tensor.op.inputs[0])), "probs", note + (" and its quantiser" if rounded else "")
    if tensor.op.type in ("Softmax", "LogSoftmax"):
        note = f"it ends in {tensor.op.type.lower()}; gradients are taken before it" + (" and its quantiser" if rounded else "")
        kind = "probs" if tensor.op.type == "Softmax" else "logits"
        return _single(function.prune(function.inputs, tensor.op.inputs[0])), kind, note
    if (scores >= -1e-6).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3):
        tiny = np.finfo(np.float32).tiny
        note = f"its scores sum to 1, but no softmax was found ({tensor.op.type}); their logarithm stands for the logits"
        return (lambda image: tf.math.log(tf.maximum(plain(image), tiny))), "probs", note
    return plain, "logits", f"no softmax at its end ({tensor.op.type}); the output is taken as logits"


def _differentiate_swish(graph: Any) -> None:
    """Takes away TensorFlow's own gradient of ``tf.nn.silu``, which saves memory and refers to the graph before it was frozen. What is
    left is the derivative of ``x * sigmoid(beta x)``, op by op: the same. Other custom gradients, such as straight-through ones, stay."""
    for op in graph.get_operations():
        if op.type == "IdentityN" and len(op.inputs) >= 2 and _is_swish(op.inputs[0], op.inputs[1]):
            op._clear_attr("_gradient_op_type")


def _state_sizes(graph: Any) -> None:
    """Has a Reshape that asks for the batch when it runs, and states all other sizes, leave the batch open instead. That is the same, as
    numbers are neither made nor lost; and the ``.tflite`` of a Keras 3 network has no ops on shapes, which have no gradient."""
    constant = engine.need("tensorflow.python.framework.tensor_util").constant_value
    for op in graph.get_operations():
        if op.type != "Reshape" or op.inputs[1].op.type != "Pack":
            continue
        sizes = [constant(size) for size in op.inputs[1].op.inputs]
        if sizes[0] is None and all(size is not None and size > 0 for size in sizes[1:]):
            with graph.as_default():
                stated = engine.tensorflow().constant([-1, *map(int, sizes[1:])], op.inputs[1].dtype)
            op._update_input(1, stated)


def _is_swish(y: Any, x: Any) -> bool:
    """Whether ``y`` is ``x * sigmoid(beta x)`` for some constant."""
    if y.op.type != "Mul" or x.name not in (given := {tensor.name: tensor for tensor in y.op.inputs}):
        return False
    gate = next((tensor.op for name, tensor in given.items() if name != x.name), None)
    if gate is None or gate.type != "Sigmoid":
        return False
    inner = gate.inputs[0]
    return inner.name == x.name or (inner.op.type == "Mul" and x.name in {tensor.name for tensor in inner.op.inputs})


def _single(function: Any) -> Any:
    """A frozen function returns a list or a tensor, by how it was made; this one returns the tensor."""

    def call(image: Any) -> Any:
        value = function(image)
        return value[0] if isinstance(value, list | tuple) else value

    return call
