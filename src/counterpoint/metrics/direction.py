"""Which values of a metric are better: the higher ones, the lower ones, or neither."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from counterpoint.metrics.groups import GROUPS
from counterpoint.metrics.score import Metric

Direction = Literal["higher", "lower"]


def direction(metric: Metric, private_labels: Collection[str] = ()) -> Direction | None:
    """Return which values are better; None if a metric has no better.

    A group of metrics says it of its kinds. What z holds of a private label, or w of a
    shared one, has leaked, so that lower values are better there.

    >>> from counterpoint.metrics import Metric, direction
    >>> direction(Metric(group="quality", kind="fid"))
    'lower'
    >>> probe = Metric(group="probe", kind="probe", latent="z", label="quadrant")
    >>> direction(probe), direction(probe, private_labels=["quadrant"])
    ('higher', 'lower')
    """
    if is_leak(metric, private_labels):
        return "lower"
    group = GROUPS[metric.group]
    if metric.kind in group.higher:
        return "higher"
    return "lower" if metric.kind in group.lower else None


def is_leak(metric: Metric, private_labels: Collection[str] = ()) -> bool:
    """Whether a metric says what a latent holds that is not meant for it.

    >>> from counterpoint.metrics import Metric, is_leak
    >>> is_leak(Metric(group="probe", kind="probe", latent="w", label="digit"))
    True
    """
    if metric.label is None or metric.latent not in ("z", "w"):
        return False
    return (metric.label in private_labels) == (metric.latent == "z")
