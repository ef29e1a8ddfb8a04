"""Colours of all figures, which the page replaces by its own, ink and faint; and how
panels of curves look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f1d1a"
FAINT = "#b9b4aa"
SHARED = "#2a8c93"
PRIVATE = "#d0653f"
CLASSES = (
    "#2a8c93",
    "#d0653f",
    "#7a6cc2",
    "#c79a2b",
    "#4f9a52",
    "#c2527f",
    "#4a7fc1",
    "#8d6b4f",
    "#7f8b94",
    "#a3b03c",
)


def style_panel(axes: Axes, title: str) -> None:
    """A title at the left, few ticks, whole numbers below, no box."""
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=9.5, color=INK, loc="left")
    axes.tick_params(labelsize=7.5, colors=INK, length=2.5, width=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_facecolor("none")
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=FAINT, linewidth=0.6)
