"""Log-densities against torch.distributions and scipy, fixed and learned scales, and what raw outputs mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as td

from counterpoint.likelihoods import Located, likelihood
from counterpoint.types import Modality

K, B = 3, 4
SHAPES = {"vector": (5,), "image": (2, 3, 3)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("scale", [0.3, 1.7])
@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_fixed_scale_is_scipys_density(name: str, scale: float, shape: tuple[int, ...]) -> None:
    reads = likelihood(Modality("m", shape, name, scale=scale))  # type: ignore[arg-type]
    raw, x = torch.randn(K, B, *shape), torch.rand(B, *shape)
    location = torch.sigmoid(raw) if len(shape) == 3 else raw
    torch.testing.assert_close(reads.mean(raw), location)
    family = {"normal": stats.norm, "laplace": stats.laplace}[name]
    expected = np.asarray(family.logpdf(x.double().numpy(), location.double().numpy(), scale)).reshape(K, B, -1).sum(-1)
    np.testing.assert_allclose(reads.log_prob(raw, x).numpy(), expected, rtol=1e-5)
    assert not list(reads.parameters()) and not reads.state_dict(), "a fixed scale is no weight"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_learned_scale_is_one_per_feature_and_learns(name: str, shape: tuple[int, ...]) -> None:
    reads = likelihood(Modality("m", shape, name, scale=None))  # type: ignore[arg-type]
    assert isinstance(reads, Located) and reads.log_scale.shape == shape
    assert (reads.log_scale == 0).all(), "scales start at 1"
    with torch.no_grad():
        reads.log_scale.copy_(torch.randn(shape) * 0.4)
    raw, x = torch.randn(K, B, *shape), torch.rand(B, *shape)
    family = {"normal": td.Normal, "laplace": td.Laplace}[name]
    log_scale = reads.log_scale.detach().clone().requires_grad_()
    expected = family(reads.mean(raw), log_scale.exp()).log_prob(x).flatten(2).sum(-1)
    torch.testing.assert_close(reads.log_prob(raw, x), expected)
    reads.log_prob(raw, x).sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(reads.log_scale.grad, log_scale.grad)
    assert bool((log_scale.grad != 0).all())  # type: ignore[union-attr]


def test_learned_scale_is_best_at_the_spread_of_the_residuals() -> None:
    reads = likelihood(Modality("m", (2,), "normal", scale=None))
    x = torch.randn(4000, 2) * torch.tensor([0.5, 2.0])
    with torch.no_grad():
        (log_scale,) = reads.parameters()
        log_scale.copy_(x.square().mean(0).sqrt().log())
    reads.log_prob(torch.zeros(4000, 2), x).mean().backward()
    assert log_scale.grad is not None and float(log_scale.grad.abs().max()) < 1e-4


def test_bernoulli_is_torchs() -> None:
    reads = likelihood(Modality("m", (6,), "bernoulli"))
    raw, x = torch.randn(K, B, 6) * 4, (torch.rand(B, 6) > 0.5).float()
    torch.testing.assert_close(reads.log_prob(raw, x), td.Bernoulli(logits=raw).log_prob(x.expand(K, B, 6)).sum(-1))
    torch.testing.assert_close(reads.mean(raw), torch.sigmoid(raw))
    assert torch.isfinite(reads.log_prob(torch.full((B, 6), 200.0), torch.zeros(B, 6))).all()


def test_categorical_sums_over_positions() -> None:
    reads = likelihood(Modality("m", (4,), "categorical", classes=6))
    assert reads.output_shape == (4, 6)
    raw, x = torch.randn(K, B, 4, 6), torch.randint(6, (B, 4))
    torch.testing.assert_close(reads.log_prob(raw, x), td.Categorical(logits=raw).log_prob(x.expand(K, B, 4)).sum(-1))
    assert reads.mean(raw).shape == (K, B, 4, 6)
    torch.testing.assert_close(reads.mean(raw).sum(-1), torch.ones(K, B, 4))
    by_hand = sum(float(torch.log_softmax(raw[1, 2, i], -1)[x[2, i]]) for i in range(4))
    assert float(reads.log_prob(raw, x)[1, 2]) == pytest.approx(by_hand, rel=1e-5)


def test_a_categorical_density_sums_to_one() -> None:
    reads = likelihood(Modality("m", (2,), "categorical", classes=3))
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    densities = reads.log_prob(torch.randn(1, 2, 3).expand(9, 2, 3), every)
    assert float(densities.exp().sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", ["normal", "laplace", "bernoulli", "categorical"])
def test_densities_are_float32_whatever_the_network_returns(name: str) -> None:
    modality = Modality("m", (4,), name, classes=5)  # type: ignore[arg-type]
    reads = likelihood(modality)
    raw = torch.randn(B, *reads.output_shape).bfloat16()
    x = torch.randint(5, (B, 4)) if name == "categorical" else torch.rand(B, 4)
    assert reads.log_prob(raw, x).dtype == torch.float32
    torch.testing.assert_close(reads.log_prob(raw, x), reads.log_prob(raw.float(), x))
    assert reads.exact


def test_means_are_differentiable() -> None:
    for modality in (Modality("i", (1, 2, 2)), Modality("w", (3,), "categorical", classes=4), Modality("v", (2,), "normal")):
        reads = likelihood(modality)
        raw = torch.randn(B, *reads.output_shape, requires_grad=True)
        (reads.mean(raw) ** 2).sum().backward()
        assert raw.grad is not None and bool((raw.grad != 0).all())


@pytest.mark.parametrize(("name", "variance"), [("normal", 0.49), ("laplace", 0.98), ("bernoulli", None)])
def test_draws_have_the_mean_and_the_variance(name: str, variance: float | None) -> None:
    reads = likelihood(Modality("m", (3,), name, 0.7 if variance else None))  # type: ignore[arg-type]
    raw = torch.tensor([-1.0, 0.2, 1.5])
    torch.manual_seed(0)
    draws = reads.sample(raw.expand(40_000, 3))
    mean = reads.mean(raw)
    expected = mean * (1 - mean) if variance is None else torch.full((3,), variance)
    torch.testing.assert_close(draws.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(draws.var(0), expected, rtol=0.05, atol=0)


def test_draws_of_words_follow_their_probabilities() -> None:
    reads = likelihood(Modality("m", (2,), "categorical", classes=3))
    raw = torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 0.0]])
    torch.manual_seed(0)
    draws = reads.sample(raw.expand(40_000, 2, 3))
    assert draws.dtype == torch.int64
    shares = torch.stack([(draws == k).float().mean(0) for k in range(3)], -1)
    torch.testing.assert_close(shares, torch.softmax(raw, -1), atol=0.01, rtol=0)
