"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops import Call, Step, limits
from edgeq.integer.rounding import Int


def nearest(call: Call) -> Step:
    """TFLite ``ResizeNearestNeighbor``: source positions in float32."""
    rows, columns = (_nearest(n, m, call) for n, m in zip(call.given.shape[:2], call.op.options["size"], strict=True))
    return lambda x, *_: x[:, rows[:, None], columns]


def _nearest(size: int, out: int, call: Call) -> np.ndarray:
    corners, centres = call.op.options["align_corners"], call.op.options["half_pixel_centers"]
    scale = np.float32(size - 1) / np.float32(out - 1) if corners and out > 1 else np.float32(size) / np.float32(out)
    position = (np.arange(out, dtype=np.float32) + np.float32(0.5 if centres else 0)) * scale
    source = np.floor(position + np.float32(0.5)) if corners else np.floor(position)
    return np.clip(source.astype(np.int64), 0, size - 1)


def bilinear(call: Call) -> Step:
    """int8: fixed point; uint8: float32; XNNPACK: 11-bit weights."""
    if call.xnnpack:
        return _eleven_bits(call)
    return _ten_bits(call) if call.given.dtype == "int8" else _float(call)


def _places(size: int, out: int, call: Call) -> tuple[Int, Int, np.ndarray]:
    """Two neighbours and how far from the first, float32."""
    corners, centres = call.op.options["align_corners"], call.op.options["half_pixel_centers"]
    scale = np.float32(size - 1) / np.float32(out - 1) if corners and out > 1 else np.float32(size) / np.float32(out)
    i = np.arange(out, dtype=np.float32)
    position = (i + np.float32(0.5)) * scale - np.float32(0.5) if centres else i * scale
    if call.xnnpack:
        position = np.clip(position, 0, np.float32(size - 1))
    low = np.maximum(np.floor(position).astype(np.int64), 0)
    high = np.minimum(low + 1 if call.xnnpack else np.ceil(position).astype(np.int64), size - 1)
    return low, np.maximum(high, 0), position - low.astype(np.float32)


def _float(call: Call) -> Step:
    """TFLite ``ResizeBilinear`` in float32, plus a half, cut off."""
    rows, columns = (_places(n, m, call) for n, m in zip(call.given.shape[:2], call.op.options["size"], strict=True))
    (top, bottom, down), (left, right, across) = rows, columns
    down, across, one = down[:, None, None], across[:, None], np.float32(1)

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        above, below = x[:, top].astype(np.float32), x[:, bottom].astype(np.float32)
        total = above[:, :, left] * (one - down) * (one - across) + below[:, :, left] * down * (one - across)
        total = total + above[:, :, right] * (one - down) * across + below[:, :, right] * down * across
        return (total + np.float32(0.5)).astype(call.output.dtype)

    return run


def _eleven_bits(call: Call) -> Step:
    """XNNPACK ``ibilinear``: weights with 11 fractional bits, one rounding, halves up."""
    rows, columns = (_places(n, m, call) for n, m in zip(call.given.shape[:2], call.op.options["size"], strict=True))
    (top, bottom, down), (left, right, across) = rows, columns
    v, h = (np.rint(d * np.float32(2048)).astype(np.int64) for d in (down[:, None, None], across[:, None]))

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        x = x.astype(np.int64)
        above, below = x[:, top], x[:, bottom]
        upper = (above[:, :, left] << 11) + (above[:, :, right] - above[:, :, left]) * h
        lower = (below[:, :, left] << 11) + (below[:, :, right] - below[:, :, left]) * h
        return (((upper << 11) + (lower - upper) * v + 2**21) >> 22).astype(call.output.dtype)

    return run


def _ten_bits(call: Call) -> Step:
    """TFLite ``ResizeBilinearInteger``: positions with 10 fractional bits, the sum of four rounded half away from zero."""
    rows, columns = (_positions(n, m, call) for n, m in zip(call.given.shape[:2], call.op.options["size"], strict=True))
    lo, hi = limits(call.output.dtype)
    (top, bottom, down), (left, right, across) = rows, columns
    down, across = down[:, None, None], across[:, None]

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        x = x.astype(np.int64)
        above, below = x[:, top], x[:, bottom]
        total = (above[:, :, left] * (1024 - down) + below[:, :, left] * down) * (1024 - across)
        total += (above[:, :, right] * (1024 - down) + below[:, :, right] * down) * across
        half = np.where(total > 0, 2**19, -(2**19))
        result = np.sign(total + half) * (np.abs(total + half) >> 20)
        return np.clip(result, lo, hi).astype(call.output.dtype)

    return run


def _positions(size: int, out: int, call: Call) -> tuple[Int, Int, Int]:
    corners, centres = call.op.options["align_corners"], call.op.options["half_pixel_centers"]
    scale = ((1 << 10) * size + out // 2) // out
    if corners and out > 1:
        scale = ((1 << 10) * (size - 1) + (out - 1) // 2) // (out - 1)
    position = np.arange(out, dtype=np.int64) * scale
    if centres:
        position += scale // 2 - (1 << 9)
    low = np.maximum(position >> 10, 0)
    high = np.minimum((position + 1023) >> 10, size - 1)
    return low, np.maximum(high, 0), position - (low << 10)
