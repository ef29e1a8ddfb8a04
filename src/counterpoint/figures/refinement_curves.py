"""The bound over the steps of refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from counterpoint.figures.style import PRIVATE, SHARED, style_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def refinement(bounds: Mapping[str, Sequence[float]], ascent: Mapping[str, float]) -> Figure:
    """Draw the bound against the steps of a refiner, a panel for each title.

    Args:
        bounds: by title, the bound at the steps 0 .. T.
        ascent: by title, the bound after gradient ascent, drawn as a dashed line.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.9 * len(bounds), 2.0), facecolor="none", layout="constrained")
    panels = figure.subplots(1, len(bounds), squeeze=False)[0]
    for axes, (title, values) in zip(panels, bounds.items(), strict=True):
        axes.plot(range(len(values)), values, color=SHARED, linewidth=1.3, marker="o", ms=3)
        axes.axhline(ascent[title], color=PRIVATE, linewidth=1.0, linestyle="--")
        style_panel(axes, title)
    return figure
