"""Posteriors that take the best form there is, row by row: closed, mixed, or by chains."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.probability import distributions as dist
from counterpoint.probability.distributions import Diagonal, Expert, Normal
from counterpoint.probability.mcmc import HMC
from counterpoint.probability.mixtures import Choice, MixtureOfExperts
from counterpoint.probability.products import ProductOfPosteriors, warn_of_improper


def product_of_posteriors(
    experts: Sequence[Expert], members: Tensor, prior: Diagonal, hmc: HMC, names: Sequence[str] = ()
) -> dist.Posterior:
    """q(z | x_S), parameters (B, D).

    >>> from counterpoint.probability.mcmc import HMC
    >>> experts = [dist.Normal(torch.ones(1, 2), torch.full((1, 2), 0.5)) for _ in range(2)]
    >>> members = torch.ones(2, 1, dtype=torch.bool)
    >>> prior = dist.Normal(torch.zeros(2), torch.ones(2))
    >>> product_of_posteriors(experts, members, prior, HMC()).loc  # precisions 4 + 4 − 1
    tensor([[1.1429, 1.1429]])

    Args:
        experts: q(z | x_m), parameters (B, D) each.
        members: (M, B) bool, which experts row b has.
        prior: p(z), parameters (D,).
        hmc: how to sample where there is no closed form.
        names: of the experts, for messages.
    """
    if not all(isinstance(q, Normal) for q in (*experts, prior)):
        alone = members.sum(0) <= 1  # a single expert needs no chains
        q = ProductOfPosteriors(experts, members, prior, hmc, names)
        return chosen(alone, MixtureOfExperts(experts, members), q) if bool(alone.any()) else q
    everyone = dist.stacked(
        [
            *experts,
            Normal(
                prior.loc.expand_as(experts[0].point_estimate),
                prior.scale.expand_as(experts[0].point_estimate),
            ),
        ]
    )
    present = members.to(prior.scale.dtype)
    power = 1 - present.sum(0).clamp(min=1)
    powers = torch.cat([present, power[None]]).unsqueeze(-1)
    precision = (powers * everyone.scale.pow(-2)).sum(0)
    improper = (precision <= 0).any(-1) & members.any(0)
    warn_of_improper(improper)
    return dist.product(everyone, torch.cat([present, torch.where(improper, 0.0, power)[None]]))


def chosen(rows: Tensor, first: dist.Posterior, second: dist.Posterior) -> dist.Posterior:
    """``first`` in the rows (B,) that are True, ``second`` in the others; parameters
    (B, D) each.

    >>> first = dist.Normal(torch.zeros(2, 1), torch.ones(2, 1))
    >>> second = dist.Normal(torch.full((2, 1), 9.0), torch.ones(2, 1))
    >>> chosen(torch.tensor([True, False]), first, second).loc
    tensor([[0.],
            [9.]])
    """
    if bool(rows.all()):
        return first
    if isinstance(first, Normal) and isinstance(second, Normal):
        where = rows.unsqueeze(-1)
        return Normal(
            torch.where(where, first.loc, second.loc), torch.where(where, first.scale, second.scale)
        )
    return Choice(rows, first, _taken(second, (~rows).nonzero().squeeze(-1)))


def _taken(q: dist.Posterior, rows: Tensor) -> dist.Posterior:
    """The posteriors of some rows, (N,) indices."""
    if isinstance(q, dist.Expert):
        return dist.gathered(q, rows)
    if isinstance(q, MixtureOfExperts):
        return MixtureOfExperts(
            [dist.gathered(expert, rows) for expert in q.experts], q.members[:, rows]
        )
    if isinstance(q, ProductOfPosteriors):
        experts = [dist.gathered(expert, rows) for expert in q.experts]
        return ProductOfPosteriors(
            experts, q.members[:, rows], q.prior, q.hmc, q.names, q.rows[rows.cpu()]
        )
    if isinstance(q, Choice):
        place = torch.cumsum(~q.rows, 0) - 1  # of each row among those of the second
        here = q.rows[rows]
        if bool(here.all()):  # or chains would run for no row
            return _taken(q.first, rows)
        return Choice(here, _taken(q.first, rows), _taken(q.second, place[rows[~here]]))
    raise TypeError(f"rows of a {type(q).__name__} can't be taken")


def chained(q: dist.Posterior) -> ProductOfPosteriors | None:
    """The part of ``q`` that takes chains; None if none does.

    >>> chained(dist.Normal(torch.zeros(1, 1), torch.ones(1, 1))) is None
    True
    """
    while isinstance(q, Choice):
        q = q.second
    return q if isinstance(q, ProductOfPosteriors) else None


def normalised(q: dist.Posterior) -> dist.Posterior:
    """``q`` if its density is normalised, else a normalised mixture of its experts, for
    importance samples.

    >>> q = dist.Normal(torch.zeros(1, 1), torch.ones(1, 1))
    >>> normalised(q) is q
    True
    """
    if isinstance(q, Choice):
        return Choice(q.rows, q.first, normalised(q.second))
    return MixtureOfExperts(q.experts, q.members) if isinstance(q, ProductOfPosteriors) else q


def log_normaliser(q: dist.Posterior, like: dist.Posterior, samples: int) -> Tensor:
    """log ∫ exp(``q.log_prob``), (B,): 0 for a density, an estimate for a product.

    Half of the importance samples come from a normal with the moments of its chains,
    half from ``like``, a density that resembles it. The chains may find a row improper,
    which changes ``q.log_prob``.

    >>> q = dist.Normal(torch.zeros(1, 1), torch.ones(1, 1))
    >>> log_normaliser(q, q, 10)
    tensor([0.])
    """
    if isinstance(q, Choice):
        others = (~q.rows).nonzero().squeeze(-1)
        return torch.zeros_like(like.point_estimate[..., 0]).index_copy(
            0, others, log_normaliser(q.second, _taken(like, others), samples)
        )
    if not isinstance(q, ProductOfPosteriors):
        return torch.zeros_like(like.point_estimate[..., 0])
    draws = q.chains(max(q.hmc.chains, 8)).draws.flatten(0, 1)
    fitted = Normal(draws.mean(0), draws.std(0))
    half = torch.Size((-(-samples // 2),))
    z = torch.cat([fitted.rsample(half), like.rsample(half)])
    proposal = torch.logaddexp(fitted.log_prob(z), like.log_prob(z)) - math.log(2)
    return torch.logsumexp(q.log_prob(z) - proposal, 0) - math.log(len(z))
