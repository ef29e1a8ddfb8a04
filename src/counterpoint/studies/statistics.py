"""What repetitions say: means and intervals, paired tests, Holm's correction, ranks.

A repetition is a seed or a fold. Methods meet the same repetitions, so differences are
paired. With n repetitions, values x_i and differences d_i are taken as normal:

    mean ± t_{n−1} · s/√n        95 % interval, s the sample standard deviation
    t = mean(d) / (s_d/√n)       paired t-test, two-sided

Seeds of one data set share its rows, and folds share most of their training rows. The
tests therefore speak of these data, not of new ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from counterpoint.metrics import Direction

LEVEL = 0.95
"""Of intervals; tests reject below one minus it."""


@dataclass(frozen=True)
class Summary:
    """The mean over repetitions.

    Args:
        mean: the mean.
        n: how many there are.
        std: sample standard deviation; None for one repetition.
        interval: 95 % interval of the mean; None for one repetition.
    """

    mean: float
    n: int
    std: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Difference:
    """A paired difference.

    Args:
        mean: mean of ours minus theirs.
        interval: 95 % interval of it; None for one pair.
        p: of the paired t-test, two-sided; None for one pair.
        n: the number of pairs.
    """

    mean: float
    n: int
    interval: tuple[float, float] | None = None
    p: float | None = None


def summary(values: Sequence[float]) -> Summary:
    """Summarise values over repetitions.

    >>> of_three = summary([0.9, 0.92, 0.94])
    >>> round(of_three.mean, 3), round(of_three.std, 3), [round(x, 3) for x in of_three.interval]
    (0.92, 0.02, [0.87, 0.97])
    """
    mean, n = float(np.mean(values)), len(values)
    if n == 1:
        return Summary(mean, 1)
    std = float(np.std(values, ddof=1))
    half = _quantile(n - 1) * std / math.sqrt(n)
    return Summary(mean, n, std, (mean - half, mean + half))


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Compare two methods over the same repetitions.

    >>> better = paired([0.9, 0.92, 0.94], [0.8, 0.83, 0.83])
    >>> round(better.mean, 3), round(better.p, 4)
    (0.1, 0.0033)
    """
    from scipy.stats import t

    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    found = summary(differences.tolist())
    if found.std is None:
        return Difference(found.mean, 1)
    std = float(np.std(differences, ddof=1))
    if std <= 1e-12 * max(1.0, float(np.abs(differences).max())):  # no difference varies
        p = 1.0 if found.mean == 0 else 0.0
    else:
        p = 2 * float(
            t.sf(abs(float(np.mean(differences))) / (std / math.sqrt(found.n)), found.n - 1)
        )
    return Difference(found.mean, found.n, found.interval, p)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values of one family for their number (Holm, 1979,
    https://www.jstor.org/stable/4615733).

    >>> {name: round(p, 3) for name, p in holm({"a": 0.01, "b": 0.04, "c": 0.03}).items()}
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected = {}
    largest = 0.0
    for index, (name, value) in enumerate(sorted(p.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(p) - index) * value))
        corrected[name] = largest
    return corrected


def mean_ranks(values: Mapping[str, Sequence[float]], better: Direction) -> dict[str, float]:
    """Average ranks over repetitions, 1 for the best; ties share theirs.

    >>> mean_ranks({"a": [0.9, 0.8], "b": [0.7, 0.8]}, "higher")
    {'a': 1.25, 'b': 1.75}
    """
    from scipy.stats import rankdata

    table: Any = np.array([*values.values()], float)
    ranks = rankdata(-table if better == "higher" else table, axis=0)
    return {name: float(mean) for name, mean in zip(values, ranks.mean(1), strict=True)}


def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.5 + LEVEL / 2, freedom))
