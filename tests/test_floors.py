"""Scales that are learned stay where densities are finite, and can be learned again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from counterpoint.core.modality import LikelihoodName, Modality
from counterpoint.model.likelihoods import Beta, Located, likelihood
from counterpoint.model.priors import Prior
from counterpoint.probability.distributions import MIN_LEARNED_SCALE


def trained(reads: Any, raw: nn.Parameter, x: Tensor, steps: int) -> Tensor:
    """The mean negative log-likelihood after so many steps of Adam."""
    optimiser = torch.optim.Adam([raw, *reads.parameters()], 0.2)
    for _ in range(steps):
        loss = -reads.log_prob(raw.expand(len(x), -1), x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return loss.detach()


@pytest.mark.parametrize(
    ("name", "constant", "at_least"),
    [  # nats of a constant feature: those of the narrowest density at its mode
        ("normal", 0.5, -0.5 * math.log(2 * math.pi) - math.log(MIN_LEARNED_SCALE)),
        ("laplace", 0.5, -math.log(2 * MIN_LEARNED_SCALE)),
        ("beta", 0.5, float(stats.beta.logpdf(0.5, 5e5, 5e5))),
        ("beta", 0.0, float(stats.beta.logpdf(5e-4, 500, 1e6 - 500))),
    ],
)
def test_a_constant_feature_is_worth_a_finite_number_of_nats(
    name: LikelihoodName, constant: float, at_least: float
) -> None:
    """A thousand steps beside a feature that varies, which is learned all the same."""
    reads, raw = likelihood(Modality("m", (2,), name, None)), nn.Parameter(torch.zeros(2))
    x = torch.stack([torch.full((64,), constant), 0.1 + 0.8 * torch.rand(64)], 1)
    loss = trained(reads, raw, x, 1000)
    assert torch.isfinite(loss) and all(torch.isfinite(p).all() for p in (raw, *reads.parameters()))
    with torch.no_grad():
        each = reads.log_prob(
            raw.expand(64, -1), x, torch.tensor([[True, False]]).expand(64, -1)
        ).mean()
        draws = reads.sample(raw.expand(4000, -1))
    assert float(each) <= at_least + 0.01
    assert torch.isfinite(draws).all() and float(draws[:, 0].std()) < 0.02
    spread = (
        math.sqrt(2) * (x[:, 1] - x[:, 1].median()).abs().mean()
        if name == "laplace"
        else x[:, 1].std()
    )
    assert float(draws[:, 1].std()) == pytest.approx(float(spread), rel=0.2)


def test_a_scale_below_its_floor_can_be_learned_again() -> None:
    """σ² = s² + .001²: ∂(−log p)/∂ log s = (1 − (x − μ)²/σ²) s²/σ², and not 0 as a
    clamp would have it."""
    reads = likelihood(Modality("m", (1,), "normal", None))
    assert isinstance(reads, Located)
    nn.init.constant_(reads.log_scale, -9.0)
    variance = math.exp(-18) + MIN_LEARNED_SCALE**2
    assert float(reads.log_sigma.detach()) == pytest.approx(0.5 * math.log(variance))
    (-reads.log_prob(torch.zeros(1, 1), torch.full((1, 1), 0.5))).sum().backward()
    assert reads.log_scale.grad is not None
    assert float(reads.log_scale.grad) == pytest.approx(
        (1 - 0.25 / variance) * math.exp(-18) / variance, rel=1e-4
    )


def test_scales_that_are_given_have_no_floor() -> None:
    reads = likelihood(Modality("m", (1,), "normal", 1e-5))
    found = reads.log_prob(torch.zeros(1, 1), torch.full((1, 1), 2e-5))
    assert float(found) == pytest.approx(float(stats.norm.logpdf(2e-5, 0, 1e-5)), rel=1e-5)


def test_a_prior_stays_a_density() -> None:
    prior = Prior(2, learned_scale=True)
    nn.init.constant_(prior.log_scale, -200.0)
    torch.testing.assert_close(prior().scale.detach(), torch.full((2,), MIN_LEARNED_SCALE))
    assert torch.isfinite(prior().log_prob(torch.ones(1, 2))).all()


def test_a_concentrated_beta_is_scipys() -> None:
    """Where log-gammas are of 10^7, whose differences float32 can't tell."""
    reads, raw = likelihood(Modality("m", (3,), "beta", None)), torch.tensor([[-2.0, 0.0, 1.0]])
    assert isinstance(reads, Beta)
    nn.init.constant_(reads.log_concentration, 12.0)
    phi = 1 / (math.exp(-12) + 1e-6)
    mean = torch.sigmoid(raw.double()).numpy()
    x = (mean + np.array([[1e-3, -1e-3, 5e-4]])).astype(np.float32)
    expected = stats.beta.logpdf(x.astype(float), phi * mean, phi * (1 - mean)).sum(-1)
    assert float(reads.log_prob(raw, torch.as_tensor(x)).detach()) == pytest.approx(
        float(expected[0]), abs=0.02
    )
