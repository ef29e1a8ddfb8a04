"""Log-densities against torch.distributions and scipy, fixed and learned scales, and
what raw outputs mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import distributions as td

from counterpoint.core.modality import Modality
from counterpoint.model.counts import Counts
from counterpoint.model.likelihoods import MIN_DISTANCE_TO_ENDS, Beta, Located, likelihood
from counterpoint.nn.modules import readable

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
    expected = (
        np.asarray(family.logpdf(x.double().numpy(), location.double().numpy(), scale))
        .reshape(K, B, -1)
        .sum(-1)
    )
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
    scale = (log_scale.exp().square() + 1e-6).sqrt()  # a thousandth at least
    expected = family(reads.mean(raw), scale).log_prob(x).flatten(2).sum(-1)
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
    torch.testing.assert_close(
        reads.log_prob(raw, x), td.Bernoulli(logits=raw).log_prob(x.expand(K, B, 6)).sum(-1)
    )
    torch.testing.assert_close(reads.mean(raw), torch.sigmoid(raw))
    assert torch.isfinite(reads.log_prob(torch.full((B, 6), 200.0), torch.zeros(B, 6))).all()


def test_categorical_sums_over_positions() -> None:
    reads = likelihood(Modality("m", (4,), "categorical", classes=6))
    assert reads.output_shape == (4, 6)
    raw, x = torch.randn(K, B, 4, 6), torch.randint(6, (B, 4))
    torch.testing.assert_close(
        reads.log_prob(raw, x), td.Categorical(logits=raw).log_prob(x.expand(K, B, 4)).sum(-1)
    )
    assert reads.mean(raw).shape == (K, B, 4, 6)
    torch.testing.assert_close(reads.mean(raw).sum(-1), torch.ones(K, B, 4))
    by_hand = sum(float(torch.log_softmax(raw[1, 2, i], -1)[x[2, i]]) for i in range(4))
    assert float(reads.log_prob(raw, x)[1, 2]) == pytest.approx(by_hand, rel=1e-5)


def test_a_categorical_density_sums_to_one() -> None:
    reads = likelihood(Modality("m", (2,), "categorical", classes=3))
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    densities = reads.log_prob(torch.randn(1, 2, 3).expand(9, 2, 3), every)
    assert float(densities.exp().sum()) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "name", ["normal", "laplace", "bernoulli", "categorical", "nb", "zinb", "beta"]
)
def test_densities_are_float32_whatever_the_network_returns(name: str) -> None:
    modality = Modality("m", (4,), name, classes=5)  # type: ignore[arg-type]
    reads = likelihood(modality)
    raw = torch.randn(B, *reads.output_shape).bfloat16()
    x = (
        torch.rand(B, 4)
        if name in ("normal", "laplace", "bernoulli", "beta")
        else torch.randint(5, (B, 4))
    )
    x = x.float() if modality.counts else x
    assert reads.log_prob(raw, x).dtype == torch.float32
    torch.testing.assert_close(reads.log_prob(raw, x), reads.log_prob(raw.float(), x))
    assert reads.exact


def test_means_are_differentiable() -> None:
    counts, proportions = (
        [Modality("c", (3,), name) for name in ("nb", "zinb")],
        Modality("p", (2,), "beta"),
    )  # type: ignore[arg-type]
    others = (
        Modality("i", (1, 2, 2)),
        Modality("w", (3,), "categorical", classes=4),
        Modality("v", (2,), "normal"),
    )
    for modality in (*others, *counts, proportions):
        reads = likelihood(modality)
        raw = torch.randn(B, *reads.output_shape, requires_grad=True)
        (reads.mean(raw) ** 2).sum().backward()
        assert raw.grad is not None and bool((raw.grad != 0).all())


@pytest.mark.parametrize(
    ("name", "variance"), [("normal", 0.49), ("laplace", 0.98), ("bernoulli", None)]
)
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


# --- counts -------------------------------------------------------------------------------------------------------------


def counting(name: str, features: int = 4, usual: float = 20.0) -> Counts:
    """A likelihood of counts with dispersions of its own, and a usual total."""
    reads = likelihood(Modality("m", (features,), name))  # type: ignore[arg-type]
    assert isinstance(reads, Counts)
    with torch.no_grad():
        reads.log_dispersion.copy_(torch.linspace(-1.0, 3.0, features))
        reads.totals.mean.fill_(float(np.log(usual)))
    return reads.eval()


def scipys(reads: Counts, y: torch.Tensor, x: torch.Tensor, size: np.ndarray) -> np.ndarray:
    """log NB of each feature."""
    theta = reads.log_dispersion.detach().double().exp().numpy()
    mean = size * torch.softmax(y.double(), -1).numpy()
    return np.asarray(stats.nbinom.logpmf(x.numpy(), theta, theta / (theta + mean)))


@pytest.mark.parametrize("most", [10, 1_000_000])
def test_negative_binomial_is_scipys_given_the_total_of_the_row(most: int) -> None:
    """In float32, also where log-factorials are of the order of ten millions."""
    reads = counting("nb")
    y, x = torch.randn(K, B, 4), torch.randint(most, (B, 4)).float()
    expected = scipys(reads, y, x, x.double().sum(-1, keepdim=True).numpy()).sum(-1)
    np.testing.assert_allclose(
        reads.log_prob(y, x).detach().numpy(), expected, rtol=1e-5, atol=1e-4
    )


def test_zero_inflation_is_a_mixture_with_zero() -> None:
    reads = counting("zinb")
    assert reads.output_shape == (2, 4)
    raw, x = torch.randn(K, B, 2, 4), torch.randint(4, (B, 4)).float()
    lost = torch.sigmoid(raw[..., 1, :]).double().numpy()
    kept = np.exp(scipys(reads, raw[..., 0, :], x, x.double().sum(-1, keepdim=True).numpy()))
    expected = np.log(lost * (x.numpy() == 0) + (1 - lost) * kept).sum(-1)
    np.testing.assert_allclose(
        reads.log_prob(raw, x).detach().numpy(), expected, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_densities_of_counts_sum_to_one_and_have_their_mean(name: str) -> None:
    """For a given total, each feature's over all numbers."""
    reads = counting(name)
    raw, size = torch.randn(1, *reads.output_shape), torch.tensor([[20.0]])
    numbers = torch.arange(20_000.0).unsqueeze(-1).expand(-1, 4)
    density = reads.entries(raw, numbers, size).detach().double().exp()
    np.testing.assert_allclose(density.sum(0), 1.0, atol=1e-5)
    np.testing.assert_allclose((density * numbers).sum(0), reads.mean(raw)[0].double(), rtol=1e-4)


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_draws_of_counts_follow_their_density(name: str) -> None:
    reads = counting(name)
    raw = torch.randn(*reads.output_shape)
    draws = reads.sample(raw.expand(40_000, *reads.output_shape)).detach()
    assert draws.shape == (40_000, 4) and bool((draws == draws.round()).all())
    numbers = torch.arange(20_000.0).unsqueeze(-1).expand(-1, 4)
    density = reads.entries(raw, numbers, reads.typical_total).detach().double().exp()
    mean = (density * numbers).sum(0)
    variance = (density * numbers**2).sum(0) - mean**2
    assert bool(((draws.double().mean(0) - mean).abs() < 4 * (variance / 40_000).sqrt()).all())
    for k in range(3):
        np.testing.assert_allclose((draws == k).double().mean(0), density[k], atol=0.011)


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_rows_of_zeros_say_nothing_of_depth(name: str) -> None:
    """Where ℓ is 0 nothing could have been counted, and log p is 0; absent rows hold
    zeros, and their gradient is finite."""
    reads = counting(name)
    raw = (3 * torch.randn(K, B, *reads.output_shape)).requires_grad_()
    found = reads.log_prob(raw, torch.zeros(B, 4))
    torch.testing.assert_close(found, torch.zeros(K, B), atol=1e-4, rtol=0)
    found.sum().backward()
    assert (
        raw.grad is not None
        and bool(raw.grad.isfinite().all())
        and bool(reads.log_dispersion.grad.isfinite().all())
    )  # type: ignore[union-attr]


def test_far_logits_keep_a_gradient() -> None:
    """A feature whose share underflows in float32 is counted all the same."""
    reads = counting("nb")
    raw = torch.tensor([[0.0, -300.0, 0.0, 0.0]], requires_grad=True)
    found = reads.log_prob(raw, torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    found.sum().backward()
    assert (
        raw.grad is not None
        and bool(found.isfinite().all())
        and float(raw.grad[0, 1]) == pytest.approx(2.0, abs=1e-4)
    )


@pytest.mark.parametrize("name", ["nb", "zinb"])
def test_means_have_the_total_of_their_row_where_it_is_known(name: str) -> None:
    reads = counting(name, usual=50.0)
    raw, x = (
        torch.randn(K, 3, *reads.output_shape),
        torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 0], [100, 0, 0, 0]]),
    )
    usual, own = reads.mean(raw), reads.mean(raw, x)
    kept = torch.sigmoid(-raw[..., 1, :]) if name == "zinb" else torch.ones(())
    torch.testing.assert_close((usual / kept).sum(-1), torch.full((K, 3), 50.0))
    torch.testing.assert_close((own / kept).sum(-1), torch.tensor([10.0, 50.0, 100.0]).expand(K, 3))
    torch.testing.assert_close(own[:, 1], usual[:, 1])
    drawn = reads.sample(raw[:1].expand(4000, *raw.shape[1:]), x).mean(0)
    torch.testing.assert_close(drawn[2], reads.mean(raw, x)[0, 2], rtol=0.2, atol=1.0)


def test_the_typical_total_is_the_geometric_mean_of_the_training_rows_that_are_there() -> None:
    reads = likelihood(Modality("m", (2,), "nb"))
    assert isinstance(reads, Counts) and float(reads.typical_total) == 1.0
    x, present = (
        torch.tensor([[2.0, 2.0], [9.0, 7.0], [500.0, 500.0], [0.0, 0.0]]),
        torch.tensor([True, True, False, True]),
    )
    reads.eval().observe(x, present)
    assert float(reads.typical_total) == 1.0
    for _ in range(3):
        reads.train().observe(x, present)
    assert float(reads.typical_total) == pytest.approx(8.0)
    again = likelihood(Modality("m", (2,), "nb"))
    again.load_state_dict(reads.state_dict())
    torch.testing.assert_close(again.mean(torch.zeros(1, 2)), torch.tensor([[4.0, 4.0]]))


def test_learned_dispersion_is_best_at_the_data_s_own() -> None:
    """By gradient from 1, on counts whose variance is μ + μ²/θ with θ = 4 and 0.5."""
    rng, reads = np.random.default_rng(0), likelihood(Modality("m", (2,), "nb"))
    assert isinstance(reads, Counts)
    theta, mean = np.array([4.0, 0.5]), np.array([30.0, 30.0])
    x = torch.as_tensor(
        rng.negative_binomial(theta, theta / (theta + mean), (20_000, 2)), dtype=torch.float32
    )
    optimiser = torch.optim.Adam([reads.log_dispersion], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        (-reads.entries(torch.zeros(2), x, torch.tensor([60.0])).mean()).backward()
        optimiser.step()
    np.testing.assert_allclose(reads.log_dispersion.detach().exp(), theta, rtol=0.05)


def test_networks_see_counts_without_their_depth() -> None:
    counts, numbers = Modality("m", (3,), "nb"), Modality("m", (3,), "normal")
    x = torch.tensor([[1.0, 0.0, 5.0], [0.0, 0.0, 0.0]], requires_grad=True)
    found = readable(counts, x)
    torch.testing.assert_close(found, torch.tensor([[1.5, 1.0, 3.5], [1.0, 1.0, 1.0]]).log())
    torch.testing.assert_close(readable(counts, 7 * x), found)
    assert readable(numbers, x) is x
    found[:1].sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all()) and bool((x.grad[0] != 0).all())


# --- proportions --------------------------------------------------------------------------------------------------------


def proportions(features: int = 3) -> Beta:
    reads = likelihood(Modality("m", (features,), "beta"))
    assert isinstance(reads, Beta)
    with torch.no_grad():
        reads.log_concentration.copy_(torch.linspace(-0.5, 4.0, features))
    return reads


def test_beta_is_scipys() -> None:
    reads = proportions()
    raw, x = (
        torch.randn(K, B, 3),
        torch.rand(B, 3).clamp(MIN_DISTANCE_TO_ENDS, 1 - MIN_DISTANCE_TO_ENDS),
    )
    mean, phi = (
        torch.sigmoid(raw.double()).numpy(),
        reads.log_concentration.detach().double().exp().numpy(),
    )
    expected = stats.beta.logpdf(x.double().numpy(), mean * phi, (1 - mean) * phi).sum(-1)
    np.testing.assert_allclose(
        reads.log_prob(raw, x).detach().numpy(), expected, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(reads.mean(raw), torch.sigmoid(raw))


def test_a_beta_density_integrates_to_one() -> None:
    reads = proportions(1)
    with torch.no_grad():
        reads.log_concentration.fill_(2.5)
    grid = torch.linspace(0, 1, 20_001).unsqueeze(-1)
    density = reads.log_prob(torch.tensor([0.4]), grid).detach().double().exp()
    assert float(torch.trapezoid(density, grid[:, 0].double())) == pytest.approx(1.0, abs=1e-3)


def test_the_ends_count_as_nearest_to_them() -> None:
    """And decoders that are sure of an end are not infinitely wrong."""
    reads = proportions()
    raw = torch.tensor([[0.3, -200.0, 200.0]], requires_grad=True)
    ends, near = (
        torch.tensor([[0.0, 1.0, 0.0]]),
        torch.tensor([[MIN_DISTANCE_TO_ENDS, 1 - MIN_DISTANCE_TO_ENDS, MIN_DISTANCE_TO_ENDS]]),
    )
    torch.testing.assert_close(reads.log_prob(raw, ends), reads.log_prob(raw, near))
    found = reads.log_prob(raw, ends)
    found.sum().backward()
    assert bool(found.isfinite().all()) and raw.grad is not None and bool(raw.grad.isfinite().all())
    assert float(raw.grad[0, 1]) > 0 > float(raw.grad[0, 2]), "they know where to go"


def test_draws_of_proportions_have_the_mean_and_the_variance() -> None:
    reads = proportions()
    raw = torch.tensor([-1.0, 0.2, 1.5])
    draws = reads.sample(raw.expand(40_000, 3)).detach()
    mean, phi = torch.sigmoid(raw), reads.log_concentration.detach().exp()
    torch.testing.assert_close(draws.mean(0), mean, atol=0.01, rtol=0)
    torch.testing.assert_close(draws.var(0), mean * (1 - mean) / (1 + phi), rtol=0.05, atol=0)
