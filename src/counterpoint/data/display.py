"""Describe modalities."""

from __future__ import annotations

from counterpoint.core.display import sizes
from counterpoint.core.modality import Modality


def described(modality: Modality) -> str:
    """Describe a modality on one line: name, shape and likelihood.

    >>> described(Modality("image", (3, 32, 32), "laplace", 0.75))
    'image 3×32×32 laplace'
    """
    return f"{modality.name} {sizes(modality.shape)} {modality.likelihood}"
