"""Diagonal families, their per-row mixtures, divergences and products, against torch
and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_gaussian import assert_mean
from torch import Tensor
from torch import distributions as td

from counterpoint.probability import distributions as dist
from counterpoint.probability.distributions import Diagonal, Laplace, Mixture, Normal

FAMILIES = [Normal, Laplace]
S, B, D = 3, 4, 2


def parameters(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64) + 0.3


def mixture(kind: type[Diagonal], allowed: Tensor | None = None) -> Mixture:
    return Mixture(
        kind(*parameters(S, B, D)),
        torch.ones(S, B, dtype=torch.bool) if allowed is None else allowed,
    )


def same_family(
    q: Mixture, kind: type[Diagonal], members: list[int], row: int
) -> td.MixtureSameFamily:
    """Torch's own mixture of some components of one row."""
    plain = {Normal: td.Normal, Laplace: td.Laplace}[kind]
    components = td.Independent(
        plain(q.components.loc[members, row], q.components.scale[members, row]), 1
    )
    return td.MixtureSameFamily(
        td.Categorical(torch.ones(len(members), dtype=torch.float64)), components
    )


@pytest.mark.parametrize("kind", FAMILIES)
def test_log_prob_sums_over_the_last_axis(kind: type[Diagonal]) -> None:
    q, value = kind(*parameters(B, D)), torch.randn(5, B, D, dtype=torch.float64)
    plain = {Normal: td.Normal, Laplace: td.Laplace}[kind](q.loc, q.scale)
    torch.testing.assert_close(q.log_prob(value), plain.log_prob(value).sum(-1))
    assert q.rsample(torch.Size((5,))).shape == (5, B, D)


@pytest.mark.parametrize("kind", FAMILIES)
def test_mixture_density_is_torchs(kind: type[Diagonal]) -> None:
    q, value = mixture(kind), torch.randn(7, B, D, dtype=torch.float64)
    for row in range(B):
        reference = same_family(q, kind, [0, 1, 2], row)
        torch.testing.assert_close(q.log_prob(value)[:, row], reference.log_prob(value[:, row]))
        torch.testing.assert_close(q.mean[row], reference.mean)


def test_each_row_mixes_what_it_may() -> None:
    allowed = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 1, 0]], dtype=torch.bool)
    q, value = mixture(Normal, allowed), torch.randn(B, D, dtype=torch.float64)
    torch.testing.assert_close(
        q.weights,
        torch.tensor(
            [[0.5, 0, 0.5, 1 / 3], [0.5, 1, 0, 1 / 3], [0, 0, 0.5, 1 / 3]], dtype=torch.float64
        ),
    )
    for row, members in enumerate(
        [[0, 1], [1], [0, 2], [0, 1, 2]]
    ):  # the last row may use none and mixes all
        reference = same_family(q, Normal, members, row)
        torch.testing.assert_close(q.log_prob(value)[row], reference.log_prob(value[row]))
        torch.testing.assert_close(q.mean[row], reference.mean)


@pytest.mark.parametrize("kind", FAMILIES)
def test_mixture_draws_have_its_moments(kind: type[Diagonal]) -> None:
    allowed = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]], dtype=torch.bool)
    q = mixture(kind, allowed)
    draws = q.rsample(torch.Size((20_000,))).numpy()
    for row in range(B):
        members = [s for s in range(S) if bool(allowed[s, row])]
        reference = same_family(q, kind, members, row)
        assert_mean(draws[:, row], reference.mean.numpy())
        assert_mean((draws[:, row] - reference.mean.numpy()) ** 2, reference.variance.numpy())
    assert_mean(
        draws[:, 0].prod(-1), float((q.components.loc[:, 0].prod(-1)).mean())
    )  # both dimensions come from one component


def test_a_forbidden_component_is_never_drawn_and_gets_no_gradient() -> None:
    loc = torch.tensor([0.0, 100.0, -100.0]).view(3, 1, 1).expand(3, 2, 1).clone().requires_grad_()
    q = Mixture(
        Normal(loc, torch.full((3, 2, 1), 0.1)),
        torch.tensor([[1, 1], [1, 0], [0, 1]], dtype=torch.bool),
    )
    draws = q.rsample(torch.Size((500,)))
    assert set(draws[:, 0, 0].div(100).round().tolist()) == {0.0, 1.0}
    assert set(draws[:, 1, 0].div(100).round().tolist()) == {0.0, -1.0}
    (q.log_prob(draws).sum() + draws.sum()).backward()
    assert loc.grad is not None and torch.isfinite(loc.grad).all()
    assert loc.grad[2, 0] == 0 and loc.grad[1, 1] == 0 and loc.grad[1, 0] != 0


def test_mixture_draws_follow_the_sample_shape() -> None:
    q = mixture(Normal)
    assert q.rsample().shape == (B, D)
    assert q.rsample(torch.Size((5,))).shape == (5, B, D)
    assert q.rsample(torch.Size((2, 3))).shape == (2, 3, B, D)
    assert q.log_prob(q.rsample(torch.Size((2, 3)))).shape == (2, 3, B)


@pytest.mark.parametrize("kind", FAMILIES)
def test_kl_is_torchs(kind: type[Diagonal]) -> None:
    q, p = kind(*parameters(B, D)), kind(*parameters(D))
    plain = {Normal: td.Normal, Laplace: td.Laplace}[kind]
    torch.testing.assert_close(
        dist.kl(q, p), td.kl_divergence(plain(q.loc, q.scale), plain(p.loc, p.scale)).sum(-1)
    )
    assert float(dist.kl(q, q).abs().max()) < 1e-12


def test_kl_of_a_mixture_is_the_mean_over_what_each_row_may_use() -> None:
    allowed = torch.tensor([[1, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 1]], dtype=torch.bool)
    q, p = mixture(Normal, allowed), Normal(*parameters(D))
    each = dist.kl(q.components, p)
    for row in range(B):
        torch.testing.assert_close(dist.kl(q, p)[row], each[allowed[:, row], row].mean())
    draws = q.rsample(torch.Size((4000,)))
    estimate = (q.log_prob(draws) - p.log_prob(draws)).mean(0)
    assert (dist.kl(q, p) > estimate - 0.05).all(), (
        "the mean of the components' divergences bounds the mixture's"
    )


def test_kl_between_families_is_refused() -> None:
    for q, p in ((Normal, Laplace), (Laplace, Normal)):
        with pytest.raises(ValueError, match=f"{q.__name__} ‖ {p.__name__}.*no closed form"):
            dist.kl(q(*parameters(B, D)), p(*parameters(D)))


@pytest.mark.parametrize("powered", [False, True])
def test_product_is_the_normalised_product_of_densities(powered: bool) -> None:
    """By brute force: log densities add up to that of the product, but for one
    constant."""
    experts = Normal(*parameters(S, B, 1))
    members = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1]], dtype=torch.bool)
    powers = torch.tensor([[1.0], [2.0], [0.5]]) if powered else torch.ones(S, 1)
    q = dist.product(experts, members * powers)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64).view(-1, 1, 1)
    for row in range(B):
        present = [m for m in range(S) if bool(members[m, row])]
        logs = sum(
            powers[m] * Normal(experts.loc[m, row], experts.scale[m, row]).log_prob(grid[:, 0])
            for m in present
        )
        density = torch.softmax(torch.as_tensor(logs), 0) / (24 / 4000)
        torch.testing.assert_close(
            q.log_prob(grid.expand(-1, B, 1))[:, row].exp(), density, rtol=1e-6, atol=1e-8
        )


def test_product_of_many_subsets_at_once() -> None:
    experts = Normal(*parameters(S, B, D))
    subsets = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    members = torch.tensor(
        [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1]], dtype=torch.bool
    )  # the second row lacks an expert, the third another
    q = dist.product(experts, members, subsets)
    for i, subset in enumerate(subsets):
        one = dist.product(experts, members & subset.unsqueeze(-1))
        torch.testing.assert_close(q.loc[i], one.loc)
        torch.testing.assert_close(q.scale[i], one.scale)
    torch.testing.assert_close(q.loc[0], experts.loc[0])
    torch.testing.assert_close(q.scale[0], experts.scale[0])


def test_product_without_members_is_finite() -> None:
    none = torch.zeros(S, B, dtype=torch.bool)
    q = dist.product(Normal(*parameters(S, B, D)), none)
    assert (q.loc == 0).all() and (q.scale == 1).all()


def test_product_of_laplace_experts_is_refused() -> None:
    with pytest.raises(ValueError, match="normal experts only; use posterior='normal'"):
        dist.product(Laplace(*parameters(S, B, D)), torch.ones(S, B, dtype=torch.bool))


def test_detached_keeps_the_density_and_cuts_the_graph() -> None:
    loc, scale = parameters(S, B, D)
    q = Mixture(Normal(loc.requires_grad_(), scale), torch.ones(S, B, dtype=torch.bool))
    value = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(dist.detached(q).log_prob(value), q.log_prob(value))
    dist.detached(q).log_prob(value).sum().backward()
    assert loc.grad is None and value.grad is not None and bool((value.grad != 0).all())


@pytest.mark.parametrize("kind", FAMILIES)
def test_stacking_keeps_the_family(kind: type[Diagonal]) -> None:
    parts = [kind(*parameters(B, D)) for _ in range(S)]
    whole = dist.stacked(parts)
    assert type(whole) is kind
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(whole.loc[i], part.loc)
        np.testing.assert_array_equal(whole.scale[i], part.scale)


def test_families_by_name() -> None:
    assert dist.family("laplace") is Laplace
    with pytest.raises(
        ValueError, match="unknown distribution 'cauchy'; choose one of normal, laplace"
    ):
        dist.family("cauchy")
