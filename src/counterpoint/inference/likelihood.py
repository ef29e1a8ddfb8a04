"""Importance-sampled log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from counterpoint.core.latents import Latents
from counterpoint.inference.bounds import approximation
from counterpoint.inference.refinement import refined
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.probability.combining import normalised
from counterpoint.probability.distributions import Diagonal, Posterior


def log_likelihood(
    model: Model, encoding: Encoding, samples: int, *, rows: int = 4096, refine: int | None = None
) -> Tensor:
    """log p(x) of what each row has, in nats, (B,), by importance sampling from the
    posterior given all of it:

        log 1/K Σ_k p(z_k) ∏_m p(w_mk) p(x_m | z_k, w_mk) / [q(z_k | x) ∏_m q(w_mk | x_m)].

    A product of unimodal posteriors without closed form is known up to a constant only:
    there the draws come from the mixture of its experts.

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
        better = refined(
            model, encoding, model.names, approximation(model, encoding, model.names), refine
        ).last
        q, private = better.shared, better.private
    parts = [
        _log_weights(model, encoding, q, private, min(step, samples - i))
        for i in range(0, samples, step)
    ]
    return torch.logsumexp(torch.cat(parts), 0) - math.log(samples)


def _log_weights(
    model: Model, encoding: Encoding, q: Posterior, privates: Mapping[str, Diagonal], k: int
) -> Tensor:
    z = q.rsample(torch.Size((k,)))
    total = model.prior().log_prob(z) - q.log_prob(z)
    private = {}
    for name, posterior in privates.items():
        w = private[name] = posterior.rsample(torch.Size((k,)))
        total = total + encoding.batch.present[name] * (
            model.private_priors[name]().log_prob(w) - posterior.log_prob(w)
        )
    raw = model.decode([Draw(Latents(z, private), model.names)], encoding.batch.covariates)[0]
    for name in model.names:
        total = total + model.log_prob(name, raw[name], encoding.batch)
    return total
