"""Networks for a modality: a trunk from values to features, a generator from latents to
raw decoder outputs."""

from __future__ import annotations

from torch import nn

from counterpoint.core.modality import Modality
from counterpoint.nn.conv import ConvGenerator, ConvTrunk
from counterpoint.nn.mlp import MLPGenerator, MLPTrunk
from counterpoint.nn.modules import Trunk
from counterpoint.nn.options import NetworkOptions, kind_for
from counterpoint.nn.resnet import ResNetGenerator, ResNetTrunk
from counterpoint.nn.text import TextGenerator, TextTrunk


def trunk(modality: Modality, options: NetworkOptions) -> Trunk:
    """A fresh network from values (B, *shape), as :func:`readable`, to features (B,
    features)."""
    match kind_for(modality, options.kind):
        case "conv":
            return ConvTrunk(modality.shape, options.width, options.dense, options.norm)
        case "resnet":
            return ResNetTrunk(modality.shape, options.width)
        case "text":
            return TextTrunk(modality.shape[0], modality.classes or 0, options.width)
        case _:
            return MLPTrunk(modality, options.hidden, options.norm)


def generator(
    modality: Modality, latent_dim: int, output_shape: tuple[int, ...], options: NetworkOptions
) -> nn.Module:
    """A fresh network from latents (N, latent_dim) to raw outputs (N, *output_shape)."""
    match kind_for(modality, options.kind):
        case "conv":
            return ConvGenerator(latent_dim, output_shape, options.width, options.dense)
        case "resnet":
            return ResNetGenerator(latent_dim, output_shape, options.width)
        case "text":
            return TextGenerator(latent_dim, output_shape, options.width)
        case _:
            return MLPGenerator(latent_dim, output_shape, options.hidden[::-1])
