"""What the benchmarks say of ratios that were measured in turns."""

from __future__ import annotations

import itertools
import math
import os
import statistics
from collections.abc import Sequence


def summary(ratios: Sequence[float]) -> str:
    """The median with its 95 % confidence interval from order statistics, the extremes, and how busy the machine was."""
    n, ordered = len(ratios), sorted(ratios)
    below = itertools.accumulate(math.comb(n, k) / 2**n for k in range(n))
    cut = sum(share <= 0.025 for share in below)  # so many at either end lie outside
    low, high = ordered[max(cut - 1, 0)], ordered[min(n - cut, n - 1)]
    load = ", ".join(f"{average:.2f}" for average in os.getloadavg())
    rounds = f"{n} rounds, {ordered[0]:.3f} to {ordered[-1]:.3f}; load average {load}"
    return f"ratio: median {statistics.median(ratios):.3f} [{low:.3f}, {high:.3f}], {rounds}"
