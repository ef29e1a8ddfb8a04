"""Every posterior, objective and likelihood estimate against the linear-Gaussian
oracle.

Deterministic quantities agree to 1e-5, Monte Carlo within four standard errors;
deliberately wrong formulas must fail the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import (
    Array,
    LinearGaussian,
    assert_mean,
    expected_log_mixture,
    gaussian_kl,
    gaussian_product,
    log_mixture,
    log_normal,
    perturbed,
)
from torch import Tensor, nn

from counterpoint import inference
from counterpoint.core.batch import Batch
from counterpoint.inference import Refiner, RefinerOptions, likelihood
from counterpoint.inference.approximations import LatentPosterior
from counterpoint.methods import (
    DMVAE,
    IDMVAE,
    JMVAE,
    JNF,
    METHODS,
    MMVAE,
    MVAE,
    MVTCAE,
    DiffMVAE,
    IterativeMVAE,
    JNFShared,
    Method,
    MMVAEPlus,
    MoPoE,
)
from counterpoint.model.model import Model
from counterpoint.model.rules import Mixture, MixtureOfProducts, Product
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import (
    Bound,
    Density,
    from_encoder,
    of_everything,
    sum_over_routes,
)
from counterpoint.objectives.routes import (
    Route,
    Routes,
    SinglesToSome,
    everything_to_everything,
    singles_to_everything,
    singles_to_itself,
)
from counterpoint.probability import distributions as dist
from counterpoint.probability.mcmc import HMC, effective_size
from counterpoint.probability.products import ProductOfPosteriors

PLAIN = LinearGaussian.make(private_dim=0)
PRIVATE = LinearGaussian.make()
NAMES = PLAIN.names
STANDARD = (np.zeros(2), np.ones(2))
SMALL = NetworkOptions(hidden=(4,))
AUXILIARY = 1.3  # scale of the auxiliary private priors

Moments = tuple[Array, Array]


def close(actual: Tensor, expected: Array, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(
        actual.detach().numpy(),
        np.broadcast_to(expected, actual.shape),
        rtol=tolerance,
        atol=tolerance,
    )


def patterns(rows: int, *given: Sequence[str]) -> dict[str, Array]:
    """Which modalities are present when the rows come in blocks, one for each set
    given."""
    return {n: np.repeat([n in s for s in given], rows) for n in NAMES}


def loss_of(bound: Bound, model: Model, batch: Batch) -> dict[str, Tensor]:
    """The terms of one bound, every encoder and every decoder run once."""
    encoding = model.encode(batch)
    return bound(model, encoding).answered(model, encoding.batch.covariates)


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum(0)


def repeated(
    oracle: LinearGaussian, times: int, *given: Sequence[str], rows: int = 2
) -> tuple[dict[str, Array], Batch]:
    """``rows`` distinct rows a set, and the batch that repeats all of them ``times``
    times."""
    x = oracle.draw(rows * len(given))
    present = patterns(rows, *given)
    return x, oracle.batch(
        {n: np.tile(v, (times, 1)) for n, v in x.items()},
        {n: np.tile(v, times) for n, v in present.items()},
    )


# --- the oracle itself --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [("a",), ("a", "c"), NAMES])
def test_the_oracle_obeys_bayes(given: tuple[str, ...]) -> None:
    """log p(x) = log p(x|z,w) + log p(z) + log p(w) − log p(z|x) − log p(w|x) at any
    point."""
    x = PRIVATE.draw(4)
    z, point = PRIVATE.posterior(x, given), np.full(2, 0.3)
    value = log_normal(point, *STANDARD) - log_normal(point, *z)
    for n in given:
        w = np.full(1, -0.7)
        value = (
            value
            + log_normal(w, np.zeros(1), np.ones(1))
            - log_normal(w, *PRIVATE.private_posterior(x, n))
        )
        mean = point @ PRIVATE.shared[n].T + w @ PRIVATE.private[n].T + PRIVATE.offset[n]
        value = value + log_normal(x[n], mean, np.full(len(mean), PRIVATE.noise[n]))
    np.testing.assert_allclose(value, PRIVATE.log_prob(x, given), rtol=1e-10)


# --- posteriors ---------------------------------------------------------------------------------------------------------


SETS = [s for n in range(1, 4) for s in combinations(NAMES, n)]


@pytest.mark.parametrize("given", SETS)
def test_product_of_likelihoods_and_prior_is_the_exact_posterior(given: tuple[str, ...]) -> None:
    x, model = PRIVATE.draw(5), PRIVATE.model(Product(prior_expert="always"), experts="likelihood")
    q = model.posterior.condition(model.encode(PRIVATE.batch(x)), given)
    mean, std = PRIVATE.posterior(x, given)
    close(q.mean, mean)
    close(q.stddev, std)


def test_product_follows_what_each_row_has() -> None:
    x, present = PRIVATE.draw(6), patterns(2, ("a",), ("a", "c"), NAMES)
    model = PRIVATE.model(Product(prior_expert="always"), experts="likelihood")
    q = model.posterior.condition(model.encode(PRIVATE.batch(x, present)), NAMES)
    for i, given in enumerate([("a",), ("a", "c"), NAMES]):
        mean, std = PRIVATE.posterior(x, given)
        close(q.mean[2 * i : 2 * i + 2], mean[2 * i : 2 * i + 2])
        close(q.stddev[2 * i : 2 * i + 2], std)


@pytest.mark.parametrize("given", SETS)
def test_product_without_prior_multiplies_its_experts_alone(given: tuple[str, ...]) -> None:
    x, model = PLAIN.draw(5), PLAIN.model(Product(prior_expert="never"), experts="likelihood")
    q = model.posterior.condition(model.encode(PLAIN.batch(x)), given)
    mean, std = PLAIN.posterior(x, given)  # the product is that posterior divided by the prior
    precision = std**-2 - 1
    close(q.mean, mean * std**-2 / precision)
    close(q.stddev, precision**-0.5)


def test_private_posteriors_are_exact() -> None:
    x, model = PRIVATE.draw(5), PRIVATE.model(Mixture())
    encoding = model.encode(PRIVATE.batch(x))
    for n in NAMES:
        mean, std = PRIVATE.private_posterior(x, n)
        close(encoding.private[n].loc, mean)
        close(encoding.private[n].scale, std)


def test_mixture_moments_and_density() -> None:
    x, present = PLAIN.draw(6), patterns(2, ("b",), ("a", "b"), NAMES)
    model = PLAIN.model(Mixture())
    q = model.posterior.condition(model.encode(PLAIN.batch(x, present)), NAMES)
    point = np.array([0.4, -0.2])
    for i, given in enumerate([("b",), ("a", "b"), NAMES]):
        rows = slice(2 * i, 2 * i + 2)
        components = [PLAIN.posterior(x, [n]) for n in given]
        close(q.mean[rows], np.mean([c[0] for c in components], 0)[rows])
        close(
            q.log_prob(torch.as_tensor(point).expand(6, 2))[rows],
            log_mixture(point, components)[rows],
        )
    draws = q.rsample(torch.Size((20_000,)))[:, 4:].detach().numpy()
    components = [PLAIN.posterior(x, [n]) for n in NAMES]
    second = np.mean([c[0] ** 2 + c[1] ** 2 for c in components], 0)[4:]
    assert_mean(draws, np.mean([c[0] for c in components], 0)[4:])
    assert_mean(draws**2, second)


def test_mixture_of_products_components_and_weights() -> None:
    x, present = PLAIN.draw(6), patterns(2, ("b",), ("a", "b"), NAMES)
    model = PLAIN.model(MixtureOfProducts(), experts="likelihood")
    q = model.posterior.condition(model.encode(PLAIN.batch(x, present)), NAMES)
    assert isinstance(q, dist.Mixture)
    for i, given in enumerate([("b",), ("a", "b"), NAMES]):
        rows = slice(2 * i, 2 * i + 2)
        usable = [set(s) <= set(given) for s in SETS]
        close(q.weights[:, rows], np.array(usable)[:, None] / sum(usable))
        for s, (subset, use) in enumerate(zip(SETS, usable, strict=True)):
            if use:
                experts = [PLAIN.evidence(x, n) for n in subset] + [STANDARD] * (subset == NAMES)
                mean, std = gaussian_product(experts)
                close(q.components.loc[s, rows], mean[rows])
                close(q.components.scale[s, rows], std)


def test_mixture_of_products_of_some_has_no_prior_expert() -> None:
    x, model = PLAIN.draw(3), PLAIN.model(MixtureOfProducts(), experts="likelihood")
    q = model.posterior.condition(model.encode(PLAIN.batch(x)), ("a", "c"))
    assert isinstance(q, dist.Mixture)
    for s, subset in enumerate([("a",), ("c",), ("a", "c")]):
        close(q.components.loc[s], gaussian_product([PLAIN.evidence(x, n) for n in subset])[0])


def test_joint_encoder_serves_everything_and_products_serve_subsets() -> None:
    x, model = PLAIN.draw(4), PLAIN.model(PLAIN.joint_rule())
    encoding = model.encode(PLAIN.batch(x))
    close(model.posterior.condition(encoding, NAMES).mean, PLAIN.posterior(x, NAMES)[0])
    mean, std = gaussian_product([PLAIN.posterior(x, [n]) for n in ("a", "b")])
    close(model.posterior.condition(encoding, ("a", "b")).mean, mean)
    close(model.posterior.condition(encoding, ("a", "b")).stddev, std)


def test_rows_that_lack_a_modality_take_the_product_whatever_else_is_in_the_batch() -> None:
    x, model = PLAIN.draw(4), PLAIN.model(PLAIN.joint_rule())
    q = model.posterior.condition(
        model.encode(PLAIN.batch(x, patterns(2, ("a", "c"), NAMES))), NAMES
    )
    product = gaussian_product([PLAIN.posterior(x, [n]) for n in ("a", "c")])[0]
    close(q.mean, np.where(np.arange(4)[:, None] < 2, product, PLAIN.posterior(x, NAMES)[0]))


# --- the objective of every method --------------------------------------------------------------------------------------


def reconstruction(
    oracle: LinearGaussian,
    x: dict[str, Array],
    z: Moments,
    targets: Sequence[str],
    own: Sequence[str],
) -> Array:
    """Expected −log p of the targets; those in ``own`` use their exact private
    posterior, the others the auxiliary prior."""
    value = np.zeros(len(x["a"]))
    for n in targets:
        w = None
        if oracle.private:
            w = (
                oracle.private_posterior(x, n)
                if n in own
                else (np.zeros((1, 1)), np.full(1, AUXILIARY))
            )
        value = value - oracle.expected_log_likelihood(x[n], n, z, w)
    return value


def private_kl(x: dict[str, Array], names: Sequence[str]) -> Array:
    return np.sum([gaussian_kl(PRIVATE.private_posterior(x, n)) for n in names], 0)


def expected_mvae(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """Sum of the ELBOs of everything, each single and one random pair (averaged over
    the three); N(0, I) is an expert."""

    def elbo(given: Sequence[str]) -> Array | float:
        kept = [n for n in given if n in here]
        if not kept:
            return 0.0
        z = PLAIN.posterior(x, kept)
        return reconstruction(PLAIN, x, z, kept, ()) + 0.7 * gaussian_kl(z)

    pairs = np.mean(np.broadcast_arrays(*[elbo(pair) for pair in combinations(NAMES, 2)]), 0)
    return np.asarray(elbo(NAMES) + sum(elbo([n]) for n in NAMES) + pairs)


def dmvae_posterior(x: dict[str, Array], given: Sequence[str]) -> Moments:
    """The product of what the encoders say; the prior is an expert of all modalities
    only."""
    return gaussian_product(
        [PRIVATE.evidence(x, n) for n in given] + [STANDARD] * (tuple(given) == NAMES)
    )


def expected_dmvae(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """Sum of the ELBOs of everything and of each single to everything, each target with
    its own w."""
    value = np.zeros(len(x["a"]))
    for given in (here, *[(n,) for n in here]):
        z = dmvae_posterior(x, given)
        value = (
            value
            + reconstruction(PRIVATE, x, z, here, here)
            + 0.7 * (gaussian_kl(z) + private_kl(x, here))
        )
    return value


def expected_mvtcae(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """(M−r)/M·Σ_m −log p(x_m|z) + β[(1−r)·KL(q‖p) + r/M·Σ_m KL(q ‖ q_m)], with r = 0.6
    and β = 0.7."""
    experts = [PLAIN.posterior(x, [n]) for n in here]
    q = gaussian_product(experts)
    matches = np.sum([gaussian_kl(q, e) for e in experts], 0)
    return (3 - 0.6) / 3 * reconstruction(PLAIN, x, q, here, ()) + 0.7 * (
        0.4 * gaussian_kl(q) + 0.6 / 3 * matches
    )


def expected_jmvae(
    x: dict[str, Array], here: tuple[str, ...], alpha: float = 0.3, reverse: bool = False
) -> Array:
    """ELBO under the joint encoder (the product where a modality is absent) plus α
    times the KLs to the unimodal posteriors, or from them."""
    experts = [PLAIN.posterior(x, [n]) for n in here]
    q = PLAIN.posterior(x, NAMES) if here == NAMES else gaussian_product(experts)
    matches = np.sum([gaussian_kl(e, q) if reverse else gaussian_kl(q, e) for e in experts], 0)
    return reconstruction(PLAIN, x, q, here, ()) + 0.7 * gaussian_kl(q) + alpha * matches


def expected_iterative(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """JMVAE's bound, the mean of equal ones where refinement moves nothing, and the KLs
    from the unimodal posteriors once."""
    return expected_jmvae(x, here, alpha=1.0, reverse=True)


def expected_forward(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """The same with the KLs to the unimodal posteriors."""
    return expected_jmvae(x, here, alpha=1.0)


def expected_jnf(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """The first stage: ELBO under the joint encoder, which knows what each row has."""
    q = PLAIN.posterior(x, here)
    return reconstruction(PLAIN, x, q, here, ()) + 0.7 * gaussian_kl(q)


def expected_mopoe(x: dict[str, Array], here: tuple[str, ...]) -> Array:
    """The mean over all subsets' products of the reconstruction of everything, and of
    the KL."""
    subsets = [s for s in SETS if set(s) <= set(here)]
    value = np.zeros(len(x["a"]))
    for s in subsets:
        q = gaussian_product([PLAIN.evidence(x, n) for n in s] + [STANDARD] * (s == NAMES))
        value = value + reconstruction(PLAIN, x, q, here, ()) + 0.7 * gaussian_kl(q)
    return value / len(subsets)


def mixture_elbo(
    oracle: LinearGaussian, *, weighted: bool = True, priors: int = 1
) -> Callable[[dict[str, Array], tuple[str, ...]], Array]:
    """Every modality the source in turn, log q(z) of the mixture. ``weighted=False``
    drops log 1/M, ``priors=2`` counts log p(z) twice: both wrong."""

    def expected(x: dict[str, Array], here: tuple[str, ...]) -> Array:
        components = [oracle.posterior(x, [n]) for n in here]
        value = np.zeros(len(x["a"]))
        for n, q in zip(here, components, strict=True):
            log_q = expected_log_mixture(q, components, nodes=24) + (
                0.0 if weighted else np.log(len(here))
            )
            log_p = -0.5 * (q[0] ** 2 + q[1] ** 2).sum(1) - np.log(2 * np.pi)
            value = value + reconstruction(oracle, x, q, here, [n]) + 0.7 * (log_q - priors * log_p)
            if oracle.private:
                value = value + 0.7 * private_kl(x, [n])
        return value / len(here)

    return expected


Expected = Callable[[dict[str, Array], tuple[str, ...]], Array]
CASES: dict[str, tuple[type[Method], dict[str, Any], LinearGaussian, Expected]] = {
    "mvae": (MVAE, {}, PLAIN, expected_mvae),
    "dmvae": (DMVAE, {"private_dim": 1}, PRIVATE, expected_dmvae),
    "mvtcae": (MVTCAE, {"ratio": 0.6}, PLAIN, expected_mvtcae),
    "jmvae": (JMVAE, {"alpha": 0.3}, PLAIN, expected_jmvae),
    "jnf": (JNF, {}, PLAIN, expected_jnf),
    "iterative": (
        IterativeMVAE,
        {"refiner": RefinerOptions(steps=2, width=4)},
        PLAIN,
        expected_iterative,
    ),
    "iterative forward": (
        IterativeMVAE,
        {"refiner": RefinerOptions(steps=2, width=4), "direction": "forward"},
        PLAIN,
        expected_forward,
    ),
    "mopoe": (MoPoE, {}, PLAIN, expected_mopoe),
    "diff-mvae": (DiffMVAE, {"score": False}, PLAIN, expected_mopoe),
    "mmvae": (
        MMVAE,
        {"estimator": "elbo", "samples": 2, "posterior": "normal", "prior_scale": False},
        PLAIN,
        mixture_elbo(PLAIN),
    ),
    "mmvae+": (MMVAEPlus, {"private_dim": 1}, PRIVATE, mixture_elbo(PRIVATE)),
    "mmvae+ to some": (
        MMVAEPlus,
        {"private_dim": 1, "cross_targets": 1},
        PRIVATE,
        mixture_elbo(PRIVATE),
    ),
    "mmvae+ by iwae, K = 1": (
        MMVAEPlus,
        {"private_dim": 1, "estimator": "iwae"},
        PRIVATE,
        mixture_elbo(PRIVATE),
    ),
    "mmvae+ by dreg, K = 1": (
        MMVAEPlus,
        {"private_dim": 1, "estimator": "dreg"},
        PRIVATE,
        mixture_elbo(PRIVATE),
    ),
    "idmvae": (
        IDMVAE,
        {"private_dim": 1, "cross_mi": 0.0, "genaug": 0.0, "diffusion": 0.0},
        PRIVATE,
        mixture_elbo(PRIVATE),
    ),
}


def test_every_method_has_a_case() -> None:
    """JNF-Shared's bound is JNF's; what it adds is checked in test_regularisers."""
    assert {case[0] for case in CASES.values()} == set(METHODS.values()) - {JNFShared}


def oracle_method(case: str) -> Method:
    """The method of a case, with its own losses and its own rule, on the exact model;
    beta = 0.7."""
    kind: Any
    kind, options, oracle, _ = CASES[case]
    method: Method = kind(oracle.modalities, shared_dim=2, beta=0.7, networks=SMALL, **options)
    refiner = method.model.refiner
    rules = {
        JMVAE: oracle.joint_rule,
        IterativeMVAE: oracle.joint_rule,
        JNF: lambda: oracle.jnf_rule(HMC()),
    }
    rule = rules[kind]() if kind in rules else method.model.posterior.rule
    with_prior = kind in (MVAE, DMVAE, MoPoE, DiffMVAE)
    auxiliary = AUXILIARY if len(method.model.auxiliary_priors) else None
    method.model = oracle.model(
        rule, experts="likelihood" if with_prior else "posterior", auxiliary_scale=auxiliary
    )
    if isinstance(refiner, Refiner):  # one that leaves posteriors where they are
        for parameter in refiner.double().heads.parameters():
            nn.init.zeros_(parameter)
        method.model.put_refiner(refiner)
    return method


def test_flows_are_fitted_by_the_cross_entropy_from_the_joint_posterior() -> None:
    """The second stage of JNF: Σ_m over what a row has of −E log q(z | x_m) = H(q) +
    KL(q ‖ q_m), q the posterior of what it has."""
    method = oracle_method("jnf")
    method.begin(method.stages[1])
    times = 4000
    x, batch = repeated(PLAIN, times, *GIVEN)
    draws = method.losses(batch)["fit"].detach().numpy().reshape(times, -1)
    for i, here in enumerate(GIVEN):
        rows = slice(2 * i, 2 * i + 2)
        own = {n: v[rows] for n, v in x.items()}
        q = PLAIN.posterior(own, here)
        entropy = np.log(q[1] * np.sqrt(2 * np.pi * np.e)).sum()
        assert_mean(
            draws[:, rows],
            np.sum([entropy + gaussian_kl(q, PLAIN.posterior(own, [n])) for n in here], 0),
        )


@pytest.mark.parametrize("given", [("a",), ("b", "c"), NAMES])
def test_divergence_from_the_posterior_given_everything(given: tuple[str, ...]) -> None:
    method, x = oracle_method("jnf"), PLAIN.draw(5)
    found = [
        method.divergence(
            PLAIN.batch(x), given, samples=50, generator=torch.Generator().manual_seed(i)
        ).numpy()
        for i in range(200)
    ]
    assert_mean(np.stack(found), gaussian_kl(PLAIN.posterior(x, NAMES), PLAIN.posterior(x, given)))


def test_the_likelihood_of_rows_that_take_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the posterior of an incomplete row is known up to a constant only,
    importance samples come from its experts."""
    method, x = oracle_method("jnf"), PLAIN.draw(4)
    monkeypatch.setattr(
        "counterpoint.model.rules.product_of_posteriors", ProductOfPosteriors
    )  # no closed form, as with flows
    batch = PLAIN.batch(x, patterns(2, ("a", "c"), NAMES))
    found = np.stack(
        [
            method.log_likelihood(batch, 400, generator=torch.Generator().manual_seed(i)).numpy()
            for i in range(40)
        ]
    )
    for i, here in enumerate([("a", "c"), ("a", "c"), NAMES, NAMES]):
        expected = float(PLAIN.log_prob({n: v[i : i + 1] for n, v in x.items()}, here)[0])
        assert np.abs(found[:, i].mean() - expected) < 0.02


RANDOM = (
    "mvae",
    "mmvae+ to some",
)  # one random choice of routes serves the whole batch: their average is over steps
GIVEN = (NAMES, ("a", "c"), ("b",))


def check_objective(case: str, expected: Expected) -> None:
    method, oracle = oracle_method(case), CASES[case][2]
    times = 2000
    x, batch = repeated(oracle, times, *GIVEN)
    draws = total(method.losses(batch)).detach().numpy().reshape(times, -1)
    for i, here in enumerate(GIVEN):
        rows = slice(2 * i, 2 * i + 2)
        assert_mean(draws[:, rows], expected({n: v[rows] for n, v in x.items()}, here))


@pytest.mark.parametrize("case", [c for c in CASES if c not in RANDOM])
def test_objectives_equal_their_closed_forms(case: str) -> None:
    check_objective(case, CASES[case][3])


@pytest.mark.parametrize("case", RANDOM)
def test_objectives_with_random_routes_equal_their_closed_forms(case: str) -> None:
    method, oracle = oracle_method(case), CASES[case][2]
    x, batch = repeated(oracle, 20, *GIVEN)
    draws = np.stack(
        [total(method.losses(batch)).detach().numpy().reshape(20, -1).mean(0) for _ in range(300)]
    )
    for i, here in enumerate(GIVEN):
        rows = slice(2 * i, 2 * i + 2)
        assert_mean(draws[:, rows], CASES[case][3]({n: v[rows] for n, v in x.items()}, here))


@pytest.mark.parametrize("wrong", [{"weighted": False}, {"priors": 2}])
@pytest.mark.parametrize("case", ["mmvae", "mmvae+"])
def test_a_wrong_mixture_bound_fails_the_same_check(case: str, wrong: dict[str, int]) -> None:
    with pytest.raises(AssertionError, match="standard errors"):
        check_objective(case, mixture_elbo(CASES[case][2], **wrong))  # type: ignore[arg-type]


def test_a_wrong_prior_expert_fails_the_same_check() -> None:
    """MVTCAE with N(0, I) among its experts."""

    def with_prior(x: dict[str, Array], here: tuple[str, ...]) -> Array:
        experts = [PLAIN.posterior(x, [n]) for n in here]
        q = gaussian_product([*experts, STANDARD])
        matches = np.sum([gaussian_kl(q, e) for e in experts], 0)
        return (3 - 0.6) / 3 * reconstruction(PLAIN, x, q, here, ()) + 0.7 * (
            0.4 * gaussian_kl(q) + 0.6 / 3 * matches
        )

    with pytest.raises(AssertionError, match="standard errors"):
        check_objective("mvtcae", with_prior)


def test_closed_form_terms_are_exact() -> None:
    """The KL terms hold no noise where they are analytic."""
    x, rows = PRIVATE.draw(4), PRIVATE.batch(PRIVATE.draw(4))
    expected = 0.7 * sum(
        (gaussian_kl(dmvae_posterior(x, s)) + private_kl(x, NAMES))
        for s in (NAMES, *[(n,) for n in NAMES])
    )
    close(oracle_method("dmvae").losses(rows)["kl"], np.asarray(expected))
    x, rows = PLAIN.draw(4), PLAIN.batch(PLAIN.draw(4))
    experts = [PLAIN.posterior(x, [n]) for n in NAMES]
    q, terms = gaussian_product(experts), oracle_method("mvtcae").losses(rows)
    close(terms["kl"], 0.7 * 0.4 * gaussian_kl(q))
    close(terms["match"], 0.7 * 0.2 * np.sum([gaussian_kl(q, e) for e in experts], 0))
    products = [
        gaussian_product([PLAIN.evidence(x, n) for n in s] + [STANDARD] * (s == NAMES))
        for s in SETS
    ]
    close(
        oracle_method("mopoe").losses(rows)["kl"],
        0.7 * np.mean([gaussian_kl(p) for p in products], 0),
    )


def test_modality_weights_and_beta_scale_their_parts() -> None:
    x = PLAIN.draw(3)
    model, batch = PLAIN.model(Product(prior_expert="always"), experts="likelihood"), PLAIN.batch(x)
    torch.manual_seed(1)
    plain = loss_of(Bound(everything_to_everything), model, batch)
    model.modalities = {
        n: replace(m, weight=3.0 if n == "b" else 1.0) for n, m in model.modalities.items()
    }
    torch.manual_seed(1)
    weighted = loss_of(Bound(everything_to_everything, beta=2.0), model, batch)
    torch.manual_seed(1)
    only_b = loss_of(Bound(everything_to_everything), model, PLAIN.batch(x))["nll"] - plain["nll"]
    close(weighted["kl"], 2 * plain["kl"].detach().numpy())
    close(weighted["nll"], (plain["nll"] + only_b).detach().numpy())
    z = PLAIN.posterior(x, NAMES)
    assert (
        np.abs((only_b / 2).detach().numpy() - reconstruction(PLAIN, x, z, ["b"], ())) < 12
    ).all()


# --- importance-weighted bounds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("estimator", ["iwae", "dreg"])
def test_exact_posterior_makes_the_bound_exact_at_every_k(
    given: tuple[str, ...], estimator: str
) -> None:
    x = PRIVATE.draw(5)
    model = PRIVATE.model(Product(prior_expert="always"), experts="likelihood", auxiliary_scale=1.0)
    batch = PRIVATE.batch(x, patterns(5, given))
    for samples in (1, 7):
        bound = Bound(everything_to_everything, estimator=estimator, samples=samples)  # type: ignore[arg-type]
        close(loss_of(bound, model, batch)["bound"], -PRIVATE.log_prob(x, given))


def test_exact_posterior_makes_the_elbo_exact() -> None:
    x, batch = repeated(PRIVATE, 4000, NAMES)
    model = PRIVATE.model(Product(prior_expert="always"), experts="likelihood", auxiliary_scale=1.0)
    draws = (
        -total(loss_of(Bound(everything_to_everything), model, batch))
        .detach()
        .numpy()
        .reshape(4000, -1)
    )
    assert_mean(draws, PRIVATE.log_prob(x, NAMES))


def inexact(rule: str = "product", amount: float = 0.25) -> Model:
    chosen = Product(prior_expert="always") if rule == "product" else Mixture()
    model = PRIVATE.model(
        chosen,
        experts="likelihood" if rule == "product" else "posterior",
        auxiliary_scale=AUXILIARY,
    )
    return perturbed(model, amount)


def test_iwae_rises_from_the_elbo_to_the_log_likelihood() -> None:
    times = 1500
    x, batch = repeated(PRIVATE, times, NAMES)
    model = inexact()
    bounds = []
    with torch.no_grad():
        for samples in (1, 5, 50):
            bound = Bound(everything_to_everything, estimator="iwae", samples=samples)
            bounds.append(-loss_of(bound, model, batch)["bound"].numpy().reshape(times, -1))
        elbo = (
            -total(loss_of(Bound(everything_to_everything), model, batch))
            .numpy()
            .reshape(times, -1)
        )
    means, errors = [b.mean(0) for b in bounds], [b.std(0) / times**0.5 for b in bounds]
    assert_mean(bounds[0] - elbo, 0.0)
    for i in (0, 1):
        assert (means[i + 1] - means[i] > 4 * np.hypot(errors[i], errors[i + 1])).all(), (
            "IWAE must increase in K"
        )
    exact = PRIVATE.log_prob(x, NAMES)
    assert (means[2] < exact + 4 * errors[2]).all()
    assert (exact - means[2] < 0.35 * (exact - means[0])).all(), (
        "50 draws must close most of the gap"
    )


def test_iwae_of_the_mixture_equals_plain_numpy() -> None:
    """MMVAE+ with K = 3 against a loop over routes written from the formula, with draws
    of its own."""
    times, samples = 4000, 3
    x, batch = repeated(PRIVATE, times, NAMES, rows=1)
    method = oracle_method("mmvae+ by iwae, K = 1")
    bound: Any = method.parts[0]
    bound.samples = samples
    draws = method.losses(batch)["bound"].detach().numpy()
    rng = np.random.default_rng(5)
    components = [PRIVATE.posterior(x, [n]) for n in NAMES]
    independent = np.zeros(times)
    for source, (mean, std) in zip(NAMES, components, strict=True):
        z = mean + std * rng.normal(size=(samples, times, 2))
        log_weight = 0.7 * (log_normal(z, *STANDARD) - log_mixture(z, components))
        for n in NAMES:
            if n == source:
                w_mean, w_std = PRIVATE.private_posterior(x, n)
                w = w_mean + w_std * rng.normal(size=(samples, times, 1))
                log_weight += 0.7 * (
                    log_normal(w, np.zeros(1), np.ones(1)) - log_normal(w, w_mean, w_std)
                )
            else:
                w = AUXILIARY * rng.normal(size=(samples, times, 1))
            location = z @ PRIVATE.shared[n].T + w @ PRIVATE.private[n].T + PRIVATE.offset[n]
            log_weight += log_normal(x[n], location, np.full(location.shape[-1], PRIVATE.noise[n]))
        independent -= (np.logaddexp.reduce(log_weight, 0) - np.log(samples)) / 3
    error = np.hypot(draws.std(), independent.std()) / times**0.5
    assert abs(draws.mean() - independent.mean()) < 4 * error


@pytest.mark.parametrize("routes", [everything_to_everything, singles_to_everything])
def test_dreg_has_the_value_of_iwae(routes: Routes) -> None:
    batch = PRIVATE.batch(PRIVATE.draw(6), patterns(2, *GIVEN))
    model = inexact()
    values = []
    for estimator in ("iwae", "dreg"):
        torch.manual_seed(4)
        values.append(loss_of(Bound(routes, estimator=estimator, samples=6), model, batch)["bound"])
    close(values[1], values[0].detach().numpy())


def gradients(bound: Bound, model: Model, batch: Batch, repeats: int) -> dict[str, Array]:
    """``repeats`` independent gradients of every trainable parameter, (repeats, size)."""
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    found: dict[str, list[Array]] = {n: [] for n in parameters}
    for _ in range(repeats):
        loss = total(loss_of(bound, model, batch)).mean()
        for n, g in zip(
            parameters,
            torch.autograd.grad(loss, list(parameters.values()), allow_unused=True),
            strict=True,
        ):
            found[n].append(np.zeros(parameters[n].numel()) if g is None else g.flatten().numpy())
    return {n: np.stack(g) for n, g in found.items()}


def assert_same_expectation(a: dict[str, Array], b: dict[str, Array]) -> None:
    for n in a:
        error = np.sqrt((a[n].var(0, ddof=1) + b[n].var(0, ddof=1)) / len(a[n]))
        distance = np.abs(a[n].mean(0) - b[n].mean(0))
        assert (distance <= 4 * error + 1e-9).all(), (
            f"{n}: {distance / (error + 1e-12)} standard errors"
        )


@pytest.mark.parametrize(
    ("routes", "samples", "density"),
    [
        (everything_to_everything, 8, None),
        (singles_to_everything, 8, None),
        (singles_to_everything, 1, of_everything),
    ],
)
def test_dreg_gradient_is_that_of_iwae_in_expectation(
    routes: Routes, samples: int, density: Density | None
) -> None:
    batch = PRIVATE.batch({n: np.repeat(v, 16, 0) for n, v in PRIVATE.draw(2).items()})
    model = inexact("product" if density is None else "mixture")
    iwae, dreg = (
        gradients(Bound(routes, estimator=e, samples=samples, density=density), model, batch, 200)
        for e in ("iwae", "dreg")
    )
    assert_same_expectation(iwae, dreg)


def test_dreg_gradient_varies_less_than_that_of_iwae() -> None:
    """Near the exact posterior the path's gradient vanishes and only the score's noise
    is left, which DReG removes."""
    batch = PRIVATE.batch({n: np.repeat(v, 16, 0) for n, v in PRIVATE.draw(2).items()})
    spread = {}
    for estimator in ("iwae", "dreg"):
        bound = Bound(everything_to_everything, estimator=estimator, samples=8)
        found = gradients(bound, inexact(amount=0.05), batch, 40)
        spread[estimator] = sum(g.var(0).sum() for n, g in found.items() if "encoders" in n)
    assert spread["dreg"] < 0.2 * spread["iwae"]


# --- importance-sampled likelihood --------------------------------------------------------------------------------------


def test_importance_sampled_likelihood_of_an_exact_posterior_is_exact() -> None:
    x, present = PRIVATE.draw(6), patterns(2, *GIVEN)
    model = PRIVATE.model(Product(prior_expert="always"), experts="likelihood")
    with torch.no_grad():
        estimate = inference.log_likelihood(model, model.encode(PRIVATE.batch(x, present)), 3)
    for i, here in enumerate(GIVEN):
        close(estimate[2 * i : 2 * i + 2], PRIVATE.log_prob(x, here)[2 * i : 2 * i + 2])


@pytest.mark.parametrize("rule", ["product", "mixture"])
def test_importance_sampled_likelihood_of_an_inexact_posterior_converges(rule: str) -> None:
    x, present = PRIVATE.draw(6), patterns(2, *GIVEN)
    model = inexact(rule, amount=0.1)
    for name, parameter in model.posterior.named_parameters():
        if name.endswith(
            "log_scale"
        ):  # wider than the exact posterior, or the weights have no finite variance
            parameter.data.add_(0.3)
    with torch.no_grad():
        encoding = model.encode(PRIVATE.batch(x, present))
        estimates = torch.stack(
            [inference.log_likelihood(model, encoding, 500) for _ in range(30)]
        ).numpy()
    for i, here in enumerate(GIVEN):
        rows = slice(2 * i, 2 * i + 2)
        assert_mean(
            np.exp(estimates[:, rows] - PRIVATE.log_prob(x, here)[rows]), 1.0
        )  # the weights' mean is unbiased, its log is not


def told(
    rows: int, times: int = 1
) -> tuple[LinearGaussian, dict[str, Array], dict[str, Array], Batch]:
    """An oracle with two covariates, rows x and the rows x + B c that covariates have
    shifted, and the batch of the latter, ``times`` over."""
    rng = np.random.default_rng(5)
    oracle = replace(
        PRIVATE, effect={n: rng.normal(size=(len(PRIVATE.offset[n]), 2)) for n in NAMES if n != "c"}
    )
    x, c = PRIVATE.draw(rows), 0.5 * rng.normal(size=(rows, 2))
    shifted = {n: v + c @ oracle.effect[n].T if n in oracle.effect else v for n, v in x.items()}
    batch = oracle.batch({n: np.tile(v, (times, 1)) for n, v in shifted.items()})
    return oracle, x, shifted, replace(batch, covariates=torch.as_tensor(np.tile(c, (times, 1))))


def test_covariates_shift_the_elbo_to_that_of_what_is_left() -> None:
    """Encoders see the shifted rows, and decoders explain what covariates leave of
    them."""
    oracle, x, shifted, batch = told(3, times=3000)
    model = oracle.model(Product(prior_expert="always"), experts="likelihood")
    found = (
        total(loss_of(Bound(everything_to_everything, cross_private=from_encoder), model, batch))
        .detach()
        .numpy()
        .reshape(3000, 3)
    )
    z, w = (
        PRIVATE.posterior(shifted, NAMES),
        {n: PRIVATE.private_posterior(shifted, n) for n in NAMES},
    )
    expected = gaussian_kl(z) + private_kl(shifted, NAMES)
    assert_mean(
        found, expected - sum(PRIVATE.expected_log_likelihood(x[n], n, z, w[n]) for n in NAMES)
    )
    ignorant = expected - sum(
        PRIVATE.expected_log_likelihood(shifted[n], n, z, w[n]) for n in NAMES
    )
    assert (np.abs(found.mean(0) - ignorant) > 20 * found.std(0) / 3000**0.5).any(), (
        "the check would notice"
    )


def test_covariates_shift_the_likelihood_to_that_of_what_is_left() -> None:
    oracle, x, shifted, batch = told(3)
    model = oracle.model(Product(prior_expert="always"), experts="likelihood")
    with torch.no_grad():
        encoding = model.encode(batch)
        estimates = torch.stack(
            [inference.log_likelihood(model, encoding, 4000) for _ in range(20)]
        ).numpy()
    np.testing.assert_allclose(estimates.mean(0), PRIVATE.log_prob(x, NAMES), atol=0.02)
    assert np.abs(estimates.mean(0) - PRIVATE.log_prob(shifted, NAMES)).max() > 0.2, (
        "the check would notice"
    )


def test_importance_sampled_likelihood_in_chunks_counts_every_draw() -> None:
    x, model = PRIVATE.draw(4), inexact()
    with torch.no_grad():
        encoding = model.encode(PRIVATE.batch(x))
        torch.manual_seed(2)
        chunked = inference.log_likelihood(model, encoding, 10, rows=16)  # 4 + 4 + 2 draws
        torch.manual_seed(2)
        q = LatentPosterior(model.posterior.condition(encoding, model.names), encoding.private)
        parts = torch.cat([likelihood.drawn_weights(model, encoding, q, k) for k in (4, 4, 2)])
    close(chunked, (torch.logsumexp(parts, 0) - np.log(10)).numpy(), 1e-10)


# --- fewer cross targets ------------------------------------------------------------------------------------------------

FOUR = LinearGaussian.make({"a": 4, "b": 5, "c": 3, "d": 4}, private_dim=0)


@pytest.mark.parametrize("others", [1, 2])
def test_fewer_cross_targets_average_exactly_to_all(
    others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over all choices of shifts, with the same draws of z, values and gradients
    average to those of the full objective."""
    model, batch = perturbed(FOUR.model(Mixture()), 0.2), FOUR.batch(FOUR.draw(3))
    parameters = list(model.parameters())

    def value_and_gradient(routes: Routes) -> list[Tensor]:
        torch.manual_seed(6)
        loss = total(loss_of(Bound(routes, density=of_everything), model, batch)).mean()
        return [loss, *torch.autograd.grad(loss, parameters)]

    full = value_and_gradient(singles_to_everything)
    chosen = []
    for shifts in combinations(range(3), others):
        monkeypatch.setattr(
            torch, "randperm", lambda n, shifts=shifts, generator=None: torch.tensor(shifts)
        )
        chosen.append(value_and_gradient(SinglesToSome(others)))
    for i, exact in enumerate(full):
        close(torch.stack([c[i] for c in chosen]).mean(0), exact.detach().numpy())
    assert not torch.allclose(chosen[0][0], full[0]), (
        "one choice alone must differ, or nothing was tested"
    )


def test_fewer_cross_targets_are_unbiased_with_private_latents() -> None:
    batch = PRIVATE.batch(
        {n: np.repeat(v, 8, 0) for n, v in PRIVATE.draw(2).items()}, patterns(8, NAMES, ("a", "b"))
    )
    model = inexact("mixture")
    some, full = (
        gradients(Bound(r, density=of_everything), model, batch, 200)
        for r in (SinglesToSome(1), singles_to_everything)
    )
    assert_same_expectation(some, full)


def test_unscaled_cross_targets_would_be_biased() -> None:
    """Without the factor (M−1)/n the same check fails."""
    model, batch = FOUR.model(Mixture()), FOUR.batch(FOUR.draw(3))
    names = FOUR.names

    def unscaled(_: tuple[str, ...]) -> list[Route]:
        shift = int(torch.randint(1, 4, (1,)))
        return [Route((n,), (n, names[(i + shift) % 4])) for i, n in enumerate(names)]

    with torch.no_grad():
        values = [
            np.array(
                [
                    float(total(loss_of(Bound(r, density=of_everything), model, batch)).mean())
                    for _ in range(100)
                ]
            )
            for r in (unscaled, SinglesToSome(1), singles_to_everything)
        ]
    errors = [np.hypot(v.std(), values[2].std()) / 100**0.5 for v in values]
    assert abs(values[0].mean() - values[2].mean()) > 20 * errors[0]
    assert abs(values[1].mean() - values[2].mean()) < 4 * errors[1]


# --- generation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["mvae", "mmvae+", "mopoe", "mvtcae", "dmvae", "jmvae"])
def test_reconstruction_decodes_the_posterior_given_the_modality_alone(case: str) -> None:
    method, oracle = oracle_method(case), CASES[case][2]
    x = oracle.draw(4)
    there = method.reconstruct(oracle.batch(x))
    for n in NAMES:
        z = method.encode(oracle.batch(x), given=[n]).shared[0].numpy()
        if case in ("mvae", "dmvae"):
            expected = oracle.posterior(x, [n]) if case == "mvae" else dmvae_posterior(x, [n])
            np.testing.assert_allclose(z, expected[0], atol=1e-5)
        w = oracle.private_posterior(x, n)[0] @ oracle.private[n].T if oracle.private else 0.0
        close(there[n], z @ oracle.shared[n].T + oracle.offset[n] + w)


def test_translation_has_the_moments_of_the_exact_conditional() -> None:
    """E[x_b | x_a] and its spread over z and w, by the exact posterior of z and the
    prior of w_b."""
    method = oracle_method("mmvae+")
    x = PRIVATE.draw(3)
    draws = method.translate(PRIVATE.batch(x).only(["a"]), to=["b"], n=8000)["b"].numpy()
    mean, std = PRIVATE.posterior(x, ["a"])
    A, C = PRIVATE.shared["b"], PRIVATE.private["b"]
    assert_mean(draws, mean @ A.T + PRIVATE.offset["b"])
    centred = draws - (mean @ A.T + PRIVATE.offset["b"])
    assert_mean(centred**2, np.diag((A * std**2) @ A.T + C @ C.T))


def test_samples_have_the_moments_of_the_marginal() -> None:
    method = oracle_method("mmvae+")
    draws = method.sample(20_000, generator=torch.Generator().manual_seed(0))
    for n in NAMES:
        x = draws[n].numpy()
        assert_mean(x, PRIVATE.offset[n])
        clean = PRIVATE.shared[n] @ PRIVATE.shared[n].T + PRIVATE.private[n] @ PRIVATE.private[n].T
        assert_mean((x - PRIVATE.offset[n]) ** 2, np.diag(clean))


def test_recombination_takes_z_of_one_and_w_of_the_other() -> None:
    method = oracle_method("dmvae")
    what, manner = PRIVATE.draw(3, seed=8), PRIVATE.draw(3, seed=9)
    out = method.recombine(PRIVATE.batch(what), PRIVATE.batch(manner))
    z = PRIVATE.posterior(what, NAMES)[0]
    for n in NAMES:
        w = PRIVATE.private_posterior(manner, n)[0]
        close(out[n], z @ PRIVATE.shared[n].T + w @ PRIVATE.private[n].T + PRIVATE.offset[n])


def test_singles_to_itself_sums_unimodal_elbos() -> None:
    x, batch = repeated(PLAIN, 3000, NAMES)
    model = PLAIN.model(Product(prior_expert="always"), experts="likelihood")
    draws = (
        -total(loss_of(Bound(singles_to_itself, shares=sum_over_routes), model, batch))
        .detach()
        .numpy()
        .reshape(3000, -1)
    )
    assert_mean(
        draws, sum(PLAIN.log_prob(x, [n]) for n in NAMES)
    )  # each posterior is exact, each ELBO its log-likelihood


# --- the product of unimodal posteriors, for methods trained by another rule -----------------------------------------------


@pytest.mark.parametrize("case", ["mvae", "mmvae", "mopoe", "jmvae", "mvtcae"])
@pytest.mark.parametrize("given", [("a", "c"), NAMES])
def test_any_method_answers_by_the_product_of_its_posteriors(
    case: str, given: tuple[str, ...]
) -> None:
    """Exact encoders: whatever the method's own rule makes of a set, the product with
    the prior divided out is p(z | x_S)."""
    method, x = oracle_method(case), PLAIN.draw(5)
    if (
        case == "mopoe"
    ):  # its experts say the likelihood, and one alone is not multiplied by the prior
        method.model = PLAIN.model(MixtureOfProducts(), experts="posterior")
    mean, std = PLAIN.posterior(x, given)
    close(method.encode(PLAIN.batch(x), given, rule="product").shared[0], mean)
    draws = method.encode(PLAIN.batch(x), given, samples=4000, rule="product").shared.numpy()
    assert_mean(draws, mean)
    assert_mean((draws - mean) ** 2, std**2)


def test_chains_serve_a_method_whose_experts_are_no_normals() -> None:
    """MMVAE's Laplace posteriors under its Laplace prior: the moments of the product by
    quadrature, dimension by dimension."""
    torch.manual_seed(0)
    method = MMVAE(PLAIN.modalities, shared_dim=2, networks=SMALL)
    x = {n: v.astype(np.float32) for n, v in PLAIN.draw(3).items()}
    with torch.no_grad():
        experts = [
            q for q in method.model.encode(Batch.of(x, modalities=PLAIN.modalities)).shared.values()
        ]
        for q in experts:
            q.scale.mul_(0.4)
    grid = torch.linspace(-15, 15, 30_001).view(-1, 1, 1)
    base = [torch.distributions.Laplace(q.loc, q.scale).log_prob(grid) for q in experts]
    prior = torch.distributions.Laplace(0.0, method.model.prior().scale.detach()).log_prob(grid)
    weights = torch.softmax(sum(base) - 2 * prior, 0)
    product = ProductOfPosteriors(
        experts,
        torch.ones(3, 3, dtype=torch.bool),
        method.model.prior(),
        HMC(warmup=200, steps=400),
    )
    torch.manual_seed(1)
    draws = product.chains(48).draws
    error = draws.flatten(0, 1).std(0) / effective_size(draws).sqrt()
    assert float(((draws.mean((0, 1)) - (weights * grid).sum(0)).abs() / error).max()) < 4
    assert (
        method.diagnose(x, ["a", "b"], rule="product") is not None
        and method.diagnose(x, ["a", "b"]) is None
    )


def test_an_unknown_rule() -> None:
    with pytest.raises(
        ValueError, match="rule='poe' is unknown; choose 'own', 'product', or give a Rule"
    ):
        oracle_method("mvae").encode(PLAIN.batch(PLAIN.draw(2)), rule="poe")  # type: ignore[arg-type]


def test_chains_of_some_rows_are_diagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that have everything take the joint encoder, and need no chains: the others'
    are reported."""
    method, x = oracle_method("jnf"), PLAIN.draw(4)
    monkeypatch.setattr("counterpoint.model.rules.product_of_posteriors", ProductOfPosteriors)
    mixed = method.diagnose(PLAIN.batch(x, patterns(2, ("a", "c"), NAMES)), NAMES)
    assert (
        mixed is not None
        and mixed.rhat.shape == mixed.acceptance.shape == (2,)
        and float(mixed.acceptance.min()) > 0.5
    )
    assert method.diagnose(PLAIN.batch(x), NAMES) is None


def test_the_joint_stage_runs_no_unimodal_encoder() -> None:
    method, ran = oracle_method("jnf"), []
    for name, encoder in method.model.posterior.encoders.items():
        encoder.register_forward_hook(lambda *_, name=name: ran.append(name))
    for stage, expected in zip(method.stages, ([], list(NAMES)), strict=True):
        method.begin(stage)
        method.losses(PLAIN.batch(PLAIN.draw(3)))
        assert ran == expected
