"""Networks for vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from counterpoint.core.modality import Modality
from counterpoint.nn.modules import BatchNorm, Norm, Trunk, readable


def mlp(sizes: Sequence[int], norm: Norm = "none") -> nn.Sequential:
    """Linear layers, each followed by an optional batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers.append(nn.Linear(a, b))
        if norm == "batch":
            layers.append(BatchNorm(b))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class MLPTrunk(Trunk):
    def __init__(self, modality: Modality, hidden: tuple[int, ...], norm: Norm) -> None:
        super().__init__()
        sizes = (math.prod(modality.shape), *hidden)
        self.modality = modality
        self.features = sizes[-1]
        self.layers = mlp(sizes, norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(readable(self.modality, x).flatten(1))


class MLPGenerator(nn.Module):
    def __init__(
        self, latent_dim: int, output_shape: tuple[int, ...], hidden: tuple[int, ...]
    ) -> None:
        super().__init__()
        sizes = (latent_dim, *hidden)
        self.output_shape = output_shape
        self.layers = mlp(sizes)
        self.head = nn.Linear(sizes[-1], math.prod(output_shape))

    def forward(self, u: Tensor) -> Tensor:
        return self.head(self.layers(u)).unflatten(-1, self.output_shape)
