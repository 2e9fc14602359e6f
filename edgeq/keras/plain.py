"""A float network of Keras 2 or 3 in the plain form that quantised layers can be put around: :mod:`edgeq.keras.lowbit.wrap`.

A functional Keras 2 model without networks inside it: each activation is a layer of its own, what only acts in training is gone, and what
is done to the pixels (a stated mean and std, Rescaling, Normalization) is folded into the kernel and bias of the first layer, so that the
network takes whole pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.keras import engine
from edgeq.keras.fold import affine

IDLE = {
    "Dropout",
    "SpatialDropout2D",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "ActivityRegularization",
    "Identity",
    "InputLayer",
}
KERNELS = ("Conv2D", "DepthwiseConv2D", "Dense")
LAST = {"softmax", "sigmoid", "linear"}
"""Activations that may end a network: the file answers with what enters them."""
KEPT = {
    "BatchNormalization": "axis epsilon center scale momentum",
    "Add": "",
    "AveragePooling2D": "pool_size strides padding",
    "GlobalAveragePooling2D": "",
    "MaxPooling2D": "pool_size strides padding",
    "GlobalMaxPooling2D": "",
    "Flatten": "",
    "Reshape": "target_shape",
    "ZeroPadding2D": "padding",
}
"""Layers that are made again as they are, by these of their settings."""
THROUGH = {"MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "Flatten", "Reshape", "ZeroPadding2D"}
"""Of these, those behind which a gain and an offset may stand as well as before them: largest numbers keep their order where gains are
above 0, and zeros are dealt with."""


@dataclass(frozen=True, eq=False)
class Plain:
    """``model``: takes pixels less ``zero``, ``(n, h, w, c) float32``. Convolutions pad with 0 there: with the pixel ``zero``.

    ``exact``: whether that is what the network itself pads with; else its zero lies between two pixels, or at another one in each channel.
    """

    model: Any
    zero: int
    exact: bool
    folded: bool

    @property
    def sentences(self) -> list[str]:
        """What was done to the pixels, where anything was."""
        said = ["the normalisation of the pixels is folded into the first layer: the files take pixels as bytes"] if self.folded else []
        if not self.exact:
            said.append(f"at the image's border convolutions pad with the pixel {self.zero}, the nearest to what the network pads with")
        return said


@dataclass(frozen=True, eq=False)
class _Value:
    """``gain * tensor + offset``, both ``()`` or of the tensor's shape without the batch; None and None where it is the tensor.

    ``image``: the tensor holds pixels; ``sums``: it is what a layer with weights put out, which nothing has rounded yet.
    """

    tensor: Any
    gain: Any = None
    offset: Any = None
    image: bool = False
    sums: bool = False


@dataclass
class _Maker:
    path: Path
    tf: Any
    names: set[str] = field(default_factory=set)
    border: np.ndarray | None = None  # (c,): offset / gain, where something is padded in front of the first layer
    head: Any = None  # the layer with weights that ends the network, where it is one
    behind: list[Any] = field(default_factory=list)  # layers behind it, which the file leaves out
    ends_in: str = "linear"
    folded: bool = False

    def no(self, layer: Any, why: str) -> EdgeqError:
        return EdgeqError(f"{self.path}: its layer {layer.name} {why}, so --portable cannot snap it; export it without --portable")

    def call(self, kind: str, name: str, given: Any, weights: list[np.ndarray] | None = None, **settings: Any) -> Any:
        """A layer of Keras 2 with these weights, called."""
        name = next(n for n in (name, *(f"{name}_{i}" for i in range(2, 2 + len(self.names)))) if n not in self.names)
        self.names.add(name)
        layer = getattr(self.tf.keras.layers, kind)(name=name, dtype="float32", **settings)
        value = layer(given)
        if weights is not None:
            layer.set_weights(weights)
        return value

    def layer(self, layer: Any, given: list[_Value]) -> _Value:
        """What a layer makes of its inputs."""
        kind, config, x = type(layer).__name__, layer.get_config(), given[0]
        if kind in IDLE or kind.startswith("Random") or any(layer is one for one in self.behind):
            return x
        if kind in ("Rescaling", "Normalization"):
            return self.scaled(layer, x)
        if kind in KERNELS:
            return self.linear(layer, x)
        if kind in ("Activation", "ReLU", "Softmax"):
            return self.activated(layer, x)
        if kind not in KEPT:
            raise self.no(layer, f"is of the kind {kind}, which has no portable form")
        if config.get("data_format", "channels_last") != "channels_last" or config.get("keepdims") or config.get("renorm"):
            raise self.no(layer, f"is a {kind} in a form that is none of Keras 2's usual ones")
        if kind == "BatchNormalization" and not x.sums:
            return _times(x, *affine(layer))
        if kind == "ZeroPadding2D":
            self.pads(layer, x)
        elif any(v.gain is not None for v in given) and (kind not in THROUGH or ("Max" in kind and np.min(x.gain) <= 0)):
            raise self.no(layer, f"is a {kind} of what a normalisation shifted")
        if x.sums and kind in THROUGH and kind not in ("Flatten", "Reshape"):
            raise self.no(layer, "takes what no ReLU stands before")
        settings = {key: config[key] for key in KEPT[kind].split()}
        tensors = [v.tensor for v in given]
        made = self.call(kind, layer.name, tensors if kind == "Add" else tensors[0], layer.get_weights() or None, **settings)
        if kind in ("Flatten", "Reshape") and x.gain is not None:
            shape, target = tuple(x.tensor.shape[1:]), tuple(made.shape[1:])
            gain, offset = (np.broadcast_to(part, shape).reshape(target) for part in (x.gain, x.offset))
            return replace(x, tensor=made, gain=gain, offset=offset)
        return replace(x, tensor=made)

    def scaled(self, layer: Any, x: _Value) -> _Value:
        if not x.image:
            raise self.no(layer, "normalises what other layers computed")
        if type(layer).__name__ == "Rescaling":
            gain, offset = (np.asarray(v, np.float64) for v in (layer.scale, layer.offset))
        else:
            gain, offset = normalisation(layer)
        return _times(x, gain, offset)

    def pads(self, layer: Any, x: _Value) -> None:
        if x.gain is not None and not x.image:
            raise self.no(layer, "pads what batch normalisation behind a ReLU shifted (in front of the ReLU it has a portable form)")
        if x.gain is not None:
            self.border = np.broadcast_to(np.asarray(x.offset, np.float64) / x.gain, x.tensor.shape[1:])[0, 0]

    def linear(self, layer: Any, x: _Value) -> _Value:
        kind, config = type(layer).__name__, layer.get_config()
        if config.get("data_format", "channels_last") != "channels_last" or config.get("groups", 1) != 1:
            raise self.no(layer, "is a grouped convolution, or one with channels first")
        if x.sums:
            raise self.no(layer, "takes the sums of another layer with weights, with no ReLU between them")
        weights = [np.asarray(w, np.float64) for w in layer.get_weights()]
        kernel, outputs = weights[0], math.prod(weights[0].shape[2:] if kind == "DepthwiseConv2D" else weights[0].shape[-1:])
        bias = weights[1] if layer.use_bias else np.zeros(outputs)
        if x.gain is not None:
            if config.get("padding") == "same" and tuple(config["kernel_size"]) != (1, 1):
                self.pads(layer, x)
            shape = tuple(x.tensor.shape[1:])
            if kind == "Dense" and len(shape) != 1:
                raise self.no(layer, "is a dense layer of an image that is not flat")
            gain, offset = (np.broadcast_to(part, shape) for part in (x.gain, x.offset))
            gain, offset = (gain, offset) if kind == "Dense" else (gain[0, 0], offset[0, 0])
            along = [1] * (kernel.ndim - 2) + [-1, 1]
            shifted = kernel * offset.reshape(along)
            bias = bias + (shifted.sum((0, 1)).reshape(-1) if kind == "DepthwiseConv2D" else shifted.sum(tuple(range(kernel.ndim - 1))))
            kernel = kernel * gain.reshape(along)
            self.folded |= x.image and not (np.all(gain == 1) and np.all(offset == 0))
        use_bias = layer.use_bias or x.gain is not None
        if kind == "Dense":
            settings = {"units": config["units"]}
        else:
            settings = {key: config[key] for key in ("kernel_size", "strides", "padding", "dilation_rate")}
            settings["depth_multiplier" if kind[0] == "D" else "filters"] = config["depth_multiplier" if kind[0] == "D" else "filters"]
        act = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        last = layer is self.head
        settings["activation"] = "softmax" if last and self.ends_in == "softmax" else "linear"
        parts = [kernel.astype(np.float32), *([bias.astype(np.float32)] if use_bias else [])]
        made = _Value(self.call(kind, layer.name, x.tensor, parts, use_bias=use_bias, **settings), sums=True)
        return made if last else self.activation(layer, act, made, f"{layer.name}_{act}")

    def activated(self, layer: Any, x: _Value) -> _Value:
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "ReLU":
            if x.gain is not None or config.get("negative_slope") or config.get("threshold"):
                raise self.no(layer, "is a ReLU with a slope or a threshold, or of the pixels themselves")
            return _Value(self.call("ReLU", layer.name, x.tensor, max_value=config.get("max_value")))
        act = "softmax" if kind == "Softmax" else getattr(layer.activation, "__name__", "")
        return self.activation(layer, act, x, layer.name)

    def activation(self, layer: Any, act: str, x: _Value, name: str) -> _Value:
        if act == "linear":
            return x
        if act not in ("relu", "relu6") or x.gain is not None:
            raise self.no(layer, f"has the activation {act}, which has no portable form; ReLU and ReLU6 have one")
        return _Value(self.call("ReLU", name, x.tensor, max_value=6.0 if act == "relu6" else None))


def plain(model: Any, path: Path, gain: np.ndarray, offset: np.ndarray) -> Plain:
    """``model`` (Keras 2 or 3, one input) as a network of whole pixels: it answers to a pixel ``p`` what ``model`` does to
    ``gain * p + offset``, ``(c,)`` each. Raises :class:`EdgeqError` for a layer that has no such form, naming it; ``path`` is who to blame.
    """
    made = _made(model, path, gain, offset, 0)
    if made.border is None or not made.border.any():
        return Plain(made.model, 0, True, made.folded)
    zeros = -made.border
    zero = int(np.clip(np.rint(zeros.mean()), 0, 255))
    return Plain(_made(model, path, gain, offset, zero).model, zero, bool(np.allclose(zeros, zero, atol=1e-3)), True)


@dataclass(frozen=True, eq=False)
class _Made:
    model: Any
    border: np.ndarray | None
    folded: bool


def _made(model: Any, path: Path, gain: np.ndarray, offset: np.ndarray, zero: int) -> _Made:
    tf = engine.tensorflow()
    maker = _Maker(path, tf)
    maker.head, maker.ends_in, maker.behind = _head(model.outputs[0])
    image = tf.keras.layers.Input(tuple(int(d) for d in model.inputs[0].shape[1:]), name="image")
    gain = np.asarray(gain, np.float64)
    values = {id(model.inputs[0]): _Value(image, gain, np.asarray(offset, np.float64) + gain * zero, image=True)}
    out = _walk(model.outputs[0], values, maker)
    return _Made(tf.keras.Model(image, out.tensor, name=str(model.name)), maker.border, maker.folded)


def normalisation(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """``y = gain * x + offset`` of a Normalization layer over its last axis: ``(channels,) float64`` each, or one number."""
    mean, variance = (np.asarray(v, np.float64).reshape(-1) for v in (layer.mean, layer.variance))
    std = np.maximum(np.sqrt(variance), 1e-7)  # Keras's epsilon
    return (std, mean) if getattr(layer, "invert", False) else (1 / std, -mean / std)


def _times(x: _Value, gain: Any, offset: Any) -> _Value:
    return replace(x, gain=gain if x.gain is None else x.gain * gain, offset=offset if x.gain is None else x.offset * gain + offset)


def _history(tensor: Any) -> tuple[Any, int, int]:
    """The layer that made a tensor, by which of its calls, and which of its outputs it is."""
    layer, call, index = tensor._keras_history
    return layer, call, index


def _given(layer: Any, call: int) -> list[Any]:
    node = layer._inbound_nodes[call]
    return list(node.keras_inputs if hasattr(node, "keras_inputs") else node.input_tensors)


def _inner(layer: Any) -> bool:
    """Whether a layer is a network that holds its own layers."""
    return bool(getattr(layer, "layers", None)) and bool(getattr(layer, "outputs", None))


def _head(tensor: Any) -> tuple[Any, str, list[Any]]:
    """The layer with weights that a network ends in, with the activation that its scores go through, and the layers behind it; None where
    something else stands between them."""
    found = ""
    behind: list[Any] = []
    while True:
        layer, call, index = _history(tensor)
        if _inner(layer):
            tensor = layer.outputs[index]
            continue
        kind = type(layer).__name__
        act = "softmax" if kind == "Softmax" else getattr(getattr(layer, "activation", None), "__name__", "linear")
        if kind in KERNELS and act in LAST:
            return layer, found or act, behind
        if kind not in ("Activation", "Softmax", *IDLE) or act not in LAST or not (given := _given(layer, call)):
            return None, "linear", []
        found = found or act.replace("linear", "")
        behind.append(layer)
        tensor = given[0]


def _walk(end: Any, values: dict[int, _Value], maker: _Maker) -> _Value:
    """The value of a tensor, from those known in ``values`` by ``id``. Networks inside are walked through; deep ones do not recurse."""
    todo = [end]
    while todo:
        tensor = todo[-1]
        if id(tensor) in values:
            todo.pop()
            continue
        layer, call, index = _history(tensor)
        given = _given(layer, call)
        if missing := [t for t in given if id(t) not in values]:
            todo += missing
        elif _inner(layer):
            entered = {id(inside): values[id(t)] for inside, t in zip(layer.inputs, given, strict=True)}
            if any(values.get(key, value) is not value for key, value in entered.items()):
                raise maker.no(layer, "is a network that is called more than once")
            values |= entered
            if id(inner := layer.outputs[index]) in values:
                values[id(tensor)] = values[id(inner)]
            else:
                todo.append(inner)
        else:
            values[id(tensor)] = maker.layer(layer, [values[id(t)] for t in given])
    return values[id(end)]
