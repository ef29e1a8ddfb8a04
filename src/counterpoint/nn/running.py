"""Running moments of training rows, and the imputer of missing entries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from counterpoint.core.precision import wide


class RunningMoments(nn.Module):
    """Running mean and variance of vectors (N, dim).

    A cumulative average for the first 100 batches, an exponential one with momentum .01
    afterwards. Batches of fewer than two rows are ignored. A batch of mean m and
    variance v with share s moves the moments by the law of total variance:

        variance ← (1 − s) variance + s v + s (1 − s) (m − mean)²,      mean ← (1 − s) mean + s m

    Args:
        dim: size of the vectors.

    Attributes:
        mean: (dim,), 0 at first.
        variance: (dim,), 1 at first.
        count: batches seen.

    >>> moments = RunningMoments(2)
    >>> _ = moments(torch.tensor([[0.0, 2.0], [2.0, 2.0]]))
    >>> moments.mean.tolist(), moments.variance.tolist()
    ([1.0, 2.0], [1.0, 0.0])
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    MIN_SHARE = 0.01
    """Share of a batch after the first 100."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Track x (N, dim) when training, and return it unchanged."""
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
        """Set the moments to those of x (N, dim); later batches have a share of .01."""
        self.mean.copy_(x.mean(0))
        self.variance.copy_(x.var(0, correction=0))
        self.count.fill_(round(1 / self.MIN_SHARE))


class MeanImputer(nn.Module):
    """Imputes missing entries by their mean over the training rows.

    Args:
        shape: of one example.

    >>> imputer = MeanImputer((1,))
    >>> imputer.observe(torch.tensor([[1.0], [3.0]]), torch.ones(2, 1, dtype=torch.bool))
    >>> imputer(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.bool)).item()
    2.0
    """

    mean: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("count", torch.zeros(shape))

    @torch.no_grad()
    def observe(self, x: Tensor, there: Tensor) -> None:
        """Track, when training, the values (B, *shape) of entries that are ``there``."""
        if self.training:
            self.count.add_(there.sum(0))
            self.mean.add_(((x - self.mean) * there).sum(0) / self.count.clamp(min=1))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Replace entries of x (B, *shape) that are not ``there`` by their mean."""
        return torch.where(there, x, self.mean.to(x.dtype))
