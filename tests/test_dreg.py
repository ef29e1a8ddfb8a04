"""The doubly reparameterised gradient at any β: against quadrature, and against the
gradient of IWAE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian, log_normal, perturbed
from test_oracle import Array, assert_same_expectation, gradients, loss_of, total

from counterpoint.model.rules import Mixture, Product
from counterpoint.objectives.bound import (
    Bound,
    CrossPrivate,
    Density,
    from_auxiliary_prior,
    from_encoder,
    of_everything,
)
from counterpoint.objectives.routes import Routes, everything_to_everything, singles_to_everything

BETA = 2.5
SEVERAL = LinearGaussian.make({"a": 3, "b": 4}, shared_dim=2, private_dim=1)


def test_the_gradient_is_that_of_a_quadrature() -> None:
    """One latent, one value, q(z) = N(μ, σ²), K = 2: ∂/∂(μ, log σ) of E log ½ Σ w_k by
    central differences of Gauss–Hermite sums."""
    at, x, noise = np.array([0.4, np.log(0.6)]), 1.1, 0.8
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    weights = np.outer(weights, weights) / weights.sum() ** 2

    def value(mu: float, log_sigma: float) -> float:
        sigma = np.array([np.exp(log_sigma)])
        z = (mu + sigma * points)[:, None]
        ratio = log_normal(z, np.zeros(1), np.ones(1)) - log_normal(z, np.array([mu]), sigma)
        lw = log_normal(np.array([x]), z, np.array([noise])) + BETA * ratio
        return float((weights * (np.logaddexp(lw[:, None], lw[None]) - np.log(2))).sum())

    steps = 1e-4 * np.eye(2)
    truth = np.array([(value(*(at + step)) - value(*(at - step))) / 2e-4 for step in steps])
    oracle = LinearGaussian({"a": np.ones((1, 1))}, {"a": np.zeros(1)}, {"a": noise})
    model = oracle.model(Product(prior_expert="never"))
    encoder: Any = model.posterior.encoders["a"]
    with torch.no_grad():
        encoder.shared.weight.zero_()
        encoder.shared.bias.fill_(at[0])
        encoder.shared.log_scale.fill_(at[1])
    rows = oracle.batch({"a": np.full((200_000, 1), x)})
    for estimator in ("iwae", "dreg"):
        loss = total(
            loss_of(
                Bound(everything_to_everything, estimator=estimator, samples=2, beta=BETA),
                model,
                rows,
            )
        ).mean()
        slopes = torch.autograd.grad(-loss, [encoder.shared.bias, encoder.shared.log_scale])
        assert torch.cat(slopes).numpy() == pytest.approx(truth, abs=0.03), estimator


def both(
    routes: Routes, samples: int, density: Density | None, private: CrossPrivate
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Gradients of IWAE and of DReG, 150 of each, of a posterior that is off."""
    mixed = density is of_everything
    model = perturbed(
        SEVERAL.model(Mixture() if mixed else Product(prior_expert="never"), auxiliary_scale=0.7),
        0.3,
    )
    batch = SEVERAL.batch(
        {n: np.repeat(v, 32, 0) for n, v in SEVERAL.draw(2).items()},
        {"a": np.ones(64, bool), "b": np.arange(64) < 48},
    )
    options: dict[str, Any] = {
        "samples": samples,
        "beta": BETA,
        "density": density,
        "cross_private": private,
    }
    iwae, dreg = (
        gradients(Bound(routes, estimator=e, **options), model, batch, 150)
        for e in ("iwae", "dreg")
    )
    return iwae, dreg


@pytest.mark.parametrize(
    ("routes", "samples", "density", "private"),
    [
        (everything_to_everything, 4, None, from_encoder),
        # A sum over sources; private latents of targets from learned priors.
        (singles_to_everything, 4, None, from_auxiliary_prior),
        (singles_to_everything, 4, None, from_encoder),
        (singles_to_everything, 1, of_everything, from_auxiliary_prior),  # MMVAE+
    ],
)
def test_the_gradient_is_that_of_iwae_in_expectation(
    routes: Routes, samples: int, density: Density | None, private: CrossPrivate
) -> None:
    assert_same_expectation(*both(routes, samples, density, private))


def test_of_a_mixture_of_several_samples_all_but_the_encoders_of_z_have_the_gradient_of_iwae() -> (
    None
):
    """MMVAE+ with K = 4: private encoders, decoders and auxiliary priors."""
    iwae, dreg = both(singles_to_everything, 4, of_everything, from_auxiliary_prior)
    exact = [n for n in iwae if "encoders" not in n or "private" in n]
    assert (
        any("auxiliary" in n for n in exact)
        and any("encoders" in n for n in exact)
        and any("decoders" in n for n in exact)
    )
    assert_same_expectation({n: iwae[n] for n in exact}, {n: dreg[n] for n in exact})
