"""Strided convolutions for images."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.nn.mlp import mlp
from counterpoint.nn.modules import BatchNorm, Norm, Trunk

COARSE_BOUND = 3.0
"""Soft bound of a conv decoder's coarse image (our choice)."""


def halvings(size: int, smallest: int = 4) -> list[int]:
    """Side lengths from ``size`` down to ``smallest`` or less, each half of the one
    before, rounded up.

    >>> halvings(28)
    [28, 14, 7, 4]
    """
    sizes = [size]
    while sizes[-1] > smallest:
        sizes.append(math.ceil(sizes[-1] / 2))
    return sizes


class ConvTrunk(Trunk):
    """3×3 convolutions of stride 2 down to 4×4 or less, then one dense layer."""

    def __init__(self, shape: tuple[int, ...], width: int, hidden: int, norm: Norm) -> None:
        super().__init__()
        heights = halvings(shape[1])
        widths = halvings(shape[2])
        depth = max(len(heights), len(widths)) - 1
        channels = [shape[0], *(width * 2 ** min(i, 3) for i in range(depth))]
        layers: list[nn.Module] = []
        for a, b in pairwise(channels):
            normed = [BatchNorm(b)] if norm == "batch" else []
            layers += [nn.Conv2d(a, b, 3, 2, 1, bias=not normed), *normed, nn.ReLU()]
        side = math.prod(math.ceil(s / 2**depth) for s in shape[1:])
        head = mlp((channels[-1] * side, hidden), norm)
        self.layers = nn.Sequential(*layers, nn.Flatten(), head)
        self.features = hidden

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ConvGenerator(nn.Module):
    """A coarse image and its detail, added.

    A linear map of the first dense layer gives the image at 8×8 or less, which is
    enlarged (bilinear). Two dense layers to the smallest map and 4×4 transposed
    convolutions of stride 2, cut to the sizes of ``ConvTrunk``, give the detail.
    Colours and positions bypass the convolutions, and are learned many times faster
    (docs/decisions/0008). The coarse image is softly bounded to ±3 before any sigmoid,
    so that the detail can override it.

    On a CPU transposed convolutions are 3.5 times faster than enlargement and
    convolution of the same depth and width.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, ...], width: int, hidden: int) -> None:
        super().__init__()
        depth = max(len(halvings(shape[1])), len(halvings(shape[2]))) - 1
        self.sizes = [
            tuple(math.ceil(s / 2**i) for s in shape[1:]) for i in reversed(range(depth + 1))
        ]
        widths = [width * 2 ** min(i, 3) for i in reversed(range(depth))]
        channels = [*widths, shape[0]]
        self.first = (channels[0], *self.sizes[0])
        self.coarse_shape = (shape[0], *(halvings(s, 8)[-1] for s in shape[1:]))
        self.dense = mlp((latent_dim, hidden))
        self.coarse = nn.Linear(hidden, math.prod(self.coarse_shape))
        self.spread = nn.Linear(hidden, math.prod(self.first))
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(channels)
        )

    def forward(self, u: Tensor) -> Tensor:
        hidden = self.dense(u)
        coarse = COARSE_BOUND * torch.tanh(self.coarse(hidden) / COARSE_BOUND).unflatten(
            -1, self.coarse_shape
        )
        h = self.spread(hidden).unflatten(-1, self.first)
        for convolution, (height, width) in zip(self.convolutions, self.sizes[1:], strict=True):
            h = convolution(F.relu(h))[..., :height, :width]
        # The sum has the memory format of h.
        return h + F.interpolate(coarse, size=self.sizes[-1], mode="bilinear")


def enlarged_conv(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A 3×3 convolution of padding 1 on the map x (N, C, H, W) at twice its size
    (nearest), (N, C', 2H, 2W).

    Computed as the 4×4 transposed convolution of stride 2 that it equals: along one
    axis, output 2s − 1 + t of the large map reads x[s] by the taps 2 − t and 3 − t, so
    tap t of the larger kernel is their sum. It takes 4/9 of the multiplications, and
    no memory for the large map.
    """
    # Sums of neighbouring taps.
    kernel = F.avg_pool2d(convolution.weight.flip(-2, -1), 2, 1, 1, divisor_override=1)
    return F.conv_transpose2d(x, kernel.transpose(0, 1), convolution.bias, 2, 1)


def _square(shape: tuple[int, ...]) -> None:
    if shape[1] != shape[2]:
        raise ValueError(f"network 'resnet' needs square images, got {shape}; use network 'conv'")
