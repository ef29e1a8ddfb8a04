"""Scores as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from counterpoint.figures.style import FAINT, INK, SHARED
from counterpoint.metrics.score import FEW_MARK, Score, number
from counterpoint.metrics.table import ordered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE_INCHES = 0.24
_HEAD_INCHES = 0.55


def figure(scores: Sequence[Score]) -> Figure:
    """Draw scores as bars, a panel for each kind, since kinds have other units.

    Lines are 95 % intervals, or deviations over seeds; ticks are chance.

    Raises:
        ValueError: no finite score.
    """
    from matplotlib.figure import Figure

    finite = [s for s in ordered(scores, detail=False) if math.isfinite(s.value)]
    if not finite:
        raise ValueError("the evaluation has no finite score to draw; measure at least one group")
    kinds = [(kind, [*those]) for kind, those in groupby(finite, lambda s: s.kind)]
    heights = [_HEAD_INCHES + _LINE_INCHES * len(those) for _, those in kinds]
    drawn = Figure(figsize=(6.5, sum(heights)), facecolor="none", layout="constrained")
    grid = drawn.subplots(len(kinds), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (kind, those) in zip(grid, kinds, strict=True):
        _draw_kind(axes, kind, those)
    return drawn


def _draw_kind(axes: Axes, kind: str, scores: Sequence[Score]) -> None:
    places = range(len(scores))
    axes.barh(places, [s.value for s in scores], height=0.62, color=SHARED)
    for place, score in zip(places, scores, strict=True):
        if (ends := _ends(score)) is not None:
            axes.plot(ends, (place, place), color=INK, linewidth=1.0)
        if score.chance is not None:
            axes.plot((score.chance,) * 2, (place - 0.4, place + 0.4), color=INK, linewidth=1.8)
    axes.set_yticks(places, [f"{s.name} {number(s.value)}{FEW_MARK * s.few}" for s in scores])
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.axvline(0, color=FAINT, linewidth=0.6)
    axes.set_title(kind, fontsize=9.5, color=INK, loc="left")
    axes.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.6)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=FAINT, linewidth=0.6)


def _ends(score: Score) -> tuple[float, float] | None:
    """The ends of the interval, or of one deviation over seeds around the mean."""
    if score.std is not None:
        return score.value - score.std, score.value + score.std
    return score.interval
