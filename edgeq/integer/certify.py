"""Scales and biases that give a layer's trained integer thresholds under *every* runtime's requantisation, and the proof.

A low-bit layer is trained as thresholds on its integer accumulator: the level of ``A = sum w q`` is the number of thresholds that ``A``
reaches. An int8 kernel computes ``clamp(zero + f(K A + B))`` instead, with K-fold weights, an int32 bias B, and an ``f`` that rounds
``M (K A + B)`` in its own way. All these ``f`` are monotone in the accumulator, so the two are equal for every input if they are equal at
``T_k - 1`` and ``T_k`` for every threshold ``T_k``: that is the check, made with the kernels' own formulas.

The line ``M K A + c`` that keeps the largest distance from all rounding thresholds is a linear programme in (M, c, distance). With ``c``
eliminated its objective is concave and piecewise linear in ``M`` alone, so bisection on the slope solves it, for all channels at once and
without a solver. As ``c = M B`` must hit an integer B, and formulas round twice, integer biases around the optimum are tried with
multipliers from the interval that each leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgeq.integer.rounding import FORMULAS, RUNTIMES, double_rounding, multipliers

LARGEST = 127  # of the stored weights' magnitudes
_HIGHEST = 0.5  # multipliers stay below: fixed-point formulas would shift the accumulator to the left
Formula = Callable[..., np.ndarray]
_BIASES = 16  # integer biases tried on each side of the optimum
_MULTIPLIERS = 65  # tried for each


@dataclass(frozen=True, eq=False)
class Certificate:
    """How one layer is stored, and for which runtimes that is proven to be the trained function.

    ``weights``: int8, ``factor`` (``(out,)`` int64) times the trained ones. ``scale``: ``(out,)`` float32, of the weights. ``bias``:
    ``(out,)`` int32. ``certified``: ``(out, len(runtimes)) bool``: equal to the trained thresholds for every input. ``margin``: ``(out,)``,
    in steps of the output: how far the exact ``M (K A + B)`` stays away from a rounding threshold; below 0 no line fits.
    """

    weights: np.ndarray
    factor: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    runtimes: tuple[str, ...]
    certified: np.ndarray
    margin: np.ndarray

    @property
    def channels(self) -> np.ndarray:
        """``(out,) bool``: the channels that are proven for all the runtimes."""
        return np.asarray(self.certified.all(axis=1))

    @property
    def share(self) -> float:
        """Of the channels that are proven for all the runtimes."""
        return float(self.channels.mean())

    def share_of(self, runtime: str) -> float:
        return float(self.certified[:, self.runtimes.index(runtime)].mean())


class _Points(NamedTuple):
    """Where a channel is checked. At accumulator ``reach`` the output must be at least ``level``, at ``stay`` below it; ``(out, L)`` each.

    ``must``, ``may``: whether that accumulator occurs at all.
    """

    reach: np.ndarray
    stay: np.ndarray
    must: np.ndarray
    may: np.ndarray
    level: np.ndarray  # (L,)

    def of(self, channel: int) -> _Points:
        i = slice(channel, channel + 1)
        return _Points(self.reach[i], self.stay[i], self.must[i], self.may[i], self.level)


def certify_layer(
    weights: np.ndarray,
    thresholds: np.ndarray,
    given: tuple[int, int],
    *,
    low: int = 0,
    kind: str = "conv",
    scale_in: float = 1.0,
    scale_out: float = 1.0,
    int4: bool = False,
    runtimes: Sequence[str] = RUNTIMES,
) -> Certificate:
    """Scale and bias of a layer whose outputs are levels ``low .. low + L``, counted from the output's zero point.

    ``weights``: the trained integers, laid out as ``kind`` ("conv", "depthwise", "dense") stores them. ``thresholds``: ``(out, L)``
    integers that ascend: the output is ``low + k`` where the accumulator reaches exactly k of them. ``given``: lowest and highest value
    of an input less its zero point; 0, with which kernels pad, is always counted in. ``scale_in``, ``scale_out``: of the activations;
    any values do, only ``M = scale_in * scale / scale_out`` matters. ``low`` and ``low + L`` must be where the kernel clamps.
    ``int4``: the weights shall fit INT4. ``runtimes``: to be proven for; ONNX Runtime's QLinearConv computes as "litert-xnnpack" does,
    with int8 weights only.
    Raises ValueError for weights beyond 127 and thresholds that descend.
    """
    axis = weights.ndim - 1 if kind == "depthwise" else 0
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.int64)
    if np.abs(rows).max(initial=0) > LARGEST or thresholds.shape[0] != len(rows) or np.any(np.diff(thresholds, axis=1) < 0):
        raise ValueError(f"weights beyond {LARGEST}, or thresholds that do not ascend, one row for each of {len(rows)} channels")
    factor = np.maximum((7 if int4 else LARGEST) // np.maximum(np.abs(rows).max(axis=1), 1), 1)
    points, extent = _points(factor[:, None] * rows, factor, np.asarray(thresholds, np.int64), given, low)
    left = int4 and (kind != "dense" or rows.shape[1] % 2 == 1)
    layer = _Layer.of(kind, len(rows), tuple(runtimes), scale_in, scale_out, int4, left)
    multiplier, offset = _widest_line(points, extent)
    bias = np.rint(offset / multiplier).astype(np.int64)
    scale = (multiplier * layer.ratio).astype(np.float32)
    certified, margin = layer.proven(points, extent, scale, bias), _margin(points, scale / layer.ratio, bias)
    for i in map(int, np.flatnonzero(~certified.all(axis=1))):
        point = points.of(i)
        tried_bias, tried = _candidates(point, int(bias[i]))
        if not len(tried):
            continue
        tried_scale = (tried * layer.ratio).astype(np.float32)
        proven = layer.proven(point, extent[i], tried_scale, tried_bias)
        margins = _margin(point, tried_scale / layer.ratio, tried_bias)
        best = int(np.lexsort((margins, proven.sum(axis=1)))[-1])
        if proven[best].sum() >= certified[i].sum():
            scale[i], bias[i], certified[i], margin[i] = tried_scale[best], tried_bias[best], proven[best], margins[best]
    stored = np.moveaxis((factor[:, None] * rows).reshape(np.moveaxis(weights, axis, 0).shape), 0, axis).astype(np.int8)
    return Certificate(stored, factor, scale, np.clip(bias, -(2**31), 2**31 - 1).astype(np.int32), layer.runtimes, certified, margin)


class _Layer(NamedTuple):
    """The requantisation of one layer."""

    runtimes: tuple[str, ...]
    formulas: tuple[tuple[Formula, ...], ...]  # of each runtime: all that it uses for channels of this layer
    scale_in: np.float32
    scale_out: np.float32
    lone: bool  # one scale for a dense layer, which one runtime multiplies in float32
    floating: tuple[bool, ...]  # of each runtime: it computes the layer in floats, so nothing is certified

    @classmethod
    def of(cls, kind: str, channels: int, runtimes: tuple[str, ...], scale_in: float, scale_out: float, int4: bool, left: bool) -> _Layer:
        """``int4``: of the weights, which ONNX Runtime turns into floats; ``left``: which XNNPACK leaves to the builtin kernels."""
        # the builtin depthwise kernel takes channels in blocks and rounds those that are left over as the reference does
        second = {("litert-builtin", "depthwise"): (double_rounding,)}
        kernels = ["litert-builtin" if left and r == "litert-xnnpack" else r for r in runtimes]
        formulas = tuple((FORMULAS[r, kind], *second.get((r, kind), ())) for r in kernels)
        floating = tuple(int4 and r == "ort" for r in runtimes)
        return cls(runtimes, formulas, np.float32(scale_in), np.float32(scale_out), kind == "dense" and channels == 1, floating)

    @property
    def ratio(self) -> float:
        return float(self.scale_out) / float(self.scale_in)

    def proven(self, points: _Points, extent: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """``(j, runtimes) bool``: whether the trained levels come out at every point, of j channels, or of one with j scales and biases."""
        product = self.scale_in.astype(np.float64) * scale.astype(np.float64)
        fits = extent + np.abs(bias) < 2**31
        if self.lone:
            fits &= product == self.scale_in * scale
        real = product / self.scale_out.astype(np.float64)
        holds = {}
        for formula in {f for some in self.formulas for f in some}:
            parameters = multipliers(formula, self.scale_in * scale / self.scale_out, real)
            holds[formula] = _holds(points, bias, formula, tuple(p[:, None] for p in parameters)) & fits
        certain = np.stack([np.all([holds[f] for f in some], axis=0) for some in self.formulas], axis=1)
        return certain & ~np.array(self.floating)


def _points(
    weights: np.ndarray, factor: np.ndarray, thresholds: np.ndarray, given: tuple[int, int], low: int
) -> tuple[_Points, np.ndarray]:
    """The points to check, on the K-fold accumulator without bias, and the largest magnitude that it takes in each channel."""
    below, above = min(given[0], 0), max(given[1], 0)
    negative, positive = np.minimum(weights, 0).sum(axis=1), np.maximum(weights, 0).sum(axis=1)
    first, last = positive * below + negative * above, positive * above + negative * below
    lowest, highest = first[:, None], last[:, None]
    stays = factor[:, None] * (thresholds - 1)
    reaches = factor[:, None] * thresholds
    level = low + 1 + np.arange(thresholds.shape[1])
    return (
        _Points(np.maximum(reaches, lowest), np.minimum(stays, highest), reaches <= highest, stays >= lowest, level),
        np.maximum(-first, last),
    )


def _widest_line(points: _Points, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(M, c)``, ``(out,)`` each: ``M x + c`` with the largest distance to ``level - 1/2`` on the right sides of it.

    The distance is ``(min_k (y_k - M stay_k) + min_k (M reach_k - y_k)) / 2``, concave in M.
    """
    y, rows = points.level - 0.5, np.arange(len(points.reach))
    low, high = np.zeros(len(rows)), np.full(len(rows), _HIGHEST)

    def sides(m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        above = np.where(points.may, y - m[:, None] * points.stay, np.inf)
        below = np.where(points.must, m[:, None] * points.reach - y, np.inf)
        return above, below

    for _ in range(64):
        m = (low + high) / 2
        above, below = sides(m)
        i, j = above.argmin(axis=1), below.argmin(axis=1)
        bounded = np.isfinite(above[rows, i]) & np.isfinite(below[rows, j])
        rising = (points.reach[rows, j] > points.stay[rows, i]) & bounded
        low, high = np.where(rising, m, low), np.where(rising, high, m)
    m = (low + high) / 2
    flat = np.minimum(2.0**-20, 0.25 / np.maximum(extent, 1))  # where all inputs give one level: any slope that stays on it
    m = np.where(m < 2.0**-40, flat, m)
    above, below = (side.min(axis=1) for side in sides(m))
    c = np.where(np.isfinite(above), above, -below + 1) - np.where(np.isfinite(below), below, 1 - above)
    return m, c / 2


def _margin(points: _Points, multiplier: np.ndarray, bias: np.ndarray) -> np.ndarray:
    m, b, y = multiplier.astype(np.float64)[:, None], bias[:, None], points.level - 0.5
    above = np.where(points.may, y - m * (points.stay + b), np.inf)
    below = np.where(points.must, m * (points.reach + b) - y, np.inf)
    return np.minimum(above, below).min(axis=1)


def _holds(points: _Points, bias: np.ndarray, formula: Formula, parameters: tuple[np.ndarray, ...]) -> np.ndarray:
    b = bias[:, None]
    reached = formula(points.reach + b, *parameters) >= points.level
    stayed = formula(points.stay + b, *parameters) < points.level
    return np.asarray(((reached | ~points.must) & (stayed | ~points.may)).all(axis=1))


def _candidates(points: _Points, bias: int) -> tuple[np.ndarray, np.ndarray]:
    """Integer biases around ``bias``, each with multipliers spread over the interval that its inequalities leave: ``(j,)`` each."""
    b = bias + np.arange(-_BIASES, _BIASES + 1)
    y = points.level - 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        reach, stay = points.reach + b[:, None], points.stay + b[:, None]
        at, to = y / reach, y / stay
        # M reach >= y and M stay <= y
        low = np.maximum(np.where(points.must & (reach > 0), at, 0), np.where(points.may & (stay < 0), to, 0)).max(axis=1)
        high = np.minimum(np.where(points.must & (reach < 0), at, np.inf), np.where(points.may & (stay > 0), to, np.inf)).min(axis=1)
    high = np.minimum(high, _HIGHEST)
    fits = low < high
    steps = np.arange(1, _MULTIPLIERS + 1) / (_MULTIPLIERS + 1)
    m = low[fits, None] + (high - low)[fits, None] * steps
    return np.repeat(b[fits], _MULTIPLIERS), m.reshape(-1)
