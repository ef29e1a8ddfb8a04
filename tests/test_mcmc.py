"""Hamiltonian Monte Carlo: closed-form targets, exactness of a step, and diagnostics
against Pyro's."""

from __future__ import annotations

import math

import pytest
import torch
from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor
from torch.distributions import MultivariateNormal

from counterpoint.probability import convergence, mcmc
from counterpoint.probability.mcmc import HMC, StepSize


def gaussian(mean: Tensor, covariance: Tensor) -> mcmc.LogDensity:
    """Correlated normals, one for each row: mean (B, D), covariance (B, D, D)."""
    return MultivariateNormal(mean, covariance, validate_args=False).log_prob


def covariances() -> Tensor:
    """Three targets of very different scales, two of them strongly correlated."""
    torch.manual_seed(0)
    factor = torch.randn(3, 4, 4)
    return torch.tensor([1e-4, 1.0, 100.0]).view(3, 1, 1) * (
        factor @ factor.mT + 0.1 * torch.eye(4)
    )


def test_gaussian_targets_of_any_scale_at_once() -> None:
    mean, covariance = torch.tensor([[3.0], [-1.0], [20.0]]).expand(3, 4), covariances()
    torch.manual_seed(1)
    chains = mcmc.sample(
        gaussian(mean, covariance),
        torch.randn(64, 3, 4),
        HMC(warmup=400, steps=800, leapfrogs=20, acceptance=0.8),
    )
    assert float(convergence.rhat(chains.draws).max()) < 1.01
    assert float(chains.divergent.max()) == 0
    assert 0.7 < float(chains.acceptance.mean()) < 0.92, "dual averaging aims at 0.8"
    flat = chains.draws.flatten(0, 1)  # (N, B, D)
    size = convergence.effective_size(chains.draws)
    error = (flat.mean(0) - mean).abs() / (covariance.diagonal(dim1=1, dim2=2) / size).sqrt()
    assert float(error.max()) < 4
    for row in range(3):
        estimate = torch.cov(flat[:, row].T)
        assert float((estimate - covariance[row]).norm() / covariance[row].norm()) < 0.05


def test_a_step_leaves_the_density_as_it_is() -> None:
    """Exact draws of a skewed density stay exact draws, however crude the step: without
    the right acceptance they would not."""

    def log_density(z: Tensor) -> Tensor:  # Gumbel
        return (-z - torch.exp(-z)).squeeze(-1)

    torch.manual_seed(0)
    exact = -torch.log(-torch.log(torch.rand(40_000, 1, 1)))
    state = mcmc.init(mcmc.differentiated(log_density), exact)
    for _ in range(5):
        state, info = mcmc.step(
            mcmc.differentiated(log_density),
            state,
            step_size=torch.tensor(1.3),
            leapfrogs=2,
            variance=torch.ones(1),
        )
    assert 0.5 < float(info.acceptance.mean()) < 0.95, "crude enough to reject"
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])
    found = torch.quantile(state.position.flatten(), levels)
    share = torch.exp(-torch.exp(-found))  # the distribution function at the quantiles found
    assert float(((share - levels).abs() / (levels * (1 - levels) / 40_000).sqrt()).max()) < 4


def test_energy_error_falls_with_the_square_of_the_step() -> None:
    torch.manual_seed(0)
    target, start = (
        mcmc.differentiated(gaussian(torch.zeros(1, 4), covariances()[1:2])),
        torch.randn(2000, 1, 4),
    )

    def rejected(size: float, leapfrogs: int) -> float:
        torch.manual_seed(1)
        _, info = mcmc.step(
            target,
            mcmc.init(target, start),
            step_size=torch.tensor(size),
            leapfrogs=leapfrogs,
            variance=torch.ones(4),
        )
        return float((1 - info.acceptance).mean())

    assert rejected(0.04, 5) / rejected(0.02, 10) == pytest.approx(4, rel=0.1)


def test_a_proposal_that_is_not_finite_is_not_taken() -> None:
    """A density that is NaN outside a box: the chains stay inside, and sample it
    evenly."""

    def log_density(z: Tensor) -> Tensor:
        return torch.where((z.abs() < 1).all(-1), 0.0 * z.sum(-1), math.nan)

    torch.manual_seed(0)
    state, visited, left = (
        mcmc.init(mcmc.differentiated(log_density), torch.zeros(2000, 1, 2)),
        [],
        0,
    )
    for _ in range(300):
        state, info = mcmc.step(
            mcmc.differentiated(log_density),
            state,
            step_size=torch.tensor(0.3),
            leapfrogs=3,
            variance=torch.ones(2),
        )
        left += int(info.divergent.sum())
        visited.append(state.position)
    draws = torch.stack(visited[20:])
    assert left > 0 and bool(torch.isfinite(draws).all())
    assert float(draws.abs().max()) < 1
    assert float(draws.var((0, 1)).sub(1 / 3).abs().max()) < 0.004


def test_each_chain_accepts_for_itself() -> None:
    """Beside a target that is a hundred times narrower, a chain moves as it would
    alone."""
    narrow = mcmc.differentiated(gaussian(torch.zeros(2, 1), torch.tensor([[[1.0]], [[1e-4]]])))
    torch.manual_seed(0)
    state = mcmc.init(narrow, torch.zeros(500, 2, 1))
    _, info = mcmc.step(
        narrow, state, step_size=torch.tensor(0.5), leapfrogs=3, variance=torch.ones(1)
    )
    assert float(info.acceptance[:, 0].mean()) > 0.9
    assert float(info.acceptance[:, 1].mean()) < 0.01
    assert bool(info.divergent[:, 1].any()) and not bool(info.divergent[:, 0].any())


def test_step_sizes_settle_at_the_wanted_acceptance() -> None:
    """A made-up response, acceptance = 1 / (1 + ε), is 0.8 at ε = 0.25."""
    torch.manual_seed(0)
    sizes = StepSize.start(3.0, torch.zeros(2, 3))
    for _ in range(2000):
        noise = 0.05 * torch.randn(2, 3)
        sizes = sizes.updated((1 / (1 + sizes.log_size.exp()) + noise).clamp(0, 1), 0.8)
    torch.testing.assert_close(sizes.log_average.exp(), torch.full((2, 3), 0.25), rtol=0.05, atol=0)


def autoregressive(phi: float, chains: int = 8, steps: int = 2000) -> Tensor:
    torch.manual_seed(0)
    noise = torch.randn(steps, chains, 2, 3, dtype=torch.float64) * math.sqrt(1 - phi**2)
    draws = [torch.randn(chains, 2, 3, dtype=torch.float64)]
    for e in noise:
        draws.append(phi * draws[-1] + e)
    return torch.stack(draws[1:])


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.9])
def test_diagnostics_are_pyros(phi: float) -> None:
    draws = autoregressive(phi)
    torch.testing.assert_close(
        convergence.split_rhat(draws), split_gelman_rubin(draws, 1, 0), rtol=1e-6, atol=0
    )
    size = convergence.effective_size(draws)
    torch.testing.assert_close(size, effective_sample_size(draws, 1, 0), rtol=0.1, atol=0)
    truth = 8 * 2000 * (1 - phi) / (1 + phi)
    assert float((size / truth - 1).abs().max()) < 0.25


def test_rhat_sees_chains_apart_and_chains_that_drift() -> None:
    draws = autoregressive(0.0)
    apart = draws + torch.arange(8.0).view(8, 1, 1)
    assert float(convergence.rhat(apart).min()) > 1.5
    drifting = draws + torch.linspace(0, 3, 2000).view(-1, 1, 1, 1)
    assert float(convergence.rhat(drifting).min()) > 1.1
    assert float(convergence.rhat(draws).max()) < 1.005


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chains": 0}, "chains=0 must be 1 or more"),
        ({"warmup": -1}, "warmup=-1 must be 0 or more"),
        ({"steps": 0}, "steps=0 must be 1 or more"),
        ({"leapfrogs": 0}, "leapfrogs=0 must be 1 or more"),
        ({"acceptance": 1.0}, "acceptance=1.0 must lie between 0 and 1"),
    ],
)
def test_bad_settings(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HMC(**options)  # type: ignore[arg-type]


def test_too_few_draws_to_diagnose() -> None:
    with pytest.raises(ValueError, match="3 draws a chain are too few"):
        convergence.rhat(torch.randn(3, 2, 1, 1))
