"""Routes, what absent targets count, reductions, posterior matching and the diffusion
priors' loss. The values of bounds: test_oracle."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from itertools import combinations

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian, gaussian_kl, gaussian_product
from torch import Tensor

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.methods.common import singles
from counterpoint.model.model import Model
from counterpoint.model.rules import MixtureRule, ProductRule
from counterpoint.objectives.afterwards import DiffusionPriorLoss
from counterpoint.objectives.bound import (
    Bound,
    Density,
    from_auxiliary_prior,
    from_encoder,
    mean_over_routes,
    of_everything,
    sum_over_routes,
)
from counterpoint.objectives.loss import Loss, Terms
from counterpoint.objectives.matching import PosteriorMatch
from counterpoint.objectives.routes import (
    RandomSubsets,
    SinglesToSome,
    everything_to_everything,
    singles_to_everything,
    singles_to_itself,
)

ORACLE = LinearGaussian.make()
NAMES = ORACLE.names
ABCD = ("a", "b", "c", "d")


def terms(loss: Loss, model: Model, batch: Batch) -> Terms:
    encoding = model.encode(batch)
    return loss(model, encoding).answered(model, encoding.batch.covariates)


# --- routes -------------------------------------------------------------------------------------------------------------


def test_fixed_routes() -> None:
    assert [(r.given, r.targets) for r in everything_to_everything(ABCD)] == [(ABCD, ABCD)]
    assert [(r.given, r.targets) for r in singles_to_everything(ABCD)] == [
        ((n,), ABCD) for n in ABCD
    ]
    assert [(r.given, r.targets) for r in singles_to_itself(ABCD)] == [((n,), (n,)) for n in ABCD]
    assert all(r.cross_weight == 1 for r in singles_to_everything(ABCD))


@pytest.mark.parametrize("others", [1, 2, 3])
def test_fewer_targets_serve_all_decoders_alike(others: int) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for _ in range(600):
        routes = SinglesToSome(others)(ABCD)
        assert [r.given for r in routes] == [(n,) for n in ABCD]
        load = Counter(t for r in routes for t in r.targets)
        assert set(load.values()) == {others + 1}, "every decoder gets the same number of rows"
        for r in routes:
            assert r.targets[0] == r.given[0] and len(set(r.targets)) == others + 1
            assert r.cross_weight == 3 / others
            seen.update((r.given[0], t) for t in r.targets[1:])
    expected = 600 * others / 3
    for source in ABCD:
        for target in set(ABCD) - {source}:
            assert abs(seen[source, target] - expected) <= 5 * (expected * (1 - others / 3)) ** 0.5


@pytest.mark.parametrize("others", [0, 4])
def test_an_impossible_number_of_targets_is_refused(others: int) -> None:
    with pytest.raises(
        ValueError, match=rf"cross_targets={others} must lie in 1\.\.3 for 4 modalities"
    ):
        singles([Modality(name, (2,)) for name in ABCD], others)


def test_random_subsets_are_proper_distinct_and_uniform() -> None:
    proper = [s for n in (2, 3) for s in combinations(ABCD, n)]
    seen: Counter[tuple[str, ...]] = Counter()
    for _ in range(1000):
        routes = RandomSubsets(2)(ABCD)
        assert len({r.given for r in routes}) == 2
        assert all(r.given == r.targets for r in routes)
        seen.update(r.given for r in routes)
    assert set(seen) == set(proper)
    assert all(abs(n - 200) < 5 * 160**0.5 for n in seen.values())
    assert RandomSubsets(3)(("a", "b")) == [], "two modalities have no proper subset of two or more"


def test_bad_options_are_refused() -> None:
    for options, message in (
        (
            {"estimator": "vimco"},
            "estimator='vimco' is unknown; choose one of 'elbo', 'iwae', 'dreg'",
        ),
        ({"samples": 0}, "samples=0 must be a whole number of 1 or more"),
        ({"samples": 1.5}, "samples=1.5 must be a whole number"),
        ({"samples": True}, "samples=True must be a whole number"),
        ({"beta": -0.5}, "beta=-0.5 must not be negative, infinite or NaN"),
        ({"beta": float("nan")}, "beta=nan must not be negative, infinite or NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            Bound(singles_to_everything, **options)


def test_a_bound_without_routes_is_refused() -> None:
    with pytest.raises(ValueError, match="a bound needs routes; give one"):
        Bound()


# --- bounds -------------------------------------------------------------------------------------------------------------


def test_draws_take_private_latents_from_where_they_must() -> None:
    """Own targets from their encoder; cross targets from the auxiliary prior, or from
    their own encoder when asked."""
    model = ORACLE.model(MixtureRule(), auxiliary_scale=50.0)
    batch = ORACLE.batch(ORACLE.draw(200))
    encoding = model.encode(batch)
    for private in (from_auxiliary_prior, from_encoder):
        ask = Bound(singles_to_everything, samples=3, cross_private=private)(model, encoding)
        for draw, route in zip(ask.draws, singles_to_everything(NAMES), strict=True):
            assert draw.latents.shared.shape == (3, 200, 2)
            for n in NAMES:
                spread = float(draw.latents.private[n].detach().std())
                from_auxiliary = private is from_auxiliary_prior and n not in route.given
                assert (spread > 30) == from_auxiliary, (private, route.given, n, spread)


def test_sums_and_means_over_the_routes_a_row_takes() -> None:
    present = {
        "a": np.array([1, 1, 1], bool),
        "b": np.array([1, 1, 0], bool),
        "c": np.array([1, 0, 0], bool),
    }
    model, batch = (
        ORACLE.model(MixtureRule(), auxiliary_scale=1.0),
        ORACLE.batch(ORACLE.draw(3), present),
    )
    found = {}
    for reduce, shares in (("sum", sum_over_routes), ("mean", mean_over_routes)):
        torch.manual_seed(2)
        found[reduce] = terms(Bound(singles_to_everything, shares=shares), model, batch)
    for name in ("nll", "kl"):
        torch.testing.assert_close(
            found["sum"][name], found["mean"][name] * torch.tensor([3, 2, 1])
        )


@pytest.mark.parametrize("estimator", ["elbo", "iwae", "dreg"])
@pytest.mark.parametrize("density", [None, of_everything], ids=["route", "everything"])
def test_an_absent_modality_is_as_good_as_unknown(estimator: str, density: Density | None) -> None:
    """Rows that lack c get the loss of a model that has never heard of c: no
    likelihood, no KL, no route, no mixture component."""
    both = replace(
        ORACLE,
        **{
            f.name: {n: v for n, v in getattr(ORACLE, f.name).items() if n != "c"}
            for f in fields(ORACLE)
        },
    )
    x, repeats = ORACLE.draw(2), 3000
    tiled = {n: np.tile(v, (repeats, 1)) for n, v in x.items()}
    present = {n: np.full(2 * repeats, n != "c") for n in NAMES}
    bound = Bound(singles_to_everything, estimator=estimator, samples=2, density=density)  # type: ignore[arg-type]
    with torch.no_grad():
        lacking = sum(
            terms(
                bound,
                ORACLE.model(MixtureRule(), auxiliary_scale=1.0),
                ORACLE.batch(tiled, present),
            ).values()
        )
        unknown = sum(
            terms(bound, both.model(MixtureRule(), auxiliary_scale=1.0), both.batch(tiled)).values()
        )
    assert isinstance(lacking, Tensor) and isinstance(unknown, Tensor)
    a, b = lacking.view(repeats, 2).numpy(), unknown.view(repeats, 2).numpy()
    error = np.hypot(a.std(0), b.std(0)) / repeats**0.5
    assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()


def test_a_row_that_takes_no_route_counts_nothing() -> None:
    """MVAE's random pair may miss everything that a row has."""
    present = {
        "a": np.array([1, 0], bool),
        "b": np.array([1, 0], bool),
        "c": np.array([0, 1], bool),
    }
    model, batch = (
        ORACLE.model(ProductRule(prior_expert="always"), auxiliary_scale=1.0),
        ORACLE.batch(ORACLE.draw(2), present),
    )
    found = terms(
        Bound(
            lambda names: [r for r in singles_to_itself(names) if r.given != ("c",)],
            shares=sum_over_routes,
        ),
        model,
        batch,
    )
    for value in found.values():
        assert value[1] == 0 and value[0] != 0


# --- matching and diffusion ---------------------------------------------------------------------------------------------


def test_posterior_match_is_the_sum_over_what_a_row_has() -> None:
    x, present = (
        ORACLE.draw(2),
        {"a": np.array([1, 1], bool), "b": np.array([1, 0], bool), "c": np.array([1, 1], bool)},
    )
    found = terms(
        PosteriorMatch(0.4),
        ORACLE.model(ProductRule(prior_expert="never")),
        ORACLE.batch(x, present),
    )["match"]
    for row, here in enumerate([NAMES, ("a", "c")]):
        experts = [ORACLE.posterior(x, [n]) for n in here]
        expected = 0.4 * sum(gaussian_kl(gaussian_product(experts), e) for e in experts)
        assert float(found[row].detach()) == pytest.approx(
            float(np.asarray(expected)[row]), rel=1e-5
        )


@pytest.mark.parametrize("detach", [False, True])
def test_diffusion_loss_averages_z_and_w_over_the_modalities_of_a_row(
    detach: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = {
        "a": np.array([1, 1, 1], bool),
        "b": np.array([1, 1, 0], bool),
        "c": np.array([0, 1, 0], bool),
    }
    model, batch = ORACLE.model(MixtureRule()), ORACLE.batch(ORACLE.draw(3), present)
    model.add_fitted_priors("diffusion", 4)
    fakes = {"z": 1.0, "w_a": 10.0, "w_b": 100.0, "w_c": 1000.0}
    assert set(model.fitted_priors["diffusion"]) == set(fakes)
    for key, value in fakes.items():
        monkeypatch.setattr(
            model.fitted_priors["diffusion"][key],
            "loss",
            lambda latents, value=value: value + latents.sum(1),
        )
    encoding = model.encode(batch)
    loss = DiffusionPriorLoss(detach=detach).terms(model, encoding)["diffusion"]
    expected = torch.zeros(3, dtype=torch.float64)
    for row, here in enumerate([("a", "b"), ("a", "b", "c"), ("a",)]):
        for n in here:
            both = (
                1
                + encoding.shared[n].loc[row].sum()
                + fakes[f"w_{n}"]
                + encoding.private[n].loc[row].sum()
            )
            expected[row] += both / len(here)
    torch.testing.assert_close(loss, expected)
    assert loss.requires_grad != detach


def test_rescaling_makes_a_small_modality_count_as_much() -> None:
    """Each modality's reconstruction times the size of the largest over its own; the KL
    as it was."""
    model, rows = ORACLE.model(ProductRule(prior_expert="never")), ORACLE.batch(ORACLE.draw(6))
    factors = {name: 5 / m.shape[0] for name, m in model.modalities.items()}
    bounds = [Bound(everything_to_everything, rescale=rescale) for rescale in (False, True)]
    encoding = model.encode(rows)
    asks = []
    for bound in bounds:
        torch.manual_seed(0)  # the same draws for both
        asks.append(bound(model, encoding))
    decoded = model.decode(asks[0].draws, None)
    plain, scaled = (ask.terms(decoded) for ask in asks)
    each = {n: -model.likelihood(n).log_prob(decoded[0][n], rows.x[n])[0] for n in model.names}
    torch.testing.assert_close(
        scaled["nll"], torch.stack([factors[n] * v for n, v in each.items()]).sum(0)
    )
    torch.testing.assert_close(plain["nll"], torch.stack([*each.values()]).sum(0))
    torch.testing.assert_close(scaled["kl"], plain["kl"])
