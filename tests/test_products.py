"""Flows and products of posteriors: closed forms, independent samplers, and what
happens where there is no density."""

from __future__ import annotations

import gc
import math
import warnings
from functools import partial

import pytest
import torch
import zuko
from linear_gaussian import LinearGaussian
from torch import Tensor
from torch.distributions import MultivariateNormal
from torch.nn.utils import parametrize

from counterpoint.model.rules import BayesRule
from counterpoint.probability import convergence, mcmc
from counterpoint.probability.combining import (
    chained,
    chosen,
    log_normaliser,
    normalised,
    product_of_posteriors,
)
from counterpoint.probability.distributions import Flowed, Laplace, Normal, gathered, scattered
from counterpoint.probability.flows import Flow, FlowOptions, masked_once, side_by_side
from counterpoint.probability.mcmc import HMC
from counterpoint.probability.mixtures import Choice, MixtureOfExperts
from counterpoint.probability.products import (
    ImproperProduct,
    ProductOfPosteriors,
    StuckChains,
    _side_by_side,
)

KINDS = ("maf", "nsf", "coupling")
LONG = HMC(warmup=100, steps=200, leapfrogs=12)
"""Of twice as many chains half as long: as many draws, of half as many calls."""


def unit(dim: int, dtype: torch.dtype = torch.float32) -> Normal:
    return Normal(torch.zeros(dim, dtype=dtype), torch.ones(dim, dtype=dtype))


def flowed(
    kind: str,
    dim: int = 2,
    rows: int = 3,
    context: int = 0,
    seed: int = 0,
    narrow: float = 1.0,
    transforms: int = 2,
) -> Flowed:
    """A flow far from the identity, under a base that differs from row to row."""
    torch.manual_seed(seed)
    flow = Flow(dim, context, FlowOptions(kind, transforms, hidden=(16, 16)))  # type: ignore[arg-type]
    with torch.no_grad():
        for layer in (
            flow.layers.transforms if kind == "maf" and dim > 1 else ()
        ):  # the maps that zuko's order of shifts and scales makes of a seed
            for rows_of in layer.hyper[-1].parameters():
                rows_of.copy_(rows_of.unflatten(0, (dim, 2)).transpose(0, 1).flatten(0, 1))
        for weight in flow.parameters():
            weight.mul_(1.5)
    base = Normal(0.5 * torch.randn(rows, dim), narrow * (torch.rand(rows, dim) + 0.3))
    return Flowed(base, flow.requires_grad_(False), torch.randn(rows, context) if context else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("context", [0, 3])
def test_a_flow_is_a_density_that_its_samples_follow(kind: str, context: int) -> None:
    q = flowed(kind, context=context)
    axis = torch.linspace(-12, 12, 401)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 3, -1)
    density = q.log_prob(grid).exp() * (axis[1] - axis[0]) ** 2
    torch.testing.assert_close(density.sum(0), torch.ones(3), atol=5e-3, rtol=0)
    torch.manual_seed(1)
    draws = q.rsample(torch.Size((20_000,)))
    for power in (1, 2):
        expected = (density.unsqueeze(-1) * grid**power).sum(0)
        error = (draws**power).std(0) / 20_000**0.5
        assert float((((draws**power).mean(0) - expected).abs() / error).max()) < 5
    torch.testing.assert_close(
        q.flow(q.context).call_and_ladj(q.point_estimate)[0], q.base.loc, atol=1e-4, rtol=1e-4
    )


def test_a_mask_is_multiplied_in_as_zuko_does() -> None:
    torch.manual_seed(0)
    ours = Flow(3, 2, FlowOptions("maf", hidden=(8, 8)))
    torch.manual_seed(0)
    theirs = zuko.flows.MAF(3, 2, transforms=2, hidden_features=(8, 8)).transform
    for layer in (
        theirs.transforms
    ):  # of theirs, which answers with shift and scale of each dimension in turn, the same function
        for rows in layer.hyper[-1].parameters():
            rows.data = rows.data.unflatten(0, (2, 3)).transpose(0, 1).flatten(0, 1)
    z, context = torch.randn(5, 3), torch.randn(5, 2)
    expected = theirs(context).call_and_ladj(z)
    torch.testing.assert_close(ours(context).call_and_ladj(z), expected, rtol=0, atol=0)
    with parametrize.cached():
        for _ in range(2):
            torch.testing.assert_close(ours(context).call_and_ladj(z), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "dim"), [("maf", 2), ("nsf", 2), ("coupling", 2), ("maf", 1), ("nsf", 1)]
)
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("marginals", [True, False])
def test_flows_side_by_side_are_what_they_are_alone(
    kind: str, dim: int, context: int, marginals: bool
) -> None:
    """In rows that have two experts, one or none, of products that are divided by
    marginals, the prior, or nothing; flows of one dimension stay alone."""
    alone = [flowed(kind, dim, context=context, seed=m) for m in range(3)]
    experts = [
        Flowed(
            q.base,
            q.flow,
            q.context,
            Normal(torch.randn(dim), torch.rand(dim) + 1) if marginals else None,
        )
        for q in alone
    ]
    q = ProductOfPosteriors(
        experts, torch.tensor([[1, 0, 0], [1, 0, 1], [0, 0, 0]], dtype=torch.bool), unit(dim), HMC()
    )
    assert (_side_by_side(experts) is None) == (dim == 1)
    z = torch.randn(4, 3, dim)
    for improper in (torch.zeros(3, dtype=torch.bool), torch.tensor([True, False, True])):
        q._improper = improper
        ours, theirs = (
            mcmc.differentiated(density)(z) for density in (q._fast_log_density(), q.log_prob)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_flows_of_different_builds_are_evaluated_one_by_one() -> None:
    experts = [flowed(kind) for kind in KINDS]
    with pytest.raises(
        ValueError,
        match="only flows of one build and of two or more dimensions go side by side, got",
    ):
        side_by_side([q.flow for q in experts])  # type: ignore[misc]
    assert _side_by_side(experts) is None


def test_a_flow_of_one_dimension_has_the_widths_that_were_asked_for() -> None:
    shapes = {
        tuple(weight.shape) for weight in Flow(1, 2, FlowOptions("maf", hidden=(7,))).parameters()
    }
    assert shapes == {(7, 2), (7,), (2, 7), (2,)}


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated"
)  # torch's compiler itself
@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("alike", [True, False])
def test_a_compiled_density_is_the_same(mixed: bool, alike: bool) -> None:
    """Of products of two flows, of which both have marginals or one has, with and
    without improper rows; compiled once and taken for another batch."""
    flows = [flowed("maf", seed=m, transforms=1).flow for m in range(2)]
    torch._dynamo.utils.counters.clear()
    programs = []
    for batch in (0, 1):
        torch.manual_seed(batch)
        marginals = [
            Normal(torch.zeros(2), torch.full((2,), 1.5)),
            Normal(torch.zeros(2), torch.full((2,), 1.4)) if alike else None,
        ]
        experts = [
            Flowed(Normal(torch.randn(3, 2), torch.rand(3, 2) + 0.3), f, marginal=m)
            for f, m in zip(flows, marginals, strict=True)
        ]
        q = ProductOfPosteriors(experts, torch.ones(2, 3, dtype=torch.bool), unit(2), HMC())
        z = torch.randn(4, 3, 2)
        q._improper = torch.tensor([False, False, mixed])
        log_density = q._fast_log_density()
        with torch.no_grad():
            log_density(z)
        plain, compiled = (mcmc.differentiated(log_density, compiled=c)(z) for c in (False, True))
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)
        drawn = []
        for compile in (False, True):
            torch.manual_seed(0)
            q.hmc = HMC(warmup=2, steps=4, leapfrogs=2, compile=compile)
            drawn.append(q._run(4).draws)
        torch.testing.assert_close(*drawn, rtol=1e-3, atol=1e-3)
        programs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert programs[0] == programs[1]


def test_garbage_waits_while_compiled_densities_are_not_checked() -> None:
    """Else torch compiles what other libraries call at a collection, and may refuse it."""
    began: list[str] = []
    record = partial(lambda phase, info: began.append(phase))
    gc.callbacks.append(record)
    try:
        with mcmc._unchecked():
            made = [[number] for number in range(10 * gc.get_threshold()[0])]
            assert len(made) > 0 and began == []
        made = [[number] for number in range(10 * gc.get_threshold()[0])]
        assert "start" in began
    finally:
        gc.callbacks.remove(record)


def test_chains_that_cannot_move_are_reported_and_the_others_are_right() -> None:
    """A flow that gives NaN for one row, and a density so narrow that nothing is ever
    taken."""
    first, broken = flowed("maf", narrow=0.4), flowed("maf", seed=1, narrow=0.4)
    whole = flowed("maf", seed=1, narrow=0.4)
    broken.base.loc[1] = math.nan
    members = torch.ones(2, 3, dtype=torch.bool)
    torch.manual_seed(0)
    q = ProductOfPosteriors(
        [first, broken],
        members,
        unit(2),
        HMC(warmup=100, steps=150),
        ("photo", "text"),
        torch.tensor([4, 7, 9]),
    )
    with pytest.warns(
        StuckChains,
        match="chains of 1 of 3 rows stayed where they began, the first in row 7: what 'text' says",
    ):
        draws = q.chains().draws
    reference = (
        ProductOfPosteriors([first, whole], members, unit(2), HMC(warmup=100, steps=150))
        .chains()
        .draws
    )
    for row in (0, 2):
        size = convergence.effective_size(reference)[row]
        error = (draws[:, :, row].mean((0, 1)) - reference[:, :, row].mean((0, 1))).abs() / (
            reference[:, :, row].var((0, 1)) / size
        ).sqrt()
        assert float(error.max()) < 5
    needle = Laplace(torch.zeros(1, 2), torch.full((1, 2), 1e-9))
    hay = Laplace(torch.full((1, 2), 0.5), torch.full((1, 2), 0.1))
    q = ProductOfPosteriors(
        [needle, hay], torch.ones(2, 1, dtype=torch.bool), unit(2), HMC(warmup=0, steps=5)
    )
    with pytest.warns(
        StuckChains,
        match="1 of 1 rows stayed where they began, the first in row 0: no proposal was taken; give hmc a longer",
    ):
        q.chains()


@pytest.mark.parametrize(("total", "dim"), [(3, 2), (5, 32)])
def test_the_divergence_from_a_product_is_that_of_its_closed_form(total: int, dim: int) -> None:
    """Normal posteriors of everything and of two modalities, the latter sampled as if
    it had no closed form."""
    torch.manual_seed(0)
    scale, rows = 0.6, 12
    precision = scale**-2 - 1
    z = torch.randn(rows, dim)
    experts = [
        Normal(
            (z + torch.randn(rows, dim) * precision**-0.5) * precision * scale**2,
            torch.full((rows, dim), scale),
        )
        for _ in range(total)
    ]

    def members(size: int) -> Tensor:
        return torch.ones(size, rows, dtype=torch.bool)

    everything = product_of_posteriors(experts, members(total), unit(dim), HMC())
    closed = product_of_posteriors(experts[:2], members(2), unit(dim), HMC())
    sampled = ProductOfPosteriors(experts[:2], members(2), unit(dim), HMC())
    normaliser = log_normaliser(sampled, everything, 400)
    torch.testing.assert_close(
        sampled.log_prob(z[None]) - normaliser,
        closed.log_prob(z[None]),
        atol=0.6 if dim > 8 else 0.2,
        rtol=0,
    )
    assert float(
        (sampled.log_prob(z[None]) - normaliser - closed.log_prob(z[None])).mean()
    ) == pytest.approx(0, abs=0.15)


def test_a_row_with_one_expert_takes_no_chains() -> None:
    """Beside a row that has two, a row with one is that expert: exact draws, its own
    density, and out of the diagnosis."""
    experts = [flowed("maf", rows=3, narrow=0.5), flowed("maf", rows=3, seed=1, narrow=0.5)]
    members = torch.tensor([[True, True, False], [True, False, True]])
    q = product_of_posteriors(experts, members, unit(2), HMC(warmup=50, steps=20))
    z = torch.randn(4, 3, 2)
    torch.testing.assert_close(q.log_prob(z)[:, 1], experts[0].log_prob(z)[:, 1])
    torch.testing.assert_close(q.log_prob(z)[:, 2], experts[1].log_prob(z)[:, 2])
    torch.testing.assert_close(
        q.point_estimate[1:],
        torch.stack([experts[0].point_estimate[1], experts[1].point_estimate[2]]),
    )
    chains = chained(q)
    assert chains is not None and chains.rows.tolist() == [0]
    torch.manual_seed(0)
    draws, exact = (
        q.rsample(torch.Size((4000,)))[:, 1],
        experts[0].rsample(torch.Size((4000,)))[:, 1],
    )
    assert (
        float((draws.mean(0) - exact.mean(0)).abs().max())
        < 5 * float(exact.std(0).max()) * (2 / 4000) ** 0.5
    )


def test_a_product_far_from_the_origin_is_proper() -> None:
    """Where experts stand far from the prior's location they still make a density; and
    a prior may stand elsewhere."""
    far = [Laplace(torch.full((1, 2), 17.0), torch.full((1, 2), 0.8)) for _ in range(2)]
    members = torch.ones(2, 1, dtype=torch.bool)
    torch.manual_seed(0)
    q = ProductOfPosteriors(
        far, members, Laplace(torch.zeros(2), torch.ones(2)), HMC(chains=8, warmup=200, steps=200)
    )
    draws = q.chains().draws
    assert not bool(q.improper.any())
    grid = torch.linspace(10, 25, 6001, dtype=torch.float64)
    density = (-2 * (grid - 17).abs() / 0.8 + grid.abs()).softmax(0)
    assert float(draws.mean()) == pytest.approx(float((grid * density).sum()), abs=0.05)
    there = [Laplace(torch.full((1, 2), 100.0), torch.full((1, 2), 0.5)) for _ in range(2)]
    prior = Laplace(torch.full((2,), 100.0), torch.ones(2))
    assert not bool(ProductOfPosteriors(there, members, prior, HMC()).improper.any())
    assert not bool(ProductOfPosteriors(there, ~members, prior, HMC()).improper.any())


def test_a_prior_moves_with_its_rule() -> None:
    rule = BayesRule(prior=Laplace(torch.ones(2), torch.full((2,), 3.0))).double()
    assert (
        rule.loc is not None
        and rule.loc.dtype == rule.scale.dtype == torch.float64
        and not rule.state_dict()
    )


def test_an_unknown_flow_and_a_coupling_of_one_dimension() -> None:
    with pytest.raises(ValueError, match="unknown flow 'glow'; choose one of maf, nsf, coupling"):
        FlowOptions("glow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs 2 or more; use 'maf' or 'nsf'"):
        Flow(1, 0, FlowOptions("coupling"))
    with pytest.raises(ValueError, match="hidden widths >= 1"):
        FlowOptions(hidden=())


# --- the linear-Gaussian oracle: exact unimodal posteriors, correlated, of four modalities --------------------------------


class Correlated(MultivariateNormal):
    @property
    def point_estimate(self) -> Tensor:
        return self.mean


def oracle(dim: int = 3, rows: int = 4) -> tuple[list[Correlated], list[Correlated]]:
    """q(z | x_m) for four linear-Gaussian modalities, with full covariances, and the
    exact posteriors of the first 2, 3, 4 of them."""
    rng = torch.Generator().manual_seed(0)
    loading = [torch.randn(4, dim, generator=rng, dtype=torch.float64) for _ in range(4)]
    x = [torch.randn(rows, 4, generator=rng, dtype=torch.float64) for _ in range(4)]

    def posterior(names: range | list[int]) -> Correlated:
        precision = torch.eye(dim, dtype=torch.float64) + sum(
            loading[m].T @ loading[m] / 0.6 for m in names
        )
        mean = torch.linalg.solve(precision, sum(x[m] @ loading[m] / 0.6 for m in names).T).T  # type: ignore[union-attr]
        return Correlated(
            mean, precision_matrix=precision.expand(rows, -1, -1), validate_args=False
        )

    return [posterior([m]) for m in range(4)], [posterior(range(size)) for size in (2, 3, 4)]


def moments_match(draws: Tensor, exact: MultivariateNormal) -> bool:
    """Whether means lie within 4 standard errors and covariances within 5 %."""
    flat, size = draws.flatten(0, 1), convergence.effective_size(draws)
    error = (flat.mean(0) - exact.mean).abs() / (exact.variance / size).sqrt()
    rows = range(flat.shape[1])
    covariances = [
        (torch.cov(flat[:, b].T) - exact.covariance_matrix[b]).norm()
        / exact.covariance_matrix[b].norm()
        for b in rows
    ]
    return float(error.max()) < 4 and float(torch.stack(covariances).max()) < 0.05


@pytest.mark.parametrize("size", [2, 3, 4])
def test_products_of_exact_posteriors_are_the_exact_posterior(size: int) -> None:
    experts, exact = oracle()
    q = ProductOfPosteriors(
        experts[:size], torch.ones(size, 4, dtype=torch.bool), unit(3, torch.float64), LONG
    )  # type: ignore[arg-type]
    torch.manual_seed(0)
    chains = q.chains(128)
    assert float(convergence.rhat(chains.draws).max()) < 1.01
    assert not bool(q.improper.any())
    assert moments_match(chains.draws, exact[size - 2])


def linear(experts: list[Correlated], marginal: bool) -> list[Flowed]:
    """The same posteriors behind linear maps, f(z) = A z + b, each with the marginal
    that follows from z ~ N(0, I)."""
    found = []
    for m, q in enumerate(experts):
        rng = torch.Generator().manual_seed(m)
        values, vectors = torch.linalg.eigh(q.covariance_matrix[0])
        scale, b = (
            torch.rand(3, generator=rng, dtype=torch.float64) + 0.5,
            torch.randn(3, generator=rng, dtype=torch.float64),
        )
        flow = partial(_Linear, scale.unsqueeze(-1) * vectors.T, b)
        base = Normal(
            scale * (q.mean @ vectors) + b, (scale * values.sqrt()).expand(len(q.mean), -1)
        )
        found.append(
            Flowed(
                base, lambda _, flow=flow: flow(), marginal=Normal(b, scale) if marginal else None
            )
        )  # type: ignore[misc]
    return found


class _Linear:
    def __init__(self, a: Tensor, b: Tensor) -> None:
        self.a, self.b = a, b

    def __call__(self, z: Tensor) -> Tensor:
        return z @ self.a.T + self.b

    def inv(self, u: Tensor) -> Tensor:
        return torch.linalg.solve(self.a, (u - self.b).unsqueeze(-1)).squeeze(-1)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return self(z), torch.linalg.slogdet(self.a).logabsdet.expand(z.shape[:-1])


def test_dividing_by_marginals_is_dividing_by_the_prior_where_they_are_exact() -> None:
    """Of the oracle's posteriors, rows with all four, with three and with one; up to a
    constant of each row."""
    experts, _ = oracle()
    members = torch.ones(4, 4, dtype=torch.bool)
    members[3, 1:] = False
    members[:2, 3] = False
    z = 3 * torch.randn(50, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_prior, by_marginal = (
        ProductOfPosteriors(
            linear(experts, marginal), members, unit(3, torch.float64), LONG
        ).log_prob(z)
        for marginal in (False, True)
    )
    torch.testing.assert_close(by_marginal, by_prior)
    torch.testing.assert_close(linear(experts, True)[0].log_prob(z), experts[0].log_prob(z))


def test_marginals_keep_a_product_proper_where_the_prior_does_not() -> None:
    """Flows with random weights, whose product divided by the prior grows along a
    valley (see below), err far out in their marginals too. Moments by a grid; the
    density is that of the quotients."""
    kinds = ("maf", "coupling", "maf")
    wide = Normal(torch.zeros(2), torch.full((2,), 1.5))
    experts = [flowed(kind, seed=i, rows=1) for i, kind in enumerate(kinds)]
    experts = [Flowed(q.base, q.flow, marginal=wide) for q in experts]
    q = ProductOfPosteriors(experts, torch.ones(3, 1, dtype=torch.bool), unit(2), LONG)
    axis = torch.linspace(-8, 8, 401)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    density = unit(2).log_prob(grid) + sum(
        e.log_prob(grid) - Flowed(wide, e.flow).log_prob(grid) for e in experts
    )
    torch.testing.assert_close(q.log_prob(grid), density, atol=1e-3, rtol=1e-4)
    weights = torch.softmax(density, 0).unsqueeze(-1)
    torch.manual_seed(0)
    draws = q.chains(72).draws
    assert not bool(q.improper.any()) and float(convergence.rhat(draws).max()) < 1.01
    size = convergence.effective_size(draws)
    for power in (1, 2):
        values = draws.flatten(0, 1) ** power
        error = (values.mean(0) - (weights * grid**power).sum(0)).abs() / (
            values.std(0) / size.sqrt()
        )
        assert float(error.max()) < 5


def test_bounded_quotients_are_never_called_improper() -> None:
    """Rough flows whose product still rises between the radii that are looked at, under
    bases narrower than their marginals."""
    experts = [flowed("maf", seed=i, rows=40, narrow=0.6) for i in range(3)]
    for q in experts:
        for weight in q.flow.parameters():
            weight.mul_(2.0)
    members = torch.ones(3, 40, dtype=torch.bool)
    marginals = [Normal(torch.zeros(2), torch.full((2,), s)) for s in (1.0, 0.5)]
    wide, narrow = (
        ProductOfPosteriors(
            [Flowed(q.base, q.flow, marginal=m) for q in experts], members, unit(2), HMC()
        )
        for m in marginals
    )
    assert not bool(wide.improper.any())
    with pytest.warns(
        ImproperProduct, match="broader than what is divided out; they take the plain product"
    ):
        assert bool(narrow.improper.any())


def test_rows_of_an_expert_keep_its_marginal() -> None:
    experts, _ = oracle()
    q = linear(experts, True)[0]
    for taken in (gathered(q, torch.tensor([2])), scattered(q, torch.tensor([2, 0, 1, 3]), 6)):
        assert taken.marginal is q.marginal


@pytest.mark.parametrize("size", [3, 4])
def test_dividing_by_the_prior_once_is_another_posterior(size: int) -> None:
    """What implementations in the field do for three and more: the check above must see
    it."""
    experts, exact = oracle()
    q = ProductOfPosteriors(
        experts[:size], torch.ones(size, 4, dtype=torch.bool), unit(3, torch.float64), LONG
    )  # type: ignore[arg-type]
    torch.manual_seed(0)

    def once(z: Tensor) -> Tensor:
        return q.log_prob(z) + (size - 2) * unit(3, torch.float64).log_prob(z)

    start = torch.stack([experts[0].rsample() for _ in range(128)])
    assert not moments_match(mcmc.sample(once, start, q.hmc).draws, exact[size - 2])


def test_products_of_normals_are_closed() -> None:
    """The posterior of two and three modalities of the oracle with diagonal posteriors,
    where a row may lack one."""
    model = LinearGaussian.make({"a": 4, "b": 5, "c": 3}, private_dim=0)
    x = model.draw(5)
    experts = [Normal(*map(torch.as_tensor, model.posterior(x, [n]))) for n in model.names]
    experts = [Normal(q.loc, q.scale.expand_as(q.loc)) for q in experts]
    members = torch.ones(3, 5, dtype=torch.bool)
    members[1, 2:] = False
    q = product_of_posteriors(experts, members, unit(2, torch.float64), LONG)
    assert isinstance(q, Normal)
    for rows, names in ((slice(0, 2), ("a", "b", "c")), (slice(2, 5), ("a", "c"))):
        mean, std = map(torch.as_tensor, model.posterior(x, names))
        torch.testing.assert_close(q.loc[rows], mean[rows])
        torch.testing.assert_close(q.scale[rows], std.expand_as(mean)[rows])


def test_products_of_flows_follow_their_density() -> None:
    """Moments by a grid in two dimensions; one row lacks an expert, and follows the
    others alone."""
    experts = [
        flowed(kind, seed=i, narrow=0.5) for i, kind in enumerate(("maf", "coupling", "maf"))
    ]
    members = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    q = ProductOfPosteriors(experts, members, unit(2), LONG)
    assert not bool(q.improper.any())
    axis = torch.linspace(-8, 8, 401)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 3, -1)
    weights = torch.softmax(q.log_prob(grid), 0).unsqueeze(-1)
    torch.manual_seed(0)
    chains = q.chains(72)
    assert float(convergence.rhat(chains.draws).max()) < 1.01
    size = convergence.effective_size(chains.draws)
    for power in (1, 2):
        values = chains.draws.flatten(0, 1) ** power
        error = (values.mean(0) - (weights * grid**power).sum(0)).abs() / (
            values.std(0) / size.sqrt()
        )
        assert float(error.max()) < 5
    alone = (
        experts[0].log_prob(grid)[:, 2]
        + experts[2].log_prob(grid)[:, 2]
        - unit(2).log_prob(grid)[:, 2]
    )
    torch.testing.assert_close(q.log_prob(grid)[:, 2], alone)


def test_chains_start_at_each_expert_that_a_row_has(monkeypatch: pytest.MonkeyPatch) -> None:
    experts = [Laplace(torch.full((2, 1), 10.0 * m), torch.full((2, 1), 1e-6)) for m in range(3)]
    members = torch.tensor([[1, 0], [1, 1], [1, 1]], dtype=torch.bool)
    seen: list[Tensor] = []
    monkeypatch.setattr(mcmc, "sample", lambda _, start, __: seen.append(start))
    ProductOfPosteriors(experts, members, unit(1), HMC())._run(6)
    assert seen[0].squeeze(-1).round().T.tolist() == [
        [0, 10, 20, 0, 10, 20],
        [10, 20, 10, 20, 10, 20],
    ]


def test_an_improper_product_is_reported_and_mended() -> None:
    """Three experts of variance 2: precision 3/2 − 2 < 0."""
    wide, narrow = torch.full((1, 2), 2.0**0.5), torch.full((1, 2), 0.5)
    scale = torch.cat([wide, narrow])
    normal = [Normal(torch.ones(2, 2), scale)] * 3
    members = torch.ones(3, 2, dtype=torch.bool)
    with pytest.warns(ImproperProduct, match="improper in 1 of 2 rows"):
        closed = product_of_posteriors(normal, members, unit(2), HMC())
    assert isinstance(closed, Normal)
    torch.testing.assert_close(
        closed.scale, torch.tensor([3 / 2, 12 - 2]).rsqrt().unsqueeze(-1).expand(2, 2)
    )
    q = ProductOfPosteriors(normal, members, unit(2), HMC())
    with pytest.warns(ImproperProduct, match="improper in 1 of 2 rows"):
        assert q.improper.tolist() == [True, False]
    z = torch.randn(50, 2, 2)
    difference = q.log_prob(z) - closed.log_prob(z)
    torch.testing.assert_close(
        difference, difference[:1].expand_as(difference), atol=1e-4, rtol=1e-4
    )


def test_chains_that_go_astray_are_found_out() -> None:
    """A product that grows along a narrow valley between the rays (Pyro's NUTS follows
    it to a million, too)."""
    experts = [flowed(kind, seed=i, rows=1) for i, kind in enumerate(("maf", "coupling", "maf"))]
    q = ProductOfPosteriors(
        experts, torch.ones(3, 1, dtype=torch.bool), unit(2), HMC(warmup=50, steps=75)
    )
    assert q.improper.tolist() == [False]
    torch.manual_seed(0)
    with pytest.warns(ImproperProduct, match="improper in 1 of 1 rows"):
        draws = q.chains(16).draws
    assert q.improper.tolist() == [True] and float(draws.abs().max()) < 16
    z = torch.randn(20, 1, 2)
    torch.testing.assert_close(q.log_prob(z), torch.stack([e.log_prob(z) for e in experts]).sum(0))


def test_laplace_experts_are_improper_under_a_normal_prior_and_not_under_their_own() -> None:
    """Their tails fall more slowly than a normal prior's rise once it is divided out.
    Under p(z) = Laplace(0, 1) two of scale b have a product Laplace of 1/b' = 2/b − 1."""
    experts, members = (
        [Laplace(torch.zeros(1, 2), torch.full((1, 2), 0.5))] * 2,
        torch.ones(2, 1, dtype=torch.bool),
    )
    with pytest.warns(ImproperProduct):
        assert ProductOfPosteriors(experts, members, unit(2), HMC()).improper.tolist() == [True]
    q = ProductOfPosteriors(experts, members, Laplace(torch.zeros(2), torch.ones(2)), LONG)
    assert q.improper.tolist() == [False]
    torch.manual_seed(0)
    draws = q.chains(128).draws
    spread = draws.abs().flatten(0, 1).mean(0)
    error = draws.abs().flatten(0, 1).std(0) / convergence.effective_size(draws.abs()).sqrt()
    assert float(((spread - 1 / 3).abs() / error).max()) < 4


def test_a_choice_takes_each_row_from_its_own() -> None:
    rows = torch.tensor([True, False, True])
    first, second = (
        Normal(torch.zeros(3, 2), torch.ones(3, 2)),
        Normal(torch.full((1, 2), 50.0), torch.ones(1, 2)),
    )
    q = Choice(rows, first, second)
    torch.manual_seed(0)
    draws = q.rsample(torch.Size((2000,)))
    assert draws.mean((0, 2)).round().tolist() == [0, 50, 0]
    assert q.point_estimate[:, 0].tolist() == [0, 50, 0]
    torch.testing.assert_close(q.log_prob(draws)[:, 1], second.log_prob(draws[:, 1:2])[:, 0])


def test_complete_rows_beside_rows_of_one_expert_take_no_chains() -> None:
    """Of two modalities rows have both, whose posterior is another one, or one: no row
    is left to take chains."""
    a, b = flowed("maf", rows=4), flowed("maf", rows=4, seed=1)
    members = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 0]], dtype=torch.bool)
    joint = Normal(torch.arange(8.0).view(4, 2), torch.ones(4, 2))
    q = chosen(
        members.all(0), joint, product_of_posteriors([a, b], members, unit(2), HMC(), ("a", "b"))
    )
    assert chained(q) is None
    for row, alone in ((0, joint), (1, a), (2, b), (3, a)):
        torch.testing.assert_close(q.point_estimate[row], alone.point_estimate[row])
    z = torch.randn(5, 4, 2)
    torch.testing.assert_close(q.log_prob(z)[:, 2], b.log_prob(z)[:, 2])


def test_what_importance_samples_come_from_is_a_density() -> None:
    experts = [flowed("maf", dim=1, seed=1), Laplace(torch.ones(3, 1), torch.full((3, 1), 0.5))]
    members = torch.tensor([[1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    q = normalised(ProductOfPosteriors(experts, members, unit(1), HMC()))
    assert isinstance(q, MixtureOfExperts)
    grid = torch.linspace(-20, 20, 20_001).view(-1, 1, 1).expand(-1, 3, 1)
    density = q.log_prob(grid).exp() * 2e-3
    torch.testing.assert_close(density.sum(0), torch.ones(3), atol=1e-3, rtol=0)
    torch.manual_seed(0)
    draws = q.rsample(torch.Size((40_000,)))
    expected = (density.unsqueeze(-1) * grid).sum(0)
    assert float(((draws.mean(0) - expected).abs() / (draws.std(0) / 200)).max()) < 4
    torch.testing.assert_close(q.log_prob(draws)[:, 2], experts[1].log_prob(draws)[:, 2])


def test_no_warning_where_all_is_proper() -> None:
    experts, _ = oracle()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not bool(
            ProductOfPosteriors(
                experts, torch.ones(4, 4, dtype=torch.bool), unit(3, torch.float64), HMC()
            ).improper.any()
        )  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)
def test_an_independent_sampler_finds_the_same_moments() -> None:
    """Pyro's NUTS, one target at a time, on a product of three flows."""
    from pyro.infer.mcmc import MCMC, NUTS

    experts = [flowed(kind, seed=i, rows=3) for i, kind in enumerate(("maf", "coupling", "maf"))]
    experts = [gathered(q, torch.tensor([0])) for q in experts]
    q = ProductOfPosteriors(experts, torch.ones(3, 1, dtype=torch.bool), unit(2), LONG)
    torch.manual_seed(0)
    ours = q.chains(112).draws
    kernel = NUTS(
        potential_fn=lambda point: -q.log_prob(point["z"].view(1, 1, 2)).sum(), full_mass=True
    )  # twice the effective draws
    run = MCMC(
        kernel,
        num_samples=500,
        warmup_steps=200,
        initial_params={"z": torch.zeros(2)},
        disable_progbar=True,
    )
    with masked_once():  # the weights stay as they are
        run.run()
    theirs = run.get_samples()["z"].view(-1, 1, 1, 2)
    for power in (1, 2):
        a, b = ours**power, theirs**power
        errors = [d.flatten(0, 1).var(0) / convergence.effective_size(d) for d in (a, b)]
        assert (
            float(((a.mean((0, 1)) - b.mean((0, 1))).abs() / (errors[0] + errors[1]).sqrt()).max())
            < 4
        )
