"""The figures of a comparison: trade-offs, and learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.studies.comparison import Column, Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES = ("val/loss", "train/loss")
"""Curves to draw of a run: the first that it has."""


def trade_offs(found: Comparison) -> dict[str, tuple[str, str]]:
    """By title, the pairs of metrics whose trade-off is drawn, where both were
    measured: quality against coherence, and what z holds of private labels against what
    it holds of shared ones."""
    by_name = {column.metric: column for column in found.columns}
    shared = _first(by_name, "probe/z/", leak=False)
    leaked = _first(by_name, "probe/z/", leak=True)
    coherent = next((name for name in by_name if name.startswith("coherence/cross/")), None)
    quality = "fid/cross" if "fid/cross" in by_name else None
    pairs = {
        "Quality against coherence": (coherent, quality),
        "Leaked against shared information": (shared, leaked),
    }
    return {title: (x, y) for title, (x, y) in pairs.items() if x is not None and y is not None}


def _first(columns: Mapping[str, Column], head: str, *, leak: bool) -> str | None:
    names = (name for name, c in columns.items() if name.startswith(head) and c.leak == leak)
    return next(names, None)


def scatter(found: Comparison, x: str, y: str) -> Figure:
    """Draw two metrics against each other: a point for each run, a ring for the mean of
    a method, dashed lines at chance."""
    from matplotlib.figure import Figure

    from counterpoint.figures.style import CLASSES, FAINT, INK, style_panel

    figure = Figure(figsize=(4.6, 3.2), facecolor="none", layout="constrained")
    axes = figure.subplots()
    columns = {column.metric: column for column in found.columns}
    for entry, colour in zip(found.entries, CLASSES * 2, strict=False):
        across, along = found.values(x, entry), found.values(y, entry)
        common = [repetition for repetition in across if repetition in along]
        if not common:
            continue
        points = np.array([(across[r].value, along[r].value) for r in common])
        axes.plot(*points.T, "o", color=colour, ms=3.5, alpha=0.6, label=entry)
        axes.plot(*points.mean(0), "o", color=colour, ms=9, mfc="none", mew=1.6)
    for metric, line in ((x, axes.axvline), (y, axes.axhline)):
        chance = columns[metric].chance
        if chance is not None:
            line(chance, color=FAINT, linewidth=1.0, linestyle="--")
    style_panel(axes, "")
    _free_ticks(axes)
    axes.set_xlabel(_with_arrow(columns[x]), fontsize=8, color=INK)
    axes.set_ylabel(_with_arrow(columns[y]), fontsize=8, color=INK)
    axes.legend(fontsize=8, frameon=False)
    return figure


def curves(histories: Mapping[str, Sequence[Path]]) -> Figure | None:
    """Draw the loss of every run: a column for each method, against steps above and
    against minutes below.

    Args:
        histories: by method, the ``metrics.csv`` of its runs.
    """
    from matplotlib.figure import Figure

    from counterpoint.figures import read_history
    from counterpoint.figures.style import CLASSES, INK, style_panel

    read = {name: [read_history(path) for path in paths] for name, paths in histories.items()}
    read = {name: series for name, series in read.items() if series}
    if not read:
        return None
    figure = Figure(figsize=(2.4 * len(read), 3.4), facecolor="none", layout="constrained")
    grid = figure.subplots(2, len(read), squeeze=False)
    for column, (name, series) in enumerate(read.items()):
        for of_run in series:
            loss = next((kind for kind in LOSSES if kind in of_run), None)
            if loss is None:
                continue
            steps, values = of_run[loss]
            seconds = np.interp(steps, *of_run["seconds"])
            colour = CLASSES[column % len(CLASSES)]
            for axes, across in zip(grid[:, column], (steps, seconds / 60), strict=True):
                axes.plot(across, values, color=colour, linewidth=1.2)
        style_panel(grid[0, column], name)
        style_panel(grid[1, column], "")
        _free_ticks(grid[1, column])
    grid[0, 0].set_xlabel("steps", fontsize=8, color=INK)
    grid[1, 0].set_xlabel("minutes", fontsize=8, color=INK)
    return figure


def _free_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4))


def _with_arrow(column: Column) -> str:
    arrow = {"higher": "→ better", "lower": "← better", None: ""}[column.better]
    return f"{column.metric}  {arrow}".strip()
