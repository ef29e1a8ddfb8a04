"""The figure of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.studies.cells import Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(found: Sweep) -> Figure:
    """Draw means over seeds against the percentage of missing values.

    A row is a metric, a column a mechanism. Bars are standard deviations over seeds,
    and a dashed line is chance.
    """
    from matplotlib.figure import Figure

    from counterpoint.figures.style import INK

    rows = len(found.metrics)
    columns = len(found.hows)
    size = (3.2 * columns + 0.8, 2.0 * rows + 0.4)
    drawn = Figure(figsize=size, facecolor="none", layout="constrained")
    grid = drawn.subplots(rows, columns, squeeze=False, sharey="row", sharex=True)
    for line, metric in zip(grid, found.metrics, strict=True):
        for axes, how in zip(line, found.hows, strict=True):
            if found.drawn(metric, how):
                _draw_panel(axes, found, metric, how)
            else:
                axes.set_axis_off()
    for axes in grid[-1]:
        axes.set_xlabel("missing, %", fontsize=8, color=INK)
    handles, labels = grid[0][0].get_legend_handles_labels()
    drawn.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(6, len(labels)),
        fontsize=8,
        frameon=False,
    )
    return drawn


def _draw_panel(axes: Axes, found: Sweep, metric: str, how: str) -> None:
    from counterpoint.figures.style import CLASSES, FAINT, style_panel

    for name, colour in zip(found.methods, CLASSES * 2, strict=False):
        curve = found.curve(metric, name, how)
        axes.errorbar(
            [100 * rate for rate in curve],
            [float(np.mean(values)) for values in curve.values()],
            [_deviation(values) for values in curve.values()],
            color=colour,
            linewidth=1.3,
            marker="o",
            ms=3,
            elinewidth=0.8,
            capsize=1.5,
            label=name,
        )
    if metric in found.chance:
        axes.axhline(found.chance[metric], color=FAINT, linewidth=1.0, linestyle="--")
    style_panel(axes, metric if how == "complete" else f"{metric}, {how}")


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
