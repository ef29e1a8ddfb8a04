"""The history of a fit that takes no Trainer."""

from __future__ import annotations

from collections.abc import Sequence

STEPS_TOGETHER = 100


def in_hundreds(losses: Sequence[float]) -> list[float]:
    """Average the losses of every hundred steps.

    >>> in_hundreds([1.0] * 100 + [3.0])
    [1.0, 3.0]
    """
    means = []
    for first in range(0, len(losses), STEPS_TOGETHER):
        part = losses[first : first + STEPS_TOGETHER]
        means.append(sum(part) / len(part))
    return means
