"""Figures of a trained method: losses, pictures and maps of the latents.

Every function returns a :class:`matplotlib.figure.Figure` made without pyplot, so no
backend is chosen or changed; show one in a notebook by naming it, or keep it with
``figure.savefig("x.png")``.
"""

from __future__ import annotations

from counterpoint.report.figures.curves import losses, read_history
from counterpoint.report.figures.latents import MAP_TITLES, MAPS, latent_map, latent_points, project
from counterpoint.report.figures.pictures import (
    recombinations,
    reconstructions,
    samples,
    sheet,
    translations,
)
from counterpoint.report.figures.plane import in_the_plane, posteriors
from counterpoint.report.figures.refinement_curves import refinement
from counterpoint.report.figures.rows import chosen_modality, complete_rows, has_complete_rows
from counterpoint.report.figures.style import FAINT, INK
from counterpoint.report.figures.tiling import mosaic, tiles

__all__ = [
    "FAINT",
    "INK",
    "MAPS",
    "MAP_TITLES",
    "chosen_modality",
    "complete_rows",
    "has_complete_rows",
    "in_the_plane",
    "latent_map",
    "latent_points",
    "losses",
    "mosaic",
    "posteriors",
    "project",
    "read_history",
    "recombinations",
    "reconstructions",
    "refinement",
    "samples",
    "sheet",
    "tiles",
    "translations",
]
