"""Quantisers: how a network's weights and activations come to few levels, and how that is spelled. No TensorFlow up to here.

One method, one file: forward formula, pseudo-gradient and paper on one page. :mod:`.wrap` puts them around a network's layers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from edgeq.core import plugins
from edgeq.core.errors import EdgeqError

FLOAT = 32
"""The bits of what is not quantised: ``a32``."""


@dataclass(frozen=True)
class Method:
    """The bits a method is defined for, lowest and highest, for weights and for activations; None: it does not quantise these."""

    weights: tuple[int, int]
    activations: tuple[int, int] | None


METHODS = {
    "binaryconnect": Method((1, 1), None),
    "binarynet": Method((1, 1), (1, 1)),
    "dorefa": Method((1, 8), (1, 8)),
    "lsq": Method((2, 8), (1, 8)),  # at 1 bit its levels would be -1 and 0
}
PACT = {"pact": "dorefa", "pact+dorefa": "dorefa", "pact+lsq": "lsq"}
"""PACT quantises activations; the weights beside it are DoReFa's, as in its paper, or LSQ's."""
KNOWN = (*METHODS, *PACT)
Ends = Literal["int8", "float"]


@dataclass(frozen=True)
class Scheme:
    """What is quantised, how, and to how many bits.

    ``weights``: the method for weights, a key of ``METHODS``; ``activations``: "pact", or the same, or "" where ``a`` is 32.
    ``w``, ``a``: bits. ``channel``: a step for each output channel instead of one a layer, which is what the papers have.
    """

    weights: str
    activations: str
    w: int
    a: int
    channel: bool = False

    def __str__(self) -> str:
        if self.weights in ("binaryconnect", "binarynet"):
            return self.weights
        if self == PORTABLE:
            return "tfmot:portable"
        method = f"pact+{self.weights}" if self.activations == "pact" else self.weights
        return f"{method}:w{self.w}a{self.a}" + (":channel" if self.channel else "")

    @property
    def slug(self) -> str:
        """For file names: ``lsq-w4a4``."""
        return str(self).removeprefix("tfmot:").replace(":", "-").replace("+", "-")

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody who wants to ship it should know before training."""
        if self.weights == "dorefa" and self.w == 8:
            return ("DoReFa's 8-bit weights are odd multiples up to 255 of their step: no int8 kernel holds them; lsq:w8 fits",)
        if self.weights == "dorefa" and self.w == 4:
            return ("DoReFa's 4-bit weights are odd multiples up to 15 of their step: they fit int8, not packed INT4; lsq:w4 does",)
        return ()


PORTABLE = Scheme("portable", "portable", 6, 8, True)
"""One function on every runtime, see :mod:`.portable`: 6-bit weights that int8 holds four times over, 8-bit activations."""


def parse(text: str) -> Scheme:
    """``lsq:w4a4``, ``dorefa:w2a32``, ``pact:w4a4`` (DoReFa weights), ``pact+lsq:w4a4``, ``binarynet`` ..., ``tfmot:portable``.

    ``:channel`` behind it asks for one step a channel. Raises :class:`EdgeqError`, naming the nearest that is valid.
    """
    if text == "tfmot:portable":
        return PORTABLE
    name, *rest = text.split(":")
    plugins.choose("quantiser", name, [*KNOWN, "float", "tfmot"])
    if name in ("float", "tfmot"):
        raise EdgeqError(f"{text}: write {'tfmot:int8 or tfmot:portable' if name == 'tfmot' else 'float alone'}")
    channel = rest[-1:] == ["channel"]
    bits = rest[:-1] if channel else rest
    method = METHODS[PACT.get(name, name)]
    if name.startswith("binary"):
        if rest:
            raise EdgeqError(f"{text}: {name} has one width and one scale; write {name}")
        return Scheme(name, name if method.activations else "", 1, 1 if method.activations else FLOAT)
    found = re.fullmatch(r"w(\d{1,3})a(\d{1,3})", bits[0]) if len(bits) == 1 else None
    if found is None:
        raise EdgeqError(f"{text}: the bits of weights and activations are missing or not understood; write {name}:w4a4 or {name}:w4a32")
    w, a = int(found[1]), int(found[2])
    near = f"{name}:w{_nearest(w, method.weights)}a{_activations(name, a)}" + (":channel" if channel else "")
    if name in PACT and a == FLOAT:
        raise EdgeqError(
            f"{text}: pact is a quantiser of activations; for weights alone write {PACT[name]}:w{_nearest(w, method.weights)}a32"
        )
    if near != text:
        low, high = method.weights
        raise EdgeqError(
            f"{text}: {name} takes weights of {low} to {high} bits and activations of 1 to 8"
            + (" or 32" if name not in PACT else "") + f"; the nearest is {near}"
        )  # fmt: skip
    return Scheme(PACT.get(name, name), "" if a == FLOAT else name.partition("+")[0], w, a, channel)


def _nearest(bits: int, limits: tuple[int, int]) -> int:
    return min(max(bits, limits[0]), limits[1])


def _activations(name: str, bits: int) -> int:
    """8 or fewer, or 32: whichever is nearer."""
    return FLOAT if bits > 20 and name not in PACT else _nearest(bits, (1, 8))
