"""What a trained model answers: posterior latents, generation from any given modalities, importance-sampled likelihood.

Functions of a model and an encoding; they hold no state. Gradients and modes are the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint import mcmc
from counterpoint.distributions import Diagonal, Posterior
from counterpoint.inference.bounds import approximation
from counterpoint.inference.iterative import refined
from counterpoint.model import Draw, Model
from counterpoint.posteriors import Encoding, Rule
from counterpoint.products import chained, log_normaliser, normalised
from counterpoint.types import Latents


def posterior_latents(
    model: Model, encoding: Encoding, given: tuple[str, ...], samples: int | None, rule: Rule | None = None, refine: int | None = None
) -> Latents:
    """q(z | x_S) and q(w_m | x_m), m ∈ S: means with K = 1 where ``samples`` is None, else K draws; after so many steps of refinement."""
    q = model.posterior.condition(encoding, given, rule)
    private = {name: encoding.private[name] for name in given if name in model.private_dims}
    if refine is not None:
        better = refined(model, encoding, given, approximation(model, encoding, given, rule), refine).last
        q, private = better.shared, better.private
    if samples is None:
        return Latents(q.centre[None], {name: w.centre[None] for name, w in private.items()})
    k = torch.Size((samples,))
    return Latents(q.rsample(k), {name: w.rsample(k) for name, w in private.items()})


PriorDraws = Callable[[str, tuple[int, ...]], Tensor]
"""Name of a latent and shape → draws of its prior, as :meth:`Model.draw_prior` gives them."""


def completed(model: Model, latents: Latents, targets: Sequence[str], present: dict[str, Tensor], draw: PriorDraws) -> Latents:
    """Add a private latent from the prior wherever a target has none: not given, or absent in that row."""
    k, rows = latents.shared.shape[:2]
    private = {}
    for name in targets:
        if name not in model.private_dims:
            continue
        own = latents.private.get(name)
        if own is not None and bool(present[name].all()):
            private[name] = own
            continue
        drawn = draw(f"w_{name}", (k, rows))
        private[name] = drawn if own is None else torch.where(present[name].view(1, -1, 1), own, drawn)
    return Latents(latents.shared, private)


def means(model: Model, draws: Sequence[Draw], covariates: Tensor | None, x: Mapping[str, Tensor] | None = None) -> list[dict[str, Tensor]]:
    """Decoder means of each draw by target, (K, B, *shape).

    Args:
        covariates: of the rows, (B, C), as in ``Model.decode``.
        x: by modality what is known of the same rows, (B, *shape), zeros in rows where it is not: counts have their totals.
    """
    x = x or {}
    decoded = model.decode(draws, covariates)
    return [{name: model.likelihood(name).mean(raw, x.get(name)) for name, raw in out.items()} for out in decoded]


def divergence(model: Model, encoding: Encoding, given: tuple[str, ...], samples: int, rule: Rule | None = None) -> Tensor:
    """KL(q(z | X) ‖ q(z | x_S)) in nats, (B,), by Monte Carlo over z ~ q(z | X): how much of what everything says S alone has lost."""
    everything, some = model.posterior.condition(encoding, model.names), model.posterior.condition(encoding, given, rule)
    normaliser = log_normaliser(some, everything, samples)
    z = everything.rsample(torch.Size((samples,)))
    return (everything.log_prob(z) - some.log_prob(z)).mean(0) + normaliser


@dataclass(frozen=True)
class Diagnostics:
    """How the chains of a batch fared, each (N,): one value for every row that takes chains.

    Attributes:
        rows: which rows of the batch they are.
        acceptance: mean probability of a proposal to be taken.
        divergent: share of steps that diverged.
        rhat: the largest rank-normalised split R-hat over the dimensions. Of many long chains that have mixed it is at most 1.01; of four times fifty draws in
            tens of dimensions, perfect ones have up to 1.07.
        ess: the smallest bulk effective sample size over the dimensions.
        improper: rows whose product is no density, and in which nothing was divided out.
    """

    rows: Tensor
    acceptance: Tensor
    divergent: Tensor
    rhat: Tensor
    ess: Tensor
    improper: Tensor


def diagnose(model: Model, encoding: Encoding, given: tuple[str, ...], rule: Rule | None = None) -> Diagnostics | None:
    """The chains of q(z | x_S); None where it takes no chains."""
    q = chained(model.posterior.condition(encoding, given, rule))
    if q is None:
        return None
    chains = q.chains()
    return Diagnostics(
        q.rows,
        chains.acceptance.mean(0),
        chains.divergent.mean(0),
        mcmc.rhat(chains.draws).amax(-1),
        mcmc.bulk_size(chains.draws).amin(-1),
        q.improper,
    )


def log_likelihood(model: Model, encoding: Encoding, samples: int, *, rows: int = 4096, refine: int | None = None) -> Tensor:
    """log p(x) of what each row has, in nats, (B,), by importance sampling from the posterior given all of it:

        log 1/K Σ_k p(z_k) ∏_m p(w_mk) p(x_m | z_k, w_mk) / [q(z_k | x) ∏_m q(w_mk | x_m)].

    A product of unimodal posteriors without closed form is known up to a constant only: there the draws come from the mixture of its experts.

    Args:
        samples: K.
        rows: latents decoded at once; bounds the memory.
        refine: draw from the posterior after so many steps of refinement.

    Raises:
        ValueError: a decoder without an exact density.
    """
    if surrogate := model.surrogates:
        raise ValueError(
            f"the decoder of {surrogate[0]!r} has no exact density, so log p(x) can't be estimated; use a feed-forward decoder for it"
        )
    if samples < 1:
        raise ValueError(f"samples={samples} must be 1 or more")
    step = max(1, rows // max(1, len(encoding.batch)))
    q, private = normalised(model.posterior.condition(encoding, model.names)), encoding.private
    if refine is not None:
        better = refined(model, encoding, model.names, approximation(model, encoding, model.names), refine).last
        q, private = better.shared, better.private
    parts = [_log_weights(model, encoding, q, private, min(step, samples - i)) for i in range(0, samples, step)]
    return torch.logsumexp(torch.cat(parts), 0) - math.log(samples)


def _log_weights(model: Model, encoding: Encoding, q: Posterior, privates: Mapping[str, Diagonal], k: int) -> Tensor:
    z = q.rsample(torch.Size((k,)))
    total = model.prior().log_prob(z) - q.log_prob(z)
    private = {}
    for name, posterior in privates.items():
        w = private[name] = posterior.rsample(torch.Size((k,)))
        total = total + encoding.batch.present[name] * (model.private_priors[name]().log_prob(w) - posterior.log_prob(w))
    raw = model.decode([Draw(Latents(z, private), model.names)], encoding.batch.covariates)[0]
    for name in model.names:
        total = total + model.log_prob(name, raw[name], encoding.batch)
    return total
