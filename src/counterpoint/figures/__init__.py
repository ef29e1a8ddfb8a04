"""Figures of a trained method: losses, pictures and maps of the latents.

Every function returns a :class:`matplotlib.figure.Figure` made without pyplot, so no
backend is chosen or changed; show one in a notebook by naming it, or keep it with
``figure.savefig("x.png")``. ``method.plot`` has those of a method.
"""

from __future__ import annotations

from counterpoint.figures.colouring import Colouring, colouring, default_colours
from counterpoint.figures.curves import losses, read_history
from counterpoint.figures.latents import (
    MAP_TITLES,
    MAPS,
    Cloud,
    latent_map,
    latent_points,
    project,
)
from counterpoint.figures.pictures import (
    cross_generation,
    recombinations,
    reconstructions,
    samples,
    sheet,
    translations,
)
from counterpoint.figures.plane import in_the_plane, posteriors
from counterpoint.figures.plots import Plots
from counterpoint.figures.refinement_curves import refinement
from counterpoint.figures.rows import chosen_modality, complete_rows, has_complete_rows
from counterpoint.figures.style import FAINT, INK
from counterpoint.figures.tiling import mosaic, tiles

__all__ = [
    "FAINT",
    "INK",
    "MAPS",
    "MAP_TITLES",
    "Cloud",
    "Colouring",
    "Plots",
    "chosen_modality",
    "colouring",
    "complete_rows",
    "cross_generation",
    "default_colours",
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
