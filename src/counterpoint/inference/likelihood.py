"""Importance-sampled log-likelihood."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from counterpoint.core.latents import Latents
from counterpoint.inference.approximations import LatentPosterior, approximation
from counterpoint.inference.bounds import log_weight
from counterpoint.inference.refinement import refined
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.probability.combining import normalised


def log_likelihood(
    model: Model, encoding: Encoding, samples: int, *, rows: int = 4096, refine: int | None = None
) -> Tensor:
    """log p(x) of what each row has, in nats, (B,), by importance sampling from the
    posterior given all of it:

        log 1/K Σ_k p(z_k) ∏_m p(w_mk) p(x_m | z_k, w_mk) / [q(z_k | x) ∏_m q(w_mk | x_m)].

    A product of unimodal posteriors without closed form is known up to a constant only:
    there the draws come from the mixture of its experts.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> log_likelihood(model, encoding, samples=10).shape
    torch.Size([5])

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
    q = LatentPosterior(
        normalised(model.posterior.condition(encoding, model.names)), encoding.private
    )
    if refine is not None:
        start = approximation(model, encoding, model.names)
        q = refined(model, encoding, model.names, start, refine).last
    step = max(1, rows // max(1, len(encoding.batch)))
    counts = [min(step, samples - first) for first in range(0, samples, step)]
    weights = torch.cat([drawn_weights(model, encoding, q, count) for count in counts])
    return torch.logsumexp(weights, 0) - math.log(samples)


def drawn_weights(model: Model, encoding: Encoding, q: LatentPosterior, samples: int) -> Tensor:
    """log [p(x, z, w) / q(z, w)] of draws of q, (K, B).

    Args:
        samples: K.
    """
    count = torch.Size((samples,))
    z = q.shared.rsample(count)
    latents = Latents(z, {name: w.rsample(count) for name, w in q.private.items()})
    (raw,) = model.decode([Draw(latents, model.names)], encoding.batch.covariates)
    factors = dict.fromkeys(model.names, 1.0)
    return log_weight(model, encoding.batch, latents, raw, q, factors)
