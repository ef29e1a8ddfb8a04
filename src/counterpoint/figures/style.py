"""Colours of all figures, which the page replaces by its own, ink and faint; and how
panels of curves look."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1f1d1a"
FAINT = "#b9b4aa"
SHARED = "#0072b2"
PRIVATE = "#d55e00"
"""Blue and vermilion of Okabe & Ito, which colour-blind readers tell apart."""

CLASSES = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colours that remain apart for colour-blind readers (Petroff, "Accessible color
sequences for data visualization", 2021, https://arxiv.org/abs/2107.02270)."""

GRADIENT = "cividis"
"""Colour map of numbers, perceptually uniform with and without colour vision."""


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
