"""A Keras network built again from its configuration by us: layer by layer from the allow-list, never by Keras's own reader.

Keras looks classes and functions up by the names it finds, and calls them. Here a name is only ever compared with a list
(:mod:`edgeq.keras.allowed`), a setting is a number, a truth value or one of a few words, and what a layer is called with is a tensor of
this network or such a setting. No variable is made of which the file does not hold the numbers.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.keras import allowed, engine, trust

CALLS = 2500
"""The most calls of layers in a network, those of a network inside it counted each time: keras.applications have 1,100 at most."""
DEPTH = 8
"""Of networks in networks, and of lists in lists."""
CODE = {"Lambda", "__lambda__", "function", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer"}
FILES = {"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup", "HashedCrossing"}
PACKAGES = {"keras", "tf_keras", "tensorflow"}
MIXED = {"mixed_float16": "float32", "mixed_bfloat16": "float32"}
"""What a layer computes in whose weights are float32 and which trained in 16 bits: in these gradients vanish, and no device computes so."""


def mixed(config: Any) -> str:
    """The policy of mixed precision in a parsed configuration; "" where there is none."""
    text = json.dumps(config)
    return next((name for name in MIXED if f'"{name}"' in text), "")


def rebuild(path: Path, config: dict[str, Any], keras: Any, major: int, stored: int) -> Any:
    """The model of a parsed configuration, its weights zero. ``stored``: how many numbers the file stores, for all weights together.

    Raises :class:`EdgeqError` for whatever is not allowed. What Keras raises for settings that do not fit comes through.
    """
    with bounded(path, keras.layers.Layer, stored):
        return _Builder(path, keras, major).model(config, 0)


@contextmanager
def bounded(path: Path, layer: Any, stored: int) -> Iterator[None]:
    """Layers make no more numbers than ``stored``: an array is refused before it is there."""
    original, left = layer.add_weight, stored + 4096  # states of random layers, which older files did not store
    signature = inspect.signature(original)

    def add_weight(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        shape = signature.bind(self, *args, **kwargs).arguments.get("shape") or ()
        left -= math.prod(int(d or 1) for d in shape)
        if left < 0:
            raise EdgeqError(f"{path}: its layers ask for more weights than the file holds; it is damaged, get it again")
        return original(self, *args, **kwargs)

    layer.add_weight = add_weight
    try:
        yield
    finally:
        layer.add_weight = original


class _Builder:
    def __init__(self, path: Path, keras: Any, major: int) -> None:
        self.path, self.keras, self.major, self.calls = path, keras, major, 0
        self.inside: dict[int, int] = {}  # of each network, the calls that calling it makes

    def refuse(self, what: str) -> EdgeqError:
        return EdgeqError(f"{self.path}: {what}; {trust.hint(self.path)}")

    def damaged(self) -> EdgeqError:
        return EdgeqError(f"{self.path}: its model configuration is damaged; save the network again")

    def named(self, node: Any) -> tuple[str, dict[str, Any]]:
        """Class name and settings of a node, if it is of Keras's own."""
        if not isinstance(node, dict) or not isinstance(node.get("class_name"), str):
            raise self.damaged()
        kind, module = node["class_name"], node.get("module")
        if kind.rpartition(">")[2] in CODE:
            raise self.refuse(f"it carries code of its own ({kind[:60]}), which is not run; rebuild the network without such layers")
        if kind in FILES:
            raise self.refuse(f"the layer {kind} belongs to no image classifier and may read files; it is not loaded")
        if "Quantize" in kind:
            raise EdgeqError(f"{self.path}: TF-MOT networks do not reload from a file; save it as a SavedModel: model.save(DIRECTORY)")
        if module is not None and str(module).split(".")[0] not in PACKAGES:
            raise self.refuse(f"it names the foreign module {str(module)[:60]!r}, which is not imported; use Keras's own layers")
        config = node.get("config")
        return kind, config if isinstance(config, dict) else {}

    def model(self, node: Any, depth: int) -> Any:
        kind, config = self.named(node)
        if kind not in allowed.MODELS:
            raise self.refuse(f"it is a network of the class {kind[:60]}, and edgeq builds only Sequential and Functional ones")
        if depth > DEPTH:
            raise self.refuse(f"its networks lie more than {DEPTH} deep in each other")
        before = self.calls
        model = self.sequential(node["config"], depth) if kind == "Sequential" else self.functional(config, depth)
        self.inside[id(model)] = self.calls - before
        if config.get("trainable") is False:
            model.trainable = False
        return model

    def sequential(self, config: Any, depth: int) -> Any:
        layers = config if isinstance(config, list) else config.get("layers") if isinstance(config, dict) else None
        if not isinstance(layers, list):
            raise self.damaged()
        settings = config if isinstance(config, dict) else {}
        model = self.keras.Sequential(name=self.name(settings.get("name")))
        for node in layers:
            layer = self.layer(node, depth)
            self.count(layer)
            model.add(layer)
        shape = settings.get("build_input_shape")
        if isinstance(shape, list) and not model.built:
            model.build(self.plain(shape))
        return model

    def functional(self, config: dict[str, Any], depth: int) -> Any:
        nodes = config.get("layers")
        if not isinstance(nodes, list):
            raise self.damaged()
        made: dict[str, Any] = {}
        outputs: dict[str, list[list[Any]]] = {}  # of each layer, of each of its calls
        waiting: list[tuple[str, Any]] = []
        for node in nodes:
            kind, _ = self.named(node)
            name = self.name(node.get("name"))
            if name is None or name in made:
                raise self.damaged()
            made[name], outputs[name] = self.layer(node, depth), []
            if kind == "InputLayer":
                outputs[name].append(self.flat(made[name].output))
                continue
            if self.major == 2 and id(made[name]) in self.inside and made[name].inputs:
                outputs[name].append([])  # the call that made the inner network
            calls = node.get("inbound_nodes")
            if not isinstance(calls, list):
                raise self.damaged()
            for call in calls:
                self.count(made[name])
                waiting.append((name, call))
        while waiting:  # a layer may stand before those that feed it
            late, blocked = [], set()
            for name, call in waiting:
                try:
                    if name in blocked:
                        raise IndexError
                    args, kwargs = self.arguments(call, outputs, made[name])
                except IndexError:
                    blocked.add(name)  # its calls are counted in their order
                    late.append((name, call))
                    continue
                outputs[name].append(self.flat(made[name](*args, **kwargs)))
            if len(late) == len(waiting):
                raise self.damaged()
            waiting = late
        ends = [[self.tensor(end, outputs) for end in self.ends(config.get(key))] for key in ("input_layers", "output_layers")]
        given, returned = (end[0] if len(end) == 1 else end for end in ends)
        return self.keras.Model(given, returned, name=self.name(config.get("name")))

    def count(self, layer: Any) -> None:
        self.calls += self.inside.get(id(layer), 1)
        if self.calls > CALLS:
            raise self.refuse(f"it calls more than {CALLS:,} layers; that is no network for edgeq")

    def layer(self, node: Any, depth: int) -> Any:
        """What a node stands for, to be called on tensors: a layer, a network, or a function."""
        kind, config = self.named(node)
        module = str(node.get("module"))
        if kind in allowed.MODELS:
            return self.model(node, depth + 1)
        if self.major == 2 and kind in ("TFOpLambda", "SlicingOpLambda"):
            return self.function(config)
        if self.major == 3 and module.startswith("keras.src.ops."):
            if (module, kind) not in allowed.OPERATIONS:
                raise self.refuse(f"it calls the operation {kind[:60]}, which is not among those that edgeq runs")
            return getattr(engine.need(module), kind)(**{key: self.plain(value) for key, value in config.items() if key != "name"})
        if kind not in allowed.LAYERS or node.get("registered_name") not in (None, kind):
            raise self.refuse(f"it has a layer {kind[:60]}, which is not among those that edgeq builds")
        return getattr(self.keras.layers, kind)(**self.settings(kind, config, depth))

    def function(self, config: dict[str, Any]) -> Any:
        symbol = config.get("function")
        if symbol not in allowed.FUNCTIONS:
            raise self.refuse(f"it calls the function {str(symbol)[:60]}, which is not among those that edgeq runs")
        value: Any = engine.tensorflow()
        for part in str(symbol).split("."):
            value = getattr(value, part)
        return value

    def settings(self, kind: str, config: dict[str, Any], depth: int) -> dict[str, Any]:
        """The keyword arguments of a layer, each one looked at; what only training needs is left out."""
        parsed: dict[str, Any] = {}
        for key, value in config.items():
            if key not in allowed.EVERY | allowed.LAYERS[kind]:
                raise self.refuse(f"its layer {kind} has the setting {key[:60]}, which edgeq does not know")
            last = key.rpartition("_")[2]
            if last in allowed.TRAINING:
                self.training(last, value)
                if last == "initializer":
                    parsed[key] = "zeros"
            elif key in allowed.UNUSED:
                if key in ("lora_rank", "quantization_config") and value is not None:
                    raise self.refuse(f"its layer {kind} has the setting {key}, which edgeq does not know")
            elif key == "name":
                parsed[key] = self.name(value)
            elif key == "dtype":
                parsed[key] = self.dtype(value)
            elif key == "activation":
                parsed[key] = self.activation(value, depth)
            else:
                parsed[key] = self.plain(value)
        return parsed

    def training(self, role: str, value: Any) -> None:
        name = value
        if isinstance(value, dict):
            name, _ = self.named(value)
        if name is not None and (not isinstance(name, str) or name not in allowed.TRAINING[role]):
            raise self.refuse(f"it names the {role} {str(name)[:60]}, which is not Keras's own")

    def activation(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            kind, _ = self.named(value)
            if kind not in allowed.INSIDE:
                raise self.refuse(f"it has the activation {kind[:60]}, which is not among those that edgeq builds")
            return self.layer(value, depth)
        if value is None or (isinstance(value, str) and value in allowed.ACTIVATIONS):
            return value
        raise self.refuse(f"it has the activation {str(value)[:60]}, which is not among those that edgeq builds")

    def dtype(self, value: Any) -> str | None:
        if isinstance(value, dict):
            kind, config = self.named(value)
            value = config.get("name") if kind in ("DTypePolicy", "FloatDTypePolicy", "Policy") else kind
        if value is None or (isinstance(value, str) and value in allowed.DTYPES):
            return MIXED.get(str(value), value)
        raise self.refuse(f"it has values of the kind {str(value)[:60]}, which edgeq does not know")

    def name(self, value: Any) -> str | None:
        if value is None or (isinstance(value, str) and 0 < len(value) <= 300 and value.isprintable()):
            return value
        raise self.damaged()

    def plain(self, value: Any, depth: int = 0) -> Any:
        """A setting: None, a truth value, a finite number, a word that is known, or lists of them."""
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            if isinstance(value, int) and abs(value) >= 1 << 31:
                raise self.damaged()
            return value
        if isinstance(value, str) and value in allowed.WORDS:
            return value
        if isinstance(value, list) and depth < DEPTH:
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, dict) and value.get("class_name") in ("__numpy__", "__tensor__"):
            content = value.get("config")
            if isinstance(content, dict) and (dtype := self.dtype(content.get("dtype"))) in (
                "float32",
                "float64",
                "int32",
                "int64",
                "bool",
            ):
                return np.asarray(self.plain(content.get("value"), depth + 1), dtype)
        raise self.refuse(f"it has a setting {str(value)[:60]!r}, which is neither a number nor a word that edgeq knows")

    def arguments(self, call: Any, outputs: dict[str, Any], callee: Any) -> tuple[list[Any], dict[str, Any]]:
        """What a layer is called with; IndexError where a tensor is not there yet."""
        layer = isinstance(callee, self.keras.layers.Layer)
        if isinstance(call, dict):  # Keras 3
            args, kwargs = call.get("args"), call.get("kwargs")
            if not isinstance(args, list) or not isinstance(kwargs, dict):
                raise self.damaged()
            args = [self.argument(value, outputs) for value in args]
        else:  # Keras 2: ["layer", call, tensor, {arguments}], or a list of these
            if not isinstance(call, list) or not call:
                raise self.damaged()
            single = isinstance(call[0], str)
            inputs = [call] if single else call
            if not all(isinstance(i, list) and len(i) in (3, 4) and isinstance(i[0], str) for i in inputs):
                raise self.refuse("its layers are called with more than lists of tensors")
            given = [self.plain(i[2]) if i[0] == "_CONSTANT_VALUE" else self.tensor(i, outputs) for i in inputs]
            kwargs = inputs[-1][3] if len(inputs[-1]) == 4 else {}
            if not isinstance(kwargs, dict):
                raise self.damaged()
            args = [given[0] if single or (layer and len(given) == 1) else given]
        if layer and (strange := set(kwargs) - allowed.ARGUMENTS - {"name"}):
            raise self.refuse(f"it calls a layer with the argument {min(strange)[:60]}, which edgeq does not know")
        return args, {key: self.argument(value, outputs) for key, value in kwargs.items() if key != "name"}

    def argument(self, value: Any, outputs: dict[str, Any], depth: int = 0) -> Any:
        """A tensor of this network, a piece of an index, or a setting."""
        if depth > DEPTH:
            raise self.damaged()
        if isinstance(value, list):
            if self.major == 2 and len(value) in (3, 4) and isinstance(value[0], str) and value[0] in outputs:
                return self.tensor(value, outputs)
            return [self.argument(item, outputs, depth + 1) for item in value]
        if isinstance(value, dict):
            kind, config = value.get("class_name"), value.get("config")
            if kind == "__keras_tensor__" and isinstance(config, dict):
                return self.tensor(config.get("keras_history"), outputs)
            if kind in ("__ellipsis__", "ellipsis"):
                return Ellipsis
            parts = config if kind == "__slice__" else value
            if isinstance(parts, dict) and set(parts) == {"start", "stop", "step"}:
                return slice(*(self.plain(parts[key]) for key in ("start", "stop", "step")))
        return self.plain(value)

    def tensor(self, where: Any, outputs: dict[str, Any]) -> Any:
        if not (isinstance(where, list) and len(where) >= 3 and isinstance(where[0], str) and where[0] in outputs):
            raise self.damaged()
        call, index = where[1:3]
        if not all(type(i) is int and i >= 0 for i in (call, index)):
            raise self.damaged()
        return outputs[where[0]][call][index]

    def ends(self, value: Any) -> list[Any]:
        if isinstance(value, dict):
            value = list(value.values())
        if not isinstance(value, list) or not value:
            raise self.damaged()
        return [value] if isinstance(value[0], str) else value

    def flat(self, value: Any) -> list[Any]:
        return [v for part in value for v in self.flat(part)] if isinstance(value, list | tuple) else [value]
