"""95 % confidence intervals of accuracies."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal


def accuracy(hits: Array) -> tuple[float, tuple[float, float]]:
    """Average the accuracies of the columns, with a 95 % interval.

    The interval is Wilson's (1927) with the effective number of rows p(1−p)/Var(p).
    The variance is clustered by row, because the columns (modalities) judge the same
    examples. If it is zero, the row count of the smallest column replaces it.

    Args:
        hits: (N, G) of 1, 0 and NaN (does not count); no column is all NaN.

    >>> value, (low, high) = accuracy(np.array([[1.0], [1.0], [0.0], [np.nan]]))
    >>> round(value, 3), low < value < high
    (0.667, True)
    """
    counted = ~np.isnan(hits)
    rows = counted.sum(0)
    columns = np.nanmean(hits, 0)
    p = float(columns.mean())
    influence = np.where(counted, hits - columns, 0.0) / rows  # of each row on its column
    variance = float((influence.mean(1) ** 2).sum())
    size = p * (1 - p) / variance if variance > 0 else float(rows.min())
    return p, wilson(p, size)


def wilson(p: float, n: float) -> tuple[float, float]:
    """Compute Wilson's 95 % score interval of a proportion ``p`` seen in ``n`` trials.

    >>> [round(end, 3) for end in wilson(0.5, 100)]
    [0.404, 0.596]
    """
    centre = p + Z95**2 / (2 * n)
    variance = p * (1 - p) / n
    spread = Z95 * sqrt(variance + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    low = (centre - spread) / scale
    high = (centre + spread) / scale
    return (0.0 if p <= 0 else max(0.0, low)), (1.0 if p >= 1 else min(1.0, high))
