"""The doubt that stands beside a number (docs/concepts.md: *Intervals*)."""

from __future__ import annotations

import math

import numpy as np


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of ``k`` in ``n`` (Wilson 1927), 95 % for z = 1.96; (0, 1) where n is 0.

    At k = 0 and k = n it still has a width, unlike the normal interval, and it never leaves [0, 1].
    """
    if n == 0:
        return 0.0, 1.0
    p, shrink = k / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / shrink
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / shrink
    return (0.0 if k == 0 else max(0.0, centre - half)), (1.0 if k == n else min(1.0, centre + half))


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Exact two-sided p-value that ``a`` and ``b``, ``(n,) bool`` on the same rows, are right equally often (McNemar 1947).

    Only discordant rows speak: under the null hypothesis the rows where ``a`` alone is right are binomial(discordant, 1/2). Summed in
    logarithms, so that 10,000 rows neither overflow nor underflow to a wrong p.
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, least = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    log = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(least + 1)]
    top = max(log)
    return min(1.0, 2 * math.exp(top) * math.fsum(math.exp(v - top) for v in log))
