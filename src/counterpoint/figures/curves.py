"""Loss curves of a run."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from counterpoint.figures.style import PRIVATE, SHARED, style_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Series = dict[str, tuple[np.ndarray, np.ndarray]]
"""Curves by name: (x, y), both ``(n,)``."""


def read_history(path: str | Path) -> Series:
    """Read the curves of a ``metrics.csv``.

    Every numeric column is a curve against ``step`` (or ``epoch``, or the number of the
    row). Empty cells are skipped, because training and validation have separate lines.

    Raises:
        FileNotFoundError: no such file. ValueError: a file without a header.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not reader.fieldnames:
            raise ValueError(
                f"{path} is empty; expected a CSV file with a header, as training writes it"
            )
        names = list(reader.fieldnames)
        lines = list(reader)
    axis = next((name for name in ("step", "epoch") if name in names), None)
    curves: Series = {}
    for name in names:
        if name in ("step", "epoch"):
            continue
        pairs = [
            (_number(line[axis]) if axis else float(i), _number(line[name]))
            for i, line in enumerate(lines)
        ]
        known = [p for p in pairs if not any(map(math.isnan, p))]
        kept = np.array(known).reshape(-1, 2)
        if len(kept):
            curves[name] = (kept[:, 0], kept[:, 1])
    return curves


def losses(history: Series | str | Path, columns: int = 3) -> Figure:
    """Draw one panel per term, with training and validation, each on its own scale.

    Raises:
        ValueError: no curve to draw.
    """
    from matplotlib.figure import Figure

    curves = history if isinstance(history, dict) else read_history(history)
    terms = [name for name in curves if name.startswith(("train/", "val/"))] or [*curves]
    panels: dict[str, Series] = {}
    for name in terms:
        stage, term = _stage(name)
        panels.setdefault(term, {})[stage] = curves[name]
    if not panels:
        raise ValueError("the history has no curve to draw; train for at least one step")
    order = sorted(panels, key=lambda term: term != "loss")
    columns = min(columns, len(order))
    lines = -(-len(order) // columns)
    figure = Figure(figsize=(2.6 * columns, 1.75 * lines), facecolor="none", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, term in zip(grid, order, strict=False):
        for stage, (x, y) in panels[term].items():
            validation = stage == "val"
            axes.plot(
                x,
                y,
                color=PRIVATE if validation else SHARED,
                linewidth=1.3,
                alpha=0.95,
                marker="o" if len(x) == 1 else None,
                ms=3,
            )
        style_panel(axes, term)
    for axes in grid[len(order) :]:
        axes.set_axis_off()
    return figure


def _stage(name: str) -> tuple[str, str]:
    """Split 'train/kl/z' into ('train', 'kl/z'); a name without a stage is training."""
    stage, _, term = name.partition("/")
    return (stage, term) if stage in ("train", "val") and term else ("train", name)


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
