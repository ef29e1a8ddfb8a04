"""Scores: named numbers with their confidence intervals, and how intervals of
accuracies are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal

FEW_ROWS = 50
"""A figure on fewer rows is marked; HSIC, mutual information and Fréchet distances,
whose bias is then as large as what they measure, are left out."""

FEW_PER_CLASS = 5
"""A figure about a label is marked where some class has fewer rows."""


@dataclass
class Scores:
    """What one group of metrics found.

    Attributes:
        metrics: value by flat name.
        intervals: 95 % confidence interval by the same names, where one is known.
        left_out: why a metric is missing, by name.
        rows: on how many rows a metric rests, by name, where that is known; of several
            modalities the fewest.
        extra: further figures for the meta of the evaluation, JSON-able.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: float, interval: tuple[float, float] | None = None) -> None:
        """Keep a value; one that is not finite is left out, with the reason."""
        if not isfinite(value):
            self.left_out[name] = f"the value is {value}"
            return
        self.metrics[name] = float(value)
        if interval is not None:
            self.intervals[name] = interval

    def add_mean(
        self, name: str, values: Mapping[str, float], rows: Mapping[str, int] | None = None
    ) -> None:
        """Keep the mean over modalities (or pairs) under ``name`` and each one under
        ``name/<key>``, with the rows of each."""
        if not values:
            return
        self.add(name, float(np.mean(list(values.values()))))
        for key, value in values.items():
            self.add(f"{name}/{key}", value)
        if rows:
            self.rows |= {f"{name}/{key}": rows[key] for key in values} | {
                name: min(rows[key] for key in values)
            }

    def rest_on(self, rows: int) -> None:
        """Say of all metrics so far, but those whose rows are known, on how many rows
        they rest."""
        self.rows = {name: rows for name in self.metrics} | self.rows

    def add_accuracy(self, name: str, hits: Mapping[str, Array], *, each: bool = True) -> None:
        """Keep the mean accuracy over modalities (or pairs) under ``name`` and, if
        ``each``, every one under ``name/<key>``.

        Args:
            hits: by key, (N,) with 1 for right, 0 for wrong and NaN for rows that do
                not count; row i is the same example in all.
        """
        counted = {key: h for key, h in hits.items() if not np.isnan(h).all()}
        if not counted:
            self.left_out[name] = "no row to measure it on"
            return
        rows = {key: int((~np.isnan(h)).sum()) for key, h in counted.items()}
        self.add(name, *accuracy(np.stack(list(counted.values()), 1)))
        self.rows[name] = min(rows.values())
        for key, h in counted.items() if each else ():
            self.add(f"{name}/{key}", *accuracy(h[:, None]))
            self.rows[f"{name}/{key}"] = rows[key]

    def update(self, other: Scores) -> None:
        self.metrics.update(other.metrics)
        self.intervals.update(other.intervals)
        self.left_out.update(other.left_out)
        self.rows.update(other.rows)
        self.extra.update(other.extra)


def accuracy(hits: Array) -> tuple[float, tuple[float, float]]:
    """Mean over columns of the accuracy of each column, with its 95 % interval.

    The interval is Wilson's (1927) with the effective number of rows p(1−p)/Var(p). Var
    is clustered by row, because the columns (modalities) judge the same examples;
    without spread, the smallest column's row count stands in.

    Args:
        hits: (N, G) of 1, 0 and NaN (does not count); no column all NaN.
    """
    counted = ~np.isnan(hits)
    rows = counted.sum(0)
    columns = np.nanmean(hits, 0)
    p = float(columns.mean())
    influence = (
        np.where(counted, hits - columns, 0.0) / rows
    )  # what each row moves its column's accuracy by
    variance = float((influence.mean(1) ** 2).sum())
    return p, wilson(p, p * (1 - p) / variance if variance > 0 else float(rows.min()))


def wilson(p: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion ``p`` seen in ``n`` trials."""
    centre = p + Z95**2 / (2 * n)
    spread = Z95 * sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    scale = 1 + Z95**2 / n
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return (0.0 if p <= 0 else max(0.0, low)), (1.0 if p >= 1 else min(1.0, high))


def seed_of(seed: int, purpose: str) -> int:
    """An independent seed for each purpose, so that no metric's numbers depend on which
    others were asked for."""
    return int(np.random.SeedSequence([seed, crc32(purpose.encode())]).generate_state(1)[0])


def chosen(rows: int, most: int | None, seed: int) -> Array:
    """Sorted indices of ``min(rows, most)`` random rows of ``rows``; all of them when
    ``most`` is None."""
    if most is None or rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def chunks(rows: Array, size: int) -> Iterable[Array]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
