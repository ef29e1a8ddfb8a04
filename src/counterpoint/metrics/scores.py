"""The figures of one group of metrics while they are collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import numpy as np

from counterpoint.metrics.intervals import Array, accuracy
from counterpoint.metrics.score import FEW_PER_CLASS, FEW_ROWS, Metric, Score, Way


@dataclass(frozen=True)
class Chance:
    """The value that guessing has.

    >>> from counterpoint.metrics import Chance, Way
    >>> chance = Chance(0.1, {Way(target="a"): 0.2})
    >>> chance.of(Way(target="a")), chance.of(Way(target="b"))
    (0.2, 0.1)

    Args:
        value: of the mean over modalities.
        each: of single modalities or pairs; ``value`` for all others.
    """

    value: float
    each: Mapping[Way, float] = field(default_factory=dict)

    @staticmethod
    def mean(each: Mapping[Way, float]) -> Chance | None:
        """The chance of each, and their mean; None for no value.

        >>> from counterpoint.metrics import Chance, Way
        >>> Chance.mean({Way(target="a"): 0.5, Way(target="b"): 0.25}).value
        0.375
        """
        return Chance(float(np.mean(list(each.values()))), each) if each else None

    def of(self, way: Way) -> float:
        """The chance of one modality or pair; a target's is that of all pairs into it."""
        into = Way(target=way.target) if way.target else way
        return self.each.get(way, self.each.get(into, self.value))


@dataclass
class Scores:
    """The figures of a group.

    Attributes:
        records: the scores, in the order of measuring.
        left_out: why a metric is missing, by name.
        too_few: those of them that are missing because there are too few rows.
        extra: further figures for the meta of the evaluation, JSON-able.

    >>> from counterpoint.metrics import Metric, Scores
    >>> scores = Scores()
    >>> scores.add(Metric(group="match", kind="match"), 0.75, chance=0.5)
    >>> scores.metrics
    {'match': 0.75}
    """

    records: list[Score] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    too_few: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """Values by flat name."""
        return {score.name: score.value for score in self.records}

    def score(self, name: str) -> Score:
        """The score of a flat name.

        Raises:
            KeyError: there is none.
        """
        return {score.name: score for score in self.records}[name]

    def add(
        self,
        metric: Metric,
        value: float,
        *,
        interval: tuple[float, float] | None = None,
        chance: float | None = None,
        n: int | None = None,
    ) -> None:
        """Keep a value. One that is not finite is left out, with the reason."""
        if not isfinite(value):
            self.left_out[metric.name] = f"the value is {value}"
            return
        what = {name: getattr(metric, name) for name in Metric.__dataclass_fields__}
        self.records.append(
            Score(**what, value=float(value), interval=interval, chance=chance, n=n)
        )

    def add_mean(
        self,
        metric: Metric,
        values: Mapping[Way, float],
        *,
        rows: Mapping[Way, int] | None = None,
        chance: Chance | None = None,
    ) -> None:
        """Keep the mean over modalities (or pairs), and the value of each.

        Args:
            metric: of the mean.
            values: by modality or pair; nothing is kept if it is empty.
            rows: the number of rows of each.
        """
        if not values:
            return
        fewest = None if rows is None else min(rows[way] for way in values)
        mean = float(np.mean(list(values.values())))
        self.add(metric, mean, chance=_chance(chance, Way()), n=fewest)
        for way, value in values.items():
            n = None if rows is None else rows[way]
            self.add(metric.along(way), value, chance=_chance(chance, way), n=n)

    def add_accuracy(
        self,
        metric: Metric,
        hits: Mapping[Way, Array],
        *,
        each: bool = True,
        chance: Chance | None = None,
    ) -> None:
        """Keep the mean accuracy over modalities (or pairs) and, if ``each``, of every
        one, with intervals.

        Args:
            metric: of the mean.
            hits: by modality or pair, (N,) with 1 for right, 0 for wrong and NaN for
                rows that do not count; row i is the same example in all.
        """
        counted = {way: h for way, h in hits.items() if not np.isnan(h).all()}
        if not counted:
            self.left_out[metric.name] = "no row to measure it on"
            return
        rows = {way: int((~np.isnan(h)).sum()) for way, h in counted.items()}
        value, interval = accuracy(np.stack(list(counted.values()), 1))
        guess = _chance(chance, Way())
        self.add(metric, value, interval=interval, chance=guess, n=min(rows.values()))
        for way, h in counted.items() if each else ():
            value, interval = accuracy(h[:, None])
            guess = _chance(chance, way)
            self.add(metric.along(way), value, interval=interval, chance=guess, n=rows[way])

    def leave_out(self, metric: Metric, reason: str, *, too_few: bool = False) -> None:
        """Note why a metric is missing, and whether for want of rows."""
        self.left_out[metric.name] = reason
        if too_few:
            self.too_few.append(metric.name)

    def rest_on(self, rows: int) -> None:
        """Set the number of rows of all scores so far that have none."""
        self.records = [replace(s, n=rows) if s.n is None else s for s in self.records]

    def mark_few(self, rarest: Mapping[str, int]) -> None:
        """Mark the scores that rest on few rows, or on few of some class.

        Args:
            rarest: by label, the number of rows of its smallest class.
        """

        def is_few(score: Score) -> bool:
            about = score.label if score.setting != "unconditional" else None
            scarce = about is not None and rarest.get(about, FEW_PER_CLASS) < FEW_PER_CLASS
            return scarce or (score.n is not None and score.n < FEW_ROWS)

        self.records = [replace(s, few=True) if is_few(s) else s for s in self.records]

    def extend(self, other: Scores) -> None:
        """Add the figures of another group."""
        self.records.extend(other.records)
        self.left_out.update(other.left_out)
        self.too_few.extend(other.too_few)
        self.extra.update(other.extra)


def _chance(chance: Chance | None, way: Way) -> float | None:
    return None if chance is None else chance.of(way)
