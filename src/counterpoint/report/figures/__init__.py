"""Figures of a trained method: losses, pictures and maps of the latents.

Every function returns a :class:`matplotlib.figure.Figure` made without pyplot, so no backend is chosen or changed; show one
in a notebook by naming it, or keep it with ``figure.savefig("x.png")``.
"""

from __future__ import annotations

from .curves import losses, read_history
from .latents import MAP_TITLES, MAPS, latent_map, latent_points, project
from .pictures import recombinations, reconstructions, samples, sheet, translations
from .posteriors import in_the_plane, posteriors
from .refinement import refinement
from .rows import chosen_modality, complete_rows, has_complete_rows
from .style import FAINT, INK
from .tiles import mosaic, tiles

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
