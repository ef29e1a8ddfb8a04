"""Residual networks for images."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.nn.conv import _square, enlarged_conv
from counterpoint.nn.modules import Trunk


class ResidualBlock(nn.Module):
    """x ↦ shortcut(x) + 0.1·conv(σ(conv(σ(x)))), σ the leaky ReLU of slope 0.2.

    Args:
        enlarge: take x at twice its size (nearest).
    """

    def __init__(self, channels: int, out: int, *, enlarge: bool = False) -> None:
        super().__init__()
        middle = min(channels, out)
        self.first = nn.Conv2d(channels, middle, 3, 1, 1)
        self.second = nn.Conv2d(middle, out, 3, 1, 1)
        self.shortcut = (
            nn.Identity() if channels == out else nn.Conv2d(channels, out, 1, bias=False)
        )
        self.enlarge = enlarge

    def forward(self, x: Tensor) -> Tensor:
        active = F.leaky_relu(x, 0.2)
        middle = enlarged_conv(active, self.first) if self.enlarge else self.first(active)
        branch = self.second(F.leaky_relu(middle, 0.2))
        short = self.shortcut(x)  # at the small size: a 1×1 convolution does not see neighbours
        return (F.interpolate(short, scale_factor=2) if self.enlarge else short) + 0.1 * branch


def resnet_plan(size: int, width: int) -> tuple[int, list[int]]:
    """Side of the smallest map, and channels at each resolution from fine to coarse."""
    depth = 0
    while size % 2 == 0 and size > 7:
        size = size // 2
        depth = depth + 1
    return size, [width * 2 ** min(i, 3) for i in range(depth + 1)]


class ResNetTrunk(Trunk):
    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        _square(shape)
        side, channels = resnet_plan(shape[1], width)
        blocks: list[nn.Module] = [ResidualBlock(channels[0], channels[0])]
        for a, b in pairwise(channels):
            blocks += [nn.AvgPool2d(3, 2, 1), ResidualBlock(a, b)]
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], channels[0], 3, 1, 1), *blocks, nn.LeakyReLU(0.2), nn.Flatten()
        )
        self.features = channels[-1] * side * side

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResNetGenerator(nn.Module):
    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        _square(shape)
        side, channels = resnet_plan(shape[1], width)
        channels = channels[::-1]
        self.first = (channels[0], side, side)
        self.dense = nn.Linear(latent_dim, math.prod(self.first))
        plan = [*pairwise(channels), (channels[-1], channels[-1])]
        blocks = [ResidualBlock(a, b, enlarge=i > 0) for i, (a, b) in enumerate(plan)]
        self.layers = nn.Sequential(
            *blocks, nn.LeakyReLU(0.2), nn.Conv2d(channels[-1], shape[0], 3, 1, 1)
        )

    def forward(self, u: Tensor) -> Tensor:
        return self.layers(self.dense(u).unflatten(-1, self.first))
