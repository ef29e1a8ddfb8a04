"""Mixtures of experts of any family, and one of two distributions row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from counterpoint.core import noise
from counterpoint.probability import distributions as dist
from counterpoint.probability.distributions import Expert


class MixtureOfExperts(Distribution):
    """Uniform mixture of experts of any family, row by row. Importance sampling draws
    from it instead of an unnormalised product.

    >>> experts = [dist.Normal(torch.full((1, 1), m), torch.ones(1, 1)) for m in (-1.0, 1.0)]
    >>> mixture = MixtureOfExperts(experts, torch.ones(2, 1, dtype=torch.bool))
    >>> mixture.log_prob(torch.zeros(1, 1))  # of N(1, 1) at 0
    tensor([-1.4189])

    Args:
        experts: q(z | x_m), parameters (B, D) each.
        members: (M, B) bool, which experts row b has. A row without any takes all, so
            that it stays finite.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own interface)
    has_rsample = True

    def __init__(self, experts: Sequence[Expert], members: Tensor) -> None:
        self.experts = tuple(experts)
        self.members = members | ~members.any(0, keepdim=True)
        super().__init__(experts[0].batch_shape, experts[0].event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        each = [
            torch.where(here, q.log_prob(value), -math.inf)
            for q, here in zip(self.experts, self.members, strict=True)
        ]
        return torch.logsumexp(torch.stack(each), 0) - self.members.sum(0).log()

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        draws = torch.stack([q.rsample(shape) for q in self.experts], -2)  # (*shape, B, M, D)
        turn = noise.choices(self.members.T.float(), shape)  # (*shape, B)
        return draws.gather(
            -2, turn[..., None, None].expand(*turn.shape, 1, draws.shape[-1])
        ).squeeze(-2)

    @property
    def point_estimate(self) -> Tensor:
        points = torch.stack([q.point_estimate for q in self.experts])
        return (self.members.unsqueeze(-1) * points).sum(0) / self.members.sum(0).unsqueeze(-1)


class Choice(Distribution):
    """One of two distributions, row by row.

    >>> first = dist.Normal(torch.zeros(2, 1), torch.ones(2, 1))
    >>> second = dist.Normal(torch.full((1, 1), 9.0), torch.ones(1, 1))
    >>> Choice(torch.tensor([True, False]), first, second).point_estimate
    tensor([[0.],
            [9.]])

    Args:
        rows: (B,) bool, True for the first distribution.
        first: parameters (B, D).
        second: parameters (N, D) of the N other rows.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 (torch's own interface)
    has_rsample = True

    def __init__(self, rows: Tensor, first: dist.Posterior, second: dist.Posterior) -> None:
        self.rows = rows
        self.first = first
        self.second = second
        super().__init__(
            torch.Size((len(rows),)), first.point_estimate.shape[-1:], validate_args=False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        return self._together(
            self.first.log_prob(value), self.second.log_prob(value[..., ~self.rows, :]), -1
        )

    def rsample(self, sample_shape: torch.Size | Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        return self._together(self.first.rsample(shape), self.second.rsample(shape), -2)

    @cached_property
    def point_estimate(self) -> Tensor:
        return self._together(self.first.point_estimate, self.second.point_estimate, -2)

    def _together(self, first: Tensor, second: Tensor, axis: int) -> Tensor:
        return first.index_copy(axis, (~self.rows).nonzero().squeeze(-1), second)
