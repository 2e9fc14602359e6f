"""Quantisers: how a network's weights and activations come to few levels, and how that is spelled. No TensorFlow up to here.

One method, one file: forward formula, pseudo-gradient and paper on one page, and as its ``plugin`` the bits that it is defined for
(:class:`edgeq.core.plugin_types.Quantiser`). :mod:`edgeq.keras.lowbit.wrap` puts them around a network's layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError
from edgeq.core.plugin_types import Quantiser

FLOAT = 32
"""The bits of what is not quantised: ``a32``."""


Ends = Literal["int8", "float"]


@dataclass(frozen=True)
class Scheme:
    """What is quantised, how, and to how many bits.

    ``weights``, ``activations``: names of quantisers; ``activations`` is "" where ``a`` is 32.
    ``w``, ``a``: bits. ``channel``: a step for each output channel instead of one a layer, which is what the papers have.
    """

    weights: str
    activations: str
    w: int
    a: int
    channel: bool = False

    def __str__(self) -> str:
        if self == PORTABLE:
            return "tfmot:portable"
        if _one_bit(_method(self.weights)):
            return self.weights
        method = self.weights if self.activations in ("", self.weights) else f"{self.activations}+{self.weights}"
        return f"{method}:w{self.w}a{self.a}" + (":channel" if self.channel else "")

    @property
    def slug(self) -> str:
        """For file names: ``lsq-w4a4``."""
        return str(self).removeprefix("tfmot:").replace(":", "-").replace("+", "-")

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody who wants to ship it should know before training."""
        return _method(self.weights).notes(self.w)


PORTABLE = Scheme("portable", "portable", 6, 8, True)
"""One function on every runtime, see :mod:`.portable`: 6-bit weights that int8 holds four times over, 8-bit activations."""


def known() -> list[str]:
    """How quantisers are spelled, without their bits: each by its name, and those of activations alone with others' weights
    (``pact+lsq``)."""
    methods = {name: method for name, method in plugins.working(plugins.QUANTISERS).items() if method.spelled}
    alone = [name for name, method in methods.items() if method.weight_bits is None]
    with_bits = [name for name, method in methods.items() if method.weight_bits and not _one_bit(method)]
    return [*methods, *(f"{a}+{w}" for a in alone for w in with_bits)]


def parse(text: str) -> Scheme:
    """``lsq:w4a4``, ``dorefa:w2a32``, ``pact:w4a4`` (DoReFa weights), ``pact+lsq:w4a4``, ``binarynet`` ..., ``tfmot:portable``.

    ``:channel`` behind it asks for one step a channel. Raises :class:`EdgeqError`, naming the nearest that is valid.
    """
    if text == "tfmot:portable":
        return PORTABLE
    name, *rest = text.split(":")
    plugins.choose("quantiser", name, [*known(), "float", "tfmot"])
    if name in ("float", "tfmot"):
        raise EdgeqError(f"{text}: write {'tfmot:int8 or tfmot:portable' if name == 'tfmot' else 'float alone'}")
    channel = rest[-1:] == ["channel"]
    bits = rest[:-1] if channel else rest
    first, _, second = name.partition("+")
    alone = _method(first).weight_bits is None  # a quantiser of activations
    weights = second or _method(first).beside if alone else first
    (low, high), limits = _method(weights).weight_bits or (1, 8), _method(first).activation_bits
    if _one_bit(_method(first)):
        if rest:
            raise EdgeqError(f"{text}: {name} has one width and one scale; write {name}")
        return Scheme(name, name if limits else "", 1, 1 if limits else FLOAT)
    match = re.fullmatch(r"w(\d{1,3})a(\d{1,3})", bits[0]) if len(bits) == 1 else None
    if match is None:
        raise EdgeqError(f"{text}: the bits of weights and activations are missing or not understood; write {name}:w4a4 or {name}:w4a32")
    w, a = int(match[1]), int(match[2])
    nearest_w = _nearest(w, (low, high))
    if alone and a == FLOAT:
        raise EdgeqError(f"{text}: {first} is a quantiser of activations; for weights alone write {weights}:w{nearest_w}a32")
    floats = limits is None or (a > 20 and not alone)  # of 8 bits or fewer and 32, whichever is nearer
    near = f"{name}:w{nearest_w}a{FLOAT if limits is None or floats else _nearest(a, limits)}" + (":channel" if channel else "")
    if near != text:
        takes = [f"{limits[0]} to {limits[1]}"] if limits else []
        takes += ["32"] if not alone else []
        raise EdgeqError(
            f"{text}: {name} takes weights of {low} to {high} bits and activations of {' or '.join(takes)}; the nearest is {near}"
        )
    return Scheme(weights, "" if a == FLOAT else first, w, a, channel)


def _method(name: str) -> Quantiser:
    return plugins.load(plugins.QUANTISERS, name)


def _one_bit(method: Quantiser) -> bool:
    return method.weight_bits == (1, 1)


def _nearest(bits: int, limits: tuple[int, int]) -> int:
    return min(max(bits, limits[0]), limits[1])
