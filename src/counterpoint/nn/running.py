"""Running statistics of training rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoint.core.precision import wide


class RunningMoments(nn.Module):
    """Running mean and variance of vectors (N, dim), for what needs them and not for
    normalising: all batches count the same at first, and later ones one in a hundred,
    so that few batches are enough and what changes is followed. Fewer than two rows
    change nothing.

    A batch of mean m and variance v, which counts a share s, moves them by the law of
    total variance, so that batches may differ (a modality after the other):

        variance ← (1 − s) variance + s v + s (1 − s) (m − mean)²,      mean ← (1 − s) mean + s m

    Args:
        dim: size of the vectors.

    Attributes:
        mean: (dim,), 0 at first.
        variance: (dim,), 1 at first.
        count: batches seen.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    MIN_SHARE = 0.01
    """The share of later batches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Take account of x when training; returns it as it is."""
        if self.training and len(x) > 1:
            share = self.count.add_(1).float().reciprocal().clamp(min=self.MIN_SHARE)
            values = wide(x)
            apart = values.mean(0) - self.mean
            self.variance.lerp_(values.var(0, correction=0), share).add_(
                share * (1 - share) * apart.square()
            )
            self.mean.add_(share * apart)
        return x

    @torch.no_grad()
    def settle(self, x: Tensor) -> None:
        """Take mean and variance from all of x (N, dim); batches that come later count
        one in a hundred."""
        self.mean.copy_(x.mean(0))
        self.variance.copy_(x.var(0, correction=0))
        self.count.fill_(round(1 / self.MIN_SHARE))


class MeanImputer(nn.Module):
    """The mean of every entry over all that were there in training, which stands for
    those that are missing.

    Args:
        shape: of one example.
    """

    mean: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("count", torch.zeros(shape))

    @torch.no_grad()
    def observe(self, x: Tensor, there: Tensor) -> None:
        """Take account, when training, of values (B, *shape), where they are there."""
        if self.training:
            self.count.add_(there.sum(0))
            self.mean.add_(((x - self.mean) * there).sum(0) / self.count.clamp(min=1))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Values (B, *shape) with the mean in the place of those that are not there."""
        return torch.where(there, x, self.mean.to(x.dtype))
