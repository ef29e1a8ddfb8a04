"""Networks for word ids."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.nn.conv import halvings
from counterpoint.nn.modules import Trunk


class TextTrunk(Trunk):
    """Word embeddings, then convolutions of stride 2 along the sentence."""

    def __init__(self, length: int, classes: int, width: int) -> None:
        super().__init__()
        lengths = halvings(length)
        self.embedding = nn.Embedding(classes, width)
        self.layers = nn.ModuleList(
            nn.Conv1d(width * 2 ** min(i, 2), width * 2 ** min(i + 1, 2), 3, 2, 1)
            for i in range(len(lengths) - 1)
        )
        self.features = lengths[-1] * width * 2 ** min(len(lengths) - 1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        # A matrix of probabilities (B, length, classes) stands for its expected embedding:
        # generated text stays differentiable.
        h = ids @ self.embedding.weight if ids.is_floating_point() else self.embedding(ids)
        h = h.transpose(1, 2)
        for layer in self.layers:
            h = F.relu(layer(h))
        return h.flatten(1)


class TextGenerator(nn.Module):
    """Mirror of ``TextTrunk``: raw outputs (N, length, classes)."""

    def __init__(self, latent_dim: int, output_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        length, classes = output_shape
        self.lengths = halvings(length)[::-1]
        depth = len(self.lengths) - 1
        channels = [width * 2 ** min(i, 2) for i in reversed(range(depth + 1))]
        self.first = (channels[0], self.lengths[0])
        self.dense = nn.Linear(latent_dim, math.prod(self.first))
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 3, 1, 1) for a, b in pairwise(channels))
        self.head = nn.Linear(channels[-1], classes)

    def forward(self, u: Tensor) -> Tensor:
        h = self.dense(u).unflatten(-1, self.first)
        for layer, length in zip(self.layers, self.lengths[1:], strict=True):
            h = F.relu(layer(F.interpolate(h, size=length, mode="nearest")))
        return self.head(h.transpose(1, 2))
