"""The quantised forms of Keras layers: a wrapped layer, an add whose branches share a step, an average pool on a shifted step."""

from __future__ import annotations

from typing import Any

from edgeq.keras import engine
from edgeq.keras.quantizers._base import Quantizer, straight, tf

tfmot = engine.need("tensorflow_model_optimization")
Wrapper = engine.need("tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper").QuantizeWrapperV2
WEIGHTS = {"Conv2D": ("kernel", -1), "Dense": ("kernel", -1), "DepthwiseConv2D": ("depthwise_kernel", -2)}
"""Layers with a kernel: its name and the axis of its channels."""
HEADROOM = 1.25  # of a pool's range over the images it is set by


class Config(tfmot.quantization.keras.QuantizeConfig):  # type: ignore[name-defined]
    """Quantise the kernel called ``attribute``, or the output, or nothing of a layer."""

    def __init__(self, attribute: str = "", kernel: Quantizer | None = None, output: Quantizer | None = None) -> None:
        self.attribute, self.kernel, self.output = attribute, kernel, output

    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Quantizer]]:
        return [(getattr(layer, self.attribute), self.kernel)] if self.kernel else []

    def get_activations_and_quantizers(self, layer: Any) -> list[Any]:
        return []

    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        if quantize_weights:
            setattr(layer, self.attribute, quantize_weights[0])

    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list[Quantizer]:
        return [self.output] if self.output else []

    def get_config(self) -> dict[str, Any]:
        return {}  # such networks are rebuilt, not deserialised: see train.restore


class QuantizedAdd(tf.keras.layers.Add):
    """A residual add whose branches are quantised on one learned step."""

    def __init__(self, quantizer: Quantizer, **options: Any) -> None:
        super().__init__(**options)
        self.quantizer = quantizer

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.quantizer_variables = self.quantizer.build(input_shape[0], "branch", self)

    def call(self, inputs: list[Any]) -> Any:
        if self.quantizer.beginning:  # one step for both: the larger
            starts = [self.quantizer.begin(x) for x in inputs]
            self.quantizer_variables["start"].assign(tf.maximum(*starts))
        parts = [self.quantizer.split(x, self.quantizer_variables) for x in inputs]
        return (parts[0][0] + parts[1][0]) * parts[0][1]

    def get_config(self) -> dict[str, Any]:
        return {}  # rebuilt, not deserialised


class QuantizedPool(tf.keras.layers.Layer):
    """An average pool of codes, rounded to 8 bits on the step of its input times ``2^exponent``; halves are rounded up.

    With a window of ``2^n`` pixels a kernel divides the sum of codes by a power of two, which every runtime rounds alike. The exponent is
    set from data, so that the means fill the 8 bits, or no finer than the sum itself. ``source``: what gives the step of its input.
    """

    def __init__(self, size: tuple[int, int], flat: bool, signed: bool, source: Any, **options: Any) -> None:
        super().__init__(**options)
        self.size, self.flat, self.source = size, flat, [source]  # in a list: Keras would take it for a layer inside this one
        self.beginning = False
        self.low, self.high = (-128, 127) if signed else (0, 255)

    def build(self, input_shape: Any) -> None:
        self.exponent = self.add_weight("exponent", (), initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        step = tf.stop_gradient(self.source[0]())
        codes = straight(tf.round(x / step), x / step)
        mean = tf.nn.avg_pool2d(codes, self.size, self.size, "VALID")
        if self.beginning:
            least = -tf.math.floor(tf.math.log(float(self.size[0] * self.size[1])) / tf.math.log(2.0) + 0.01)
            fill = HEADROOM * tf.maximum(tf.reduce_max(tf.abs(mean)), 1e-3) / self.high
            self.exponent.assign(tf.maximum(tf.math.ceil(tf.math.log(fill) / tf.math.log(2.0)), least))
        unit = tf.pow(2.0, self.exponent)
        rounded = straight(tf.clip_by_value(tf.floor(mean / unit + 0.5), float(self.low), float(self.high)), mean / unit)
        return (tf.reshape(rounded, (-1, rounded.shape[-1])) if self.flat else rounded) * (unit * step)

    def get_config(self) -> dict[str, Any]:
        return {}  # rebuilt, not deserialised

    def unit(self) -> Any:
        """The step of its output, () float32."""
        return tf.pow(2.0, self.exponent) * self.source[0]()
