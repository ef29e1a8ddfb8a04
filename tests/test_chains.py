"""Diagnostics of chains against the formulas of Vehtari et al. 2021 in numpy and scipy,
and what step sizes come to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm, rankdata
from test_mcmc import autoregressive
from torch import Tensor

from counterpoint.probability import convergence, mcmc
from counterpoint.probability.mcmc import HMC

Array = np.ndarray


def halves(draws: Array) -> Array:
    """(N, C) → (2 C, N // 2), without the middle draw of an odd number."""
    count = len(draws) // 2
    return np.concatenate([draws[:count].T, draws[-count:].T])


def scores(chains: Array) -> Array:
    return norm.ppf((rankdata(chains, method="average") - 3 / 8) / (chains.size + 1 / 4)).reshape(
        chains.shape
    )


def plain_rhat(chains: Array) -> float:
    n = chains.shape[1]
    between, within = n * chains.mean(1).var(ddof=1), chains.var(1, ddof=1).mean()
    return math.sqrt((between / within + n - 1) / n)


def rank_rhat(draws: Array) -> float:
    split = halves(draws)
    return max(plain_rhat(scores(split)), plain_rhat(scores(np.abs(split - np.median(split)))))


def bulk(draws: Array) -> float:
    """Geyer's sum as arviz and Stan have it, lag by lag."""
    z = scores(halves(draws))
    chains, n = z.shape
    off = z - z.mean(1, keepdims=True)
    cov = np.array([[(c[: n - t] * c[t:]).sum() / n for t in range(n)] for c in off]).mean(0)
    within = cov[0] * n / (n - 1)
    total = within * (n - 1) / n + z.mean(1).var(ddof=1)
    rho = 1 - (within - cov) / total
    rho[0] = 1.0
    pairs: list[float] = []
    for t in range(0, n - 1, 2):
        pair = rho[t] + rho[t + 1]
        if pair < 0:
            break
        pairs.append(min(pair, pairs[-1]) if pairs else pair)
    return float(chains * n / max(2 * sum(pairs) - 1, 1 / math.log10(chains * n)))


def heavy(draws: Tensor) -> Tensor:
    """Of a Cauchy distribution, in the order of normal draws."""
    return torch.tan(math.pi * (torch.special.ndtr(draws) - 0.5))


@pytest.mark.parametrize("kind", ["normal", "apart", "wide", "heavy", "ties", "odd"])
def test_rank_normalised_diagnostics_are_those_of_the_paper(kind: str) -> None:
    draws = autoregressive(0.5, chains=4, steps=201 if kind == "odd" else 200)
    first = torch.tensor([1.0, 0, 0, 0]).view(4, 1, 1)
    changed = {
        "apart": draws + first,
        "wide": draws * (1 + 2 * first),
        "heavy": heavy(draws),
        "ties": draws.round(),
    }
    draws = changed.get(kind, draws)
    rhat, size = convergence.rhat(draws), convergence.bulk_size(draws)
    for b, d in np.ndindex(2, 3):
        assert float(rhat[b, d]) == pytest.approx(rank_rhat(draws[:, :, b, d].numpy()), rel=1e-6)
        assert float(size[b, d]) == pytest.approx(bulk(draws[:, :, b, d].numpy()), rel=1e-6)


def test_ranks_see_what_moments_do_not() -> None:
    """Chains of different spread about one centre; chains in different places of a
    distribution without moments."""
    draws = autoregressive(0.0, chains=4, steps=500)
    wide = draws * torch.tensor([3.0, 1, 1, 1]).view(4, 1, 1)
    assert (
        float(convergence.split_rhat(wide).max()) < 1.01 < 1.1 < float(convergence.rhat(wide).min())
    )
    apart = heavy(draws) + torch.tensor([2.0, 0, 0, 0]).view(4, 1, 1)
    assert (
        float(convergence.split_rhat(apart).max())
        < 1.01
        < 1.05
        < float(convergence.rhat(apart).min())
    )


def test_chains_that_do_not_move_or_are_not_finite_have_not_mixed() -> None:
    draws = torch.randn(20, 2, 1, 3)
    draws[:, :, :, 1] = torch.tensor([0.0, 1.0]).view(2, 1)  # each chain in a place of its own
    draws[3, 0, 0, 2] = math.nan
    assert convergence.rhat(draws)[0].isinf().tolist() == [False, True, True]
    assert (convergence.bulk_size(draws)[0] > 0).tolist() == [True, False, False]


@pytest.mark.parametrize("goal", [0.65, 0.85])
def test_chains_accept_what_they_aim_at(goal: float) -> None:
    """After a hundred steps of warm-up, as by default, in 2 and in 16 dimensions."""
    for dim in (2, 16):
        scale = torch.logspace(-0.5, 0.5, dim)
        settings = HMC(acceptance=goal, leapfrogs=10)
        chains = mcmc.sample(
            lambda z, s=scale: -0.5 * (z / s).square().sum(-1), torch.randn(4, 64, dim), settings
        )
        assert float(chains.acceptance.mean()) == pytest.approx(goal, abs=0.06)
