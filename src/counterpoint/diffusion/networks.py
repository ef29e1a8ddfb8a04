"""Denoisers: networks from a noised value, its time and, where they are told, a
condition, to what a diffusion predicts.

Time and condition become one embedding, which every block adds to its features, or
scales and shifts them by (FiLM, Perez et al. 2018, https://arxiv.org/abs/1709.07871).
Adding is what diffusion autoencoders and Diff-MVAE do.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from counterpoint.nn.time import sinusoidal

Conditioning = Literal["embed", "film"]
COARSEST_SIDE = 8
"""A UNet halves its maps while both sides are even and more than this; 32×32 becomes
16×16 and 8×8."""


class Embedding(nn.Module):
    """Times (N,) or (1,) and conditions (N, context) to one embedding (N or 1, width).

    >>> Embedding(8, context=3)(torch.tensor([5]), torch.zeros(4, 3)).shape
    torch.Size([4, 8])
    """

    def __init__(self, width: int, context: int = 0) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.context = nn.Linear(context, width) if context else None

    def forward(self, t: Tensor, c: Tensor | None) -> Tensor:
        embedded = self.time(sinusoidal(t, 64))
        return embedded if self.context is None or c is None else embedded + self.context(c)


class TimeMLP(nn.Module):
    """Residual MLP denoiser of vectors with an embedding of time and condition added in
    every block.

    >>> TimeMLP(2, width=8, context=3)(torch.zeros(4, 2), torch.tensor([5]), torch.zeros(4, 3)).shape
    torch.Size([4, 2])

    Args:
        dim: size of the vectors.
        width: size of the hidden layers.
        depth: number of residual blocks.
        context: size of the condition; 0 for none.
    """

    def __init__(self, dim: int, width: int = 512, depth: int = 2, context: int = 0) -> None:
        super().__init__()
        self.embedding = Embedding(width, context)
        self.first = nn.Linear(dim, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        h = self.first(x)
        embedded = self.embedding(t, c)
        for block in self.blocks:
            h = h + block(h + embedded)
        return self.last(h)


class UNet(nn.Module):
    """A small UNet for images of 16 to 64 pixels: a residual block at each resolution
    on the way down and on the way up, self-attention at the coarsest (Ho et al. 2020,
    https://arxiv.org/abs/2006.11239, made small; sizes are our choice).

    >>> UNet((3, 16, 16), width=8)(torch.zeros(1, 3, 16, 16), torch.tensor([5])).shape
    torch.Size([1, 3, 16, 16])

    Args:
        shape: (channels, height, width) of the images.
        width: channels at full size; twice as many below.
        context: size of the condition; 0 for none.
        conditioning: whether blocks add the embedding or are scaled and shifted by it.
        extra: channels that are read beside x and not predicted.

    Raises:
        ValueError: an image that can't be halved down to 8 pixels or fewer a side, or
            an unknown conditioning.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 32,
        context: int = 0,
        conditioning: Conditioning = "embed",
        extra: int = 0,
    ) -> None:
        super().__init__()
        if conditioning not in get_args(Conditioning):
            raise ValueError(
                f"conditioning={conditioning!r} is unknown; choose one of {', '.join(get_args(Conditioning))}"
            )
        channels = shape[0]
        embed = 4 * width
        widths = [width] + [2 * width] * depth_of(shape)
        self.embedding = Embedding(embed, context)
        self.first = nn.Conv2d(channels + extra, width, 3, padding=1)
        self.down = nn.ModuleList(
            Block(a, b, embed, conditioning) for a, b in zip([width, *widths], widths, strict=False)
        )
        self.attention = Attention(widths[-1])
        self.middle = Block(widths[-1], widths[-1], embed, conditioning)
        self.up = nn.ModuleList(
            Block(a + skip, skip, embed, conditioning)
            for a, skip in zip([widths[-1], *widths[::-1]], widths[::-1], strict=False)
        )
        self.last = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, c: Tensor | None = None) -> Tensor:
        embedded = F.silu(self.embedding(t, c))
        h = self.first(x)
        skips = []
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if i else h, embedded)
            skips.append(h)
        h = self.middle(self.attention(h), embedded)
        for i, block in enumerate(self.up):
            h = F.interpolate(h, scale_factor=2.0) if i else h
            h = block(torch.cat([h, skips.pop()], 1), embedded)
        return self.last(h)


class Block(nn.Module):
    """Two convolutions beside a short cut; the embedding (N, embed) enters between
    them.

    >>> Block(4, 8, 16, "embed")(torch.zeros(1, 4, 8, 8), torch.zeros(1, 16)).shape
    torch.Size([1, 8, 8, 8])
    """

    def __init__(self, channels: int, out: int, embed: int, conditioning: Conditioning) -> None:
        super().__init__()
        self.before = nn.Sequential(
            _norm(channels), nn.SiLU(), nn.Conv2d(channels, out, 3, padding=1)
        )
        self.embedding = nn.Linear(embed, out if conditioning == "embed" else 2 * out)
        self.norm = _norm(out)
        self.after = nn.Sequential(nn.SiLU(), nn.Conv2d(out, out, 3, padding=1))
        self.film = conditioning == "film"
        self.short = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        h = self.before(x)
        e = self.embedding(embedded)[..., None, None]
        if self.film:
            scale, shift = e.chunk(2, 1)
            h = self.norm(h) * (1 + scale) + shift
        else:
            h = self.norm(h + e)
        return self.short(x) + self.after(h)


class Attention(nn.Module):
    """Each place of a map looks at all of them: one head, beside a short cut.

    >>> Attention(4)(torch.zeros(1, 4, 8, 8)).shape
    torch.Size([1, 4, 8, 8])
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.read = nn.Conv2d(channels, 3 * channels, 1)
        self.write = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # (N, places, channels)
        read = self.read(self.norm(x)).flatten(2).transpose(1, 2)
        q, k, v = read.chunk(3, -1)
        seen = F.scaled_dot_product_attention(
            q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
        ).squeeze(1)
        return x + self.write(seen.transpose(1, 2).unflatten(2, x.shape[2:]))


def groups_of(channels: int) -> int:
    """At most 8 groups of 4 channels or more: of a group of one, a norm would leave
    nothing that is the same everywhere, such as an embedding.

    >>> groups_of(64), groups_of(12)
    (8, 2)
    """
    for groups in (8, 4, 2):
        if channels % groups == 0 and channels >= 4 * groups:
            return groups
    return 1


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups_of(channels), channels)


def depth_of(shape: tuple[int, ...]) -> int:
    """How often a map is halved.

    >>> depth_of((3, 32, 32))
    2

    Raises:
        ValueError: no image, or an image that can't be halved often enough.
    """
    if len(shape) != 3:
        raise ValueError(f"a UNet reads images of shape (channels, height, width), got {shape}")
    count, (height, width) = 0, shape[1:]
    while height > COARSEST_SIDE or width > COARSEST_SIDE:
        if height % 2 or width % 2:
            raise ValueError(
                f"a UNet can't halve images of {shape[1]}×{shape[2]} down to {COARSEST_SIDE}; pad or resize them, e.g. to 32×32 or 64×64"
            )
        count = count + 1
        height = height // 2
        width = width // 2
    return count
