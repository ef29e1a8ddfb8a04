"""Networks for a modality: a trunk from values to features, a generator from latents to
raw decoder outputs."""

from __future__ import annotations

from torch import nn

from counterpoint.core.modality import Modality
from counterpoint.nn.modules import Trunk
from counterpoint.nn.options import NetworkOptions, kind_for


def trunk(modality: Modality, options: NetworkOptions) -> Trunk:
    """Build a network from values (B, *shape), as
    :func:`~counterpoint.nn.modules.readable`, to features (B, features).

    >>> trunk(Modality("x", (5,)), NetworkOptions(hidden=(8,))).features
    8
    """
    return kind_for(modality, options.kind).trunk(modality, options)


def generator(
    modality: Modality, latent_dim: int, output_shape: tuple[int, ...], options: NetworkOptions
) -> nn.Module:
    """Build a network from latents (N, latent_dim) to raw outputs (N, *output_shape)."""
    return kind_for(modality, options.kind).generator(latent_dim, output_shape, options)
