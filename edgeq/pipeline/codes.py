"""From a pixel to the code that enters the network, and to the real value the network sees (docs/concepts.md: *Pixel to input*)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.core.errors import EdgeqError
from edgeq.core.signature import DTYPES, Tensor
from edgeq.pipeline.preprocess import Preprocess

_SPANS = ((0.0, 255.0), (-1.0, 1.0), (0.0, 1.0))
_REMEDY = "pass --preprocess mean=..,std=.. (a pixel p enters as (p - mean) / std)"


@dataclass(frozen=True, eq=False)
class PixelCodes:
    """What each of the 256 pixel values becomes, per channel.

    ``table``: ``(256, c)`` in the input's dtype; ``shift``: ``q = p + shift`` where the map is that, else None;
    ``real``: ``(256, c) float32``, the dequantised value the network sees.
    """

    table: np.ndarray
    shift: int | None
    real: np.ndarray

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PixelCodes) and self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    def _value(self) -> tuple[object, ...]:
        return self.shift, str(self.table.dtype), self.table.shape, self.table.tobytes(), self.real.tobytes()

    @classmethod
    def of_reals(cls, real: np.ndarray) -> PixelCodes:
        """The map of a float input that is fed ``real``, ``(256, c)`` or ``(256,)``."""
        table = np.ascontiguousarray(np.asarray(real, np.float32).reshape(256, -1))
        return cls(table, None, table)

    def encode(self, images: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """``(m, h, w, c) uint8`` as ``(m, h, w, c)`` in the input's dtype, into ``out`` if given. A shift makes no temporaries."""
        if out is None:
            out = np.empty(images.shape, self.table.dtype)
        if self.shift == 0:
            np.copyto(out, images)
        elif self.shift == -128:
            np.bitwise_xor(images, np.uint8(0x80), out=out.view(np.uint8))  # p - 128, as two's complement
        else:
            self._look_up(images, out)
        return out

    def _look_up(self, images: np.ndarray, out: np.ndarray) -> None:
        same = bool((self.table == self.table[:, :1]).all())
        columns = np.ascontiguousarray(self.table.T)
        step = max(1, (1 << 16) // max(1, images[:1].size))  # numpy widens indices to 64 bits: in blocks that stay in the cache
        for at in range(0, len(images), step):
            block, into = images[at : at + step], out[at : at + step]
            if same:
                np.take(columns[0], block, out=into, mode="clip")  # any other mode buffers
            else:
                for c in range(images.shape[-1]):
                    into[..., c] = columns[c][block[..., c]]

    @property
    def used(self) -> int:
        """How many codes occur, of a channel with the fewest."""
        return min(len(np.unique(column)) for column in self.table.T)

    def describe(self) -> str:
        """``"shift q = p - 128; 256 of 256 codes used"``."""
        if self.shift is not None:
            rule = "q = p" if self.shift == 0 else f"q = p - {-self.shift}"
            return f"shift {rule}; {self.used} of 256 codes used"
        low, high = float(self.real.min()), float(self.real.max())
        if self.table.dtype.kind == "f":
            return f"{self.table.dtype} {low:.4g}..{high:.4g}; {self.used} of 256 values used"
        codes = min(256, 2 ** (8 * self.table.dtype.itemsize))
        return f"stated normalisation rounded to {self.table.dtype} ({low:.4g}..{high:.4g}); {self.used} of {codes} codes used"

    def to_json(self) -> dict[str, Any]:
        return {"dtype": str(self.table.dtype), "shift": self.shift, "table": self.table.tolist(), "real": self.real.tolist()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PixelCodes:
        """What :meth:`to_json` gave. Raises ValueError, TypeError, KeyError or OverflowError for anything that is no such map."""
        if value["dtype"] not in DTYPES:
            raise ValueError("pixel codes of no known type")
        with np.errstate(all="ignore"):
            table, real, shift = np.array(value["table"], value["dtype"]), np.array(value["real"], np.float32), value["shift"]
        if table.ndim != 2 or len(table) != 256 or real.shape != table.shape or not np.isfinite(real).all():
            raise ValueError("pixel codes that are not 256 a channel")
        if shift is not None and (type(shift) is not int or not (table.astype(object) == np.arange(256)[:, None] + shift).all()):
            raise ValueError("pixel codes that are not the shift they are called")
        return cls(table, shift, real)


def codes_for(tensor: Tensor, preprocess: Preprocess, where: str) -> PixelCodes:
    """The map for an input ``tensor`` of the file ``where``.

    Where the device copies bytes, ``q = p`` in an unsigned input, ``q = p - 128`` in an int8 one, and a float input takes 0..255. Else
    8-bit inputs whose codes span 0..255, -1..1 or 0..1 within one LSB: the shift ``q = p + q_min``. That is also taken where a stated
    mean and std come within one code of it (a device copies bytes there). Otherwise the stated mean and std, rounded to the nearest
    code, ties away from zero as TFLite's QUANTIZE does, and clipped. Float inputs take ``(p - mean) / std`` as it is.
    Raises :class:`EdgeqError` where mean and std are needed and not stated.
    """
    dtype, channels = np.dtype(tensor.dtype), tensor.shape[-1]
    if dtype.kind not in "iuf":
        raise EdgeqError(f"{where}: takes {tensor.dtype} at its input, which is no image")
    stated = _stated_real(preprocess, channels)
    if preprocess.bytes and dtype.kind == "f":
        stated = np.repeat(np.arange(256.0)[:, None], channels, axis=1)
    if dtype.kind == "f":
        if stated is None:
            raise EdgeqError(f"{where}: takes floats and does not say what they mean; {_REMEDY}")
        table = stated.astype(dtype)
        return PixelCodes(table, None, table.astype(np.float32))
    shift = min(int(np.iinfo(dtype).min), 0) if preprocess.bytes and dtype.itemsize == 1 else _shift(tensor, dtype)
    if preprocess.bytes and dtype.itemsize > 1:
        raise EdgeqError(f"{where}: takes {tensor.dtype} at its input, into which no bytes are copied; {_REMEDY}")
    pixels = np.repeat(np.arange(256)[:, None], channels, axis=1)
    if stated is None:
        if shift is None:
            low, high = (tensor.scale * (int(q) - tensor.zero) for q in (np.iinfo(dtype).min, np.iinfo(dtype).max))
            raise EdgeqError(f"{where}: its input codes span {low:.4g}..{high:.4g}, and it does not say what a pixel is; {_REMEDY}")
        table = pixels + shift
    else:
        table = np.clip(_round(stated / tensor.scale) + tensor.zero, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(np.int64)
        if shift is not None and np.abs(table - pixels - shift).max() <= 1:
            table = pixels + shift
    is_shift = shift is not None and bool((table == pixels + shift).all())
    real = ((table - tensor.zero) * tensor.scale).astype(np.float32)
    return PixelCodes(table.astype(dtype), shift if is_shift else None, real)


def _shift(tensor: Tensor, dtype: np.dtype[Any]) -> int | None:
    """``q_min`` of an 8-bit input whose codes span a plain range of pixels within one LSB; else None."""
    if dtype.itemsize != 1:
        return None
    lowest = int(np.iinfo(dtype).min)
    low, high = tensor.scale * (lowest - tensor.zero), tensor.scale * (lowest + 255 - tensor.zero)
    lsb = tensor.scale * (1 + 1e-6)  # scales are float32: -1..127/128 is a whole LSB off, and means -1..1
    return lowest if any(abs(low - a) <= lsb and abs(high - b) <= lsb for a, b in _SPANS) else None


def _stated_real(preprocess: Preprocess, channels: int) -> np.ndarray | None:
    """``(256, c) float64``."""
    if preprocess.mean is None or preprocess.std is None:
        return None
    real = (np.arange(256.0)[:, None] - np.array(preprocess.mean)) / np.array(preprocess.std)
    return np.ascontiguousarray(np.broadcast_to(real, (256, channels)))


def _round(values: np.ndarray) -> np.ndarray:
    """To the nearest whole number, ties away from zero: C's ``round``."""
    return np.trunc(values + np.copysign(0.5, values))
