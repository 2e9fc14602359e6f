"""AVERAGE_POOL_2D and MAX_POOL_2D. Both keep scale and zero point."""

from __future__ import annotations

import numpy as np

from edgeq.integer.ops import Call, Step, clamp_range, limits, padding


def taps(call: Call, fill: int) -> Step:
    o, size = call.op.options, call.given.shape[:2]
    pads = padding(size, o["window"], o["stride"], (1, 1), o["padding"] == "same")
    (sh, sw), (oh, ow) = o["stride"], call.output.shape[:2]

    def all_of(x: np.ndarray):  # type: ignore[no-untyped-def]
        padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
        for i in range(o["window"][0]):
            for j in range(o["window"][1]):
                yield padded[:, i : i + (oh - 1) * sh + 1 : sh, j : j + (ow - 1) * sw + 1 : sw]

    return all_of


def average_pool(call: Call) -> Step:
    """The mean of the codes inside the image, halves away from code 0 (TFLite ``AveragePool``), or from another, the ``centre``."""
    inside, (lo, hi) = taps(call, 0), clamp_range(call)
    centre = int(call.op.options.get("centre", 0))
    count = sum(t.astype(np.int32) for t in inside(np.ones((1, *call.given.shape[:2], 1), np.int8)))

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        total = np.zeros((len(x), *call.output.shape), np.int32)
        for tap in inside(x):
            total += tap
        total -= centre * count
        mean = np.sign(total) * ((np.abs(total) + count // 2) // count) + centre
        return np.clip(mean, lo, hi).astype(call.output.dtype)

    return run


def max_pool(call: Call) -> Step:
    inside, (lo, hi) = taps(call, limits(call.given.dtype)[0]), clamp_range(call)

    def run(x: np.ndarray, *_: np.ndarray) -> np.ndarray:
        result = np.full((len(x), *call.output.shape), lo, x.dtype)
        for tap in inside(x):
            np.maximum(result, tap, out=result)
        return np.minimum(result, hi).astype(x.dtype)

    return run
