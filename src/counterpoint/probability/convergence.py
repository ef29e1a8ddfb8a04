"""Convergence of chains: R-hat and effective sample sizes.

    Vehtari et al. 2021 (rank-normalised R-hat and bulk effective sample size), https://arxiv.org/abs/1903.08008

All take draws (N, C, B, D) of N steps, C chains and B targets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rhat(draws: Tensor) -> Tensor:
    """Rank-normalised split R-hat, (B, D).

    The larger of two values: that of the ranks, which detects chains in different
    places, and that of the ranks of distances from the median, which detects chains of
    different spread. Ranks have moments for densities of any tails. Near 1 if the
    chains agree; ∞ if none moves, or a draw is not finite. Long chains above 1.01 have
    not mixed; short ones exceed it by chance.

    >>> chains = torch.randn(100, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> round(rhat(chains).item(), 1)
    1.0
    >>> round(rhat(chains + torch.arange(4.0)[:, None, None]).item(), 1)  # in four places
    1.5

    Raises:
        ValueError: fewer than four draws a chain.
    """
    halves = _halves(draws)
    flat = halves.flatten(0, 1)
    ordered = flat.sort(0).values
    centre = (ordered[(len(flat) - 1) // 2] + ordered[len(flat) // 2]) / 2
    both = torch.maximum(_plain_rhat(ranked(halves)), _plain_rhat(ranked((halves - centre).abs())))
    return torch.where(torch.isfinite(flat).all(0), both.to(draws.dtype), math.inf)


def split_rhat(draws: Tensor) -> Tensor:
    """Split R-hat without ranks, (B, D): √ of the variance over all half-chains by the
    mean variance within one; ∞ if none moves. It assumes a density with a variance; see
    :func:`rhat`.

    >>> still = torch.zeros(8, 2, 1, 1)
    >>> split_rhat(still)
    tensor([[inf]])

    Raises:
        ValueError: fewer than four draws a chain.
    """
    return _plain_rhat(_halves(draws))


def bulk_size(draws: Tensor) -> Tensor:
    """Bulk effective sample size, (B, D): that of the ranks, robust to tails without
    moments; 0 if a draw is not finite.

    >>> draws = torch.randn(500, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> bulk_size(draws).item() > 1000  # of 2000 independent draws
    True

    Raises:
        ValueError: fewer than four draws a chain.
    """
    size = _plain_size(ranked(_halves(draws))).to(draws.dtype)
    return torch.where(torch.isfinite(draws).flatten(0, 1).all(0), size, 0.0)


def effective_size(draws: Tensor) -> Tensor:
    """Effective sample size for the mean, (B, D): N·C over the autocorrelation time.

    The sum of autocorrelations stops where pairs turn negative, and pairs may not rise
    (Geyer's initial monotone sequence).

    >>> draws = torch.randn(500, 4, 1, 1, generator=torch.Generator().manual_seed(0))
    >>> effective_size(draws.cumsum(0)).item() < 20  # of 2000 draws of slow chains
    True

    Raises:
        ValueError: fewer than four draws a chain.
    """
    return _plain_size(_halves(draws))


def ranked(draws: Tensor) -> Tensor:
    """Normal scores Φ⁻¹((r − 3/8) / (S + 1/4)) of the ranks r = 1..S among all N·C draws
    of b and d, (N, C, B, D) in float64. Ties share their mean rank.

    >>> ranked(torch.tensor([1.0, 9.0, 2.0]).view(3, 1, 1, 1)).flatten()
    tensor([-0.8694,  0.8694,  0.0000], dtype=torch.float64)
    """
    flat = draws.flatten(0, 1).movedim(0, -1).contiguous()  # (B, D, S)
    ordered = flat.sort(-1).values
    rank = (
        torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True) + 1
    ) / 2
    scores = torch.special.ndtri((rank.double() - 0.375) / (flat.shape[-1] + 0.25))
    return scores.movedim(-1, 0).view(draws.shape)


def _plain_rhat(chains: Tensor) -> Tensor:
    count = len(chains)
    within = chains.var(0).mean(0)
    between = chains.mean(0).var(0)  # of the means, without the factor N
    return torch.where(within > 0, ((count - 1) / count + between / within).sqrt(), math.inf)


def _plain_size(draws: Tensor) -> Tensor:
    count, chains = draws.shape[:2]
    centred = draws - draws.mean(0)
    spectrum = torch.fft.rfft(centred, n=2 * count, dim=0)
    # (N, B, D), mean over chains
    covariance = (
        torch.fft.irfft(spectrum.abs().square(), n=2 * count, dim=0)[:count].mean(1) / count
    )
    within = covariance[0] * count / (count - 1)
    total = within * (count - 1) / count + draws.mean(0).var(0)
    correlation = 1 - (within - covariance) / total
    correlation[0] = 1.0
    pairs = correlation[: count // 2 * 2].unflatten(0, (-1, 2)).sum(1)  # Γ_k = ρ_2k + ρ_2k+1
    positive = torch.cummin(pairs, 0).values.clamp(min=0.0)
    time = (2 * positive.sum(0) - 1).clamp(min=1 / math.log10(count * chains))
    return torch.where(within > 0, count * chains / time, 0.0)


def _halves(draws: Tensor) -> Tensor:
    """The halves of every chain as separate chains, (N // 2, 2C, B, D)."""
    count = len(draws) // 2
    if count < 2:
        raise ValueError(
            f"{len(draws)} draws a chain are too few to compare its halves; let hmc take steps=4 or more"
        )
    return torch.cat([draws[:count], draws[-count:]], 1)
