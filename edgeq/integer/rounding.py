"""How each runtime turns an int32 accumulator into an output code: ``out = clamp(zero + f(acc))``, one function a formula.

All formulas are monotone in the accumulator. They work elementwise on int64 arrays and broadcast, so that a multiplier may be one number
or one a channel (last axis). Sources: gemmlowp ``fixedpoint.h``, TFLite ``internal/common.h`` and ``kernel_util.cc``, ruy
``apply_multiplier.cc``, XNNPACK ``requantization.h``; each was also compared with the interpreters bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RUNTIMES = ("litert-xnnpack", "litert-builtin", "litert-reference", "tflm")
SIMULATED = (*RUNTIMES, "ort")
"""The TFLite runtimes, and ONNX Runtime, whose files are read by :mod:`edgeq.integer.read_onnx`."""
Int = np.ndarray
Formula = Callable[..., np.ndarray]


def quantised_multiplier(real: Any) -> tuple[np.ndarray, np.ndarray]:
    """``real = q * 2^(shift - 31)`` with ``q`` in [2^30, 2^31): int64 ``(q, shift)`` of a non-negative float64, elementwise.

    TFLite ``QuantizeMultiplier``: the fraction is rounded half away from zero; what is below 2^-32 becomes 0. From 2^30 on kernels would
    shift by more than 31 bits, and the accumulators for which they do not overflow are none (:meth:`Requantiser.room`).
    """
    fraction, shift = np.frexp(np.asarray(real, np.float64))
    q = np.floor(fraction * 2.0**31 + 0.5).astype(np.int64)
    shift = shift.astype(np.int64)
    over = q == 2**31
    q, shift = np.where(over, q // 2, q), shift + over
    vanishes, too_large = shift < -31, shift > 30
    q = np.where(vanishes, 0, np.where(too_large, 2**31 - 1, q))
    return q, np.clip(np.where(vanishes, 0, shift), -31, 30)


def high_mul(a: Int, q: Any) -> Int:
    """``floor(a * q / 2^31 + 1/2)``: gemmlowp ``SaturatingRoundingDoublingHighMul`` (it saturates only where both are -2^31)."""
    return (a * q + 2**30) >> 31


def divide_by_power_of_two(x: Int, exponent: Any) -> Int:
    """``x / 2^exponent``, halves away from zero: gemmlowp ``RoundingDivideByPOT``."""
    half = (np.int64(1) << exponent) >> 1
    return (x + half - ((x < 0) & (half > 0))) >> exponent


def double_rounding(acc: Int, q: Any, shift: Any) -> Int:
    """gemmlowp: :func:`high_mul`, then :func:`divide_by_power_of_two`; TFLite ``MultiplyByQuantizedMultiplier``."""
    return divide_by_power_of_two(high_mul(acc << np.maximum(shift, 0), q), np.maximum(-shift, 0))


def half_up(acc: Int, q: Any, shift: Any) -> Int:
    """:func:`high_mul`, then ``(h + 2^(r-1)) >> r``: halves towards plus infinity both times; ruy on x86 and NEON ``vrshl``."""
    right = np.maximum(-shift, 0)
    return (high_mul(acc << np.maximum(shift, 0), q) + ((np.int64(1) << right) >> 1)) >> right


def float_product(acc: Any, multiplier: Any) -> np.ndarray:
    """``rint(float32(acc) * float32(multiplier))``, ties to even, as float32: XNNPACK's "fp32" requantisation; ORT QLinearConv."""
    return np.rint(np.asarray(acc, np.float32) * np.asarray(multiplier, np.float32))


def real_product(acc: Any, multiplier: Any) -> np.ndarray:
    """``round(acc * multiplier)`` in float64, halves away from zero, as int64: the reference fully connected kernel."""
    product = np.asarray(acc, np.float64) * multiplier
    return np.trunc(product + np.copysign(np.nextafter(0.5, 0), product)).astype(np.int64)


FORMULAS: dict[tuple[str, str], Formula] = {
    **{(runtime, kind): float_product for runtime in ("litert-xnnpack", "ort") for kind in ("conv", "depthwise", "dense")},
    **{("litert-builtin", kind): half_up for kind in ("conv", "depthwise", "dense")},
    **{("litert-reference", kind): double_rounding for kind in ("conv", "depthwise")},
    ("litert-reference", "dense"): real_product,
    **{("tflm", kind): double_rounding for kind in ("conv", "depthwise", "dense")},
}
"""Runtime and kind of op -> the formula of its int8 kernels; see :func:`formulas` for the exception."""


DEPTHWISE_BLOCK = 8  # channels that the builtin int8 depthwise kernel takes at a time


def formulas(runtime: str, kind: str, dtype: str, channels: int) -> list[tuple[slice, Formula]]:
    """Which formula a kernel uses for which of its output channels, mostly one for all; ``dtype`` of the activations: int8 or uint8.

    The builtin depthwise kernel is the exception: beyond the last whole block of channels, and for uint8, it rounds as the reference does.
    """
    parts = [(slice(0, channels), FORMULAS[runtime, kind])]
    if (runtime, kind) == ("litert-builtin", "depthwise"):
        whole = channels // DEPTHWISE_BLOCK * DEPTHWISE_BLOCK if dtype == "int8" else 0
        parts = [(slice(0, whole), half_up), (slice(whole, channels), double_rounding)]
    return [(where, formula) for where, formula in parts if where.stop > where.start]


def rounds_scales(runtime: str, kind: str, dtype: str, per_tensor: bool) -> bool:
    """Whether the kernel rounds the product of input and weight scale to float32 (TFLite ``GetQuantizedConvolutionMultipler``).

    With one scale for all weights, LiteRT's own kernels do so in uint8 files, and the builtin fully connected kernel always; the
    reference fully connected kernel never.
    """
    if (runtime, kind) == ("litert-reference", "dense"):
        return False
    return per_tensor and (dtype == "uint8" or (runtime, kind) == ("litert-builtin", "dense"))


def multipliers(formula: Formula, single: Any, double: Any) -> tuple[np.ndarray, ...]:
    """What a formula takes besides the accumulator: ``single`` is the multiplier computed in float32, ``double`` in float64."""
    if formula is float_product:
        return (single,)
    return (np.asarray(double, np.float64),) if formula is real_product else quantised_multiplier(double)


def room(formula: Formula, parameters: tuple[np.ndarray, ...]) -> np.ndarray:
    """The largest magnitude of an accumulator for which the kernel stays within 32 bits; int64, elementwise."""
    most = 2**31 - 1
    if formula is real_product:
        return np.minimum(np.floor(most / np.maximum(parameters[0], 1.0)) - 1, most).astype(np.int64)
    shift = 0 if formula is float_product else np.maximum(parameters[1], 0)
    return np.broadcast_to(most >> np.asarray(shift, np.int64), parameters[0].shape)


@dataclass(frozen=True, eq=False)
class Requantiser:
    """One op's way from accumulator to code, before zero point and clamp: channels, their formula, and its multipliers."""

    parts: tuple[tuple[slice, Formula, tuple[np.ndarray, ...]], ...]

    def __call__(self, acc: np.ndarray) -> np.ndarray:
        """``acc`` (..., channels), integers in any dtype, within int32 -> integers of the same shape, int64 or (XNNPACK) float32."""
        if self.parts[0][1] is float_product:
            return float_product(acc, *self.parts[0][2])
        acc = np.asarray(acc).astype(np.int64)
        results = [formula(acc[..., where], *parameters) for where, formula, parameters in self.parts]
        return results[0] if len(results) == 1 else np.concatenate(results, axis=-1)

    def room(self) -> np.ndarray:
        """``(channels,) int64``: :func:`room` of each channel."""
        return np.concatenate([room(formula, parameters) for _, formula, parameters in self.parts])


def requantiser(runtime: str, kind: str, given: Any, weights: Any, out: Any, channels: int, dtype: str = "int8") -> Requantiser:
    """The requantisation of ``acc * given * weights`` to steps of ``out``.

    ``given``, ``out``: float32 scale of the input and output; ``weights``: one scale, or one a channel; ``dtype`` of the activations.
    XNNPACK computes the multiplier in float32, the others in float64, except for :func:`rounds_scales`.
    """
    given, weights, out = (np.asarray(s, np.float32).reshape(-1) for s in (given, weights, out))
    product = given.astype(np.float64) * weights.astype(np.float64)
    if rounds_scales(runtime, kind, dtype, len(weights) == 1):
        product = (given * weights).astype(np.float64)
    parts = []
    for where, formula in formulas(runtime, kind, dtype, channels):
        parameters = multipliers(formula, given * weights / out, product / out.astype(np.float64))
        parts.append((where, formula, tuple(np.broadcast_to(m, channels)[where] for m in parameters)))
    return Requantiser(tuple(parts))
