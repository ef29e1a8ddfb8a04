"""The weight of a latent draw, and the bounds that rest on it.

With draws z, w of q and likelihood factors f_m,

    lw = Σ_m f_m log p(x_m | z, w_m) + β [ log p(z) − log q(z) + Σ_m (log p(w_m) − log q(w_m)) ].

Importance sampling, the multi-sample bounds of the objectives and the single-sample bound
below all use it. Where the divergences have closed forms, they replace the bracket:

    L(λ) = E_q [ Σ_{m∈S} r_m log p(x_m | z, w_m) ] − β KL(q ‖ p),

with r_m the modality's weight and λ the means and scales of q. Each component of a mixture
has a bound of its own, as a posterior given all of S, and L is their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from counterpoint.core import noise
from counterpoint.core.batch import Batch
from counterpoint.core.latents import SHARED_KEY, Latents, private_key
from counterpoint.inference.approximations import Approximation, LatentPosterior
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.probability import distributions as dist
from counterpoint.probability.distributions import Diagonal

DECODED_ROWS = 4096
"""Most latents decoded at once to measure a bound."""


def log_likelihoods(
    model: Model, batch: Batch, raw: Mapping[str, Tensor], factors: Mapping[str, float]
) -> Tensor:
    """Σ_m f_m log p(x_m | z, w_m), (K, B); rows that lack a modality leave it out.

    Args:
        raw: decoder outputs by modality, (K, B, *output_shape).
        factors: f_m of the modalities that count.
    """
    parts = [factor * model.log_prob(m, raw[m], batch) for m, factor in factors.items()]
    return torch.stack(parts).sum(0)


def log_ratio(model: Model, batch: Batch, latents: Latents, q: LatentPosterior) -> Tensor:
    """log p(z, w) − log q(z, w), (K, B), over the private latents that q has.

    Args:
        latents: draws of q, shared (K, B, D) and private (K, B, D_m).
    """
    z = latents.shared
    total = model.prior().log_prob(z) - q.shared.log_prob(z)
    for name, q_w in q.private.items():
        w = latents.private[name]
        ratio = model.private_priors[name]().log_prob(w) - q_w.log_prob(w)
        total = total + batch.present[name] * ratio
    return total


def log_weight(
    model: Model,
    batch: Batch,
    latents: Latents,
    raw: Mapping[str, Tensor],
    q: LatentPosterior,
    factors: Mapping[str, float],
    *,
    beta: float = 1.0,
) -> Tensor:
    """lw of each draw, (K, B).

    Args:
        latents: draws of q.
        raw: what they were decoded to, by modality.
        q: the density that they are weighed by.
        factors: f_m of the modalities that count.
        beta: β.
    """
    ratio = log_ratio(model, batch, latents, q)
    return log_likelihoods(model, batch, raw, factors) + beta * ratio


def private_divergence(model: Model, batch: Batch, private: Mapping[str, Diagonal]) -> Tensor:
    """Σ_m KL(q(w_m) ‖ p(w_m)) in closed form, (B,), over the modalities that a row has."""
    total = torch.zeros(len(batch), device=batch.covariates.device)
    for name, q in private.items():
        total = total + batch.present[name] * dist.kl(q, model.private_priors[name]())
    return total


def divergence_from_prior(model: Model, batch: Batch, q: LatentPosterior) -> Tensor:
    """KL(q ‖ p) of z and every w_m in closed form, (B,), or (S, B) for S components of z."""
    return dist.kl(q.shared, model.prior()) + private_divergence(model, batch, q.private)


def measured(
    model: Model,
    encoding: Encoding,
    steps: Sequence[Approximation],
    given: tuple[str, ...],
    *,
    samples: int,
    beta: float = 1.0,
) -> Tensor:
    """L(λ) of each row in nats, (T, B), of every approximation by the same noise, so
    that they differ by nothing else.

    >>> from counterpoint.inference import approximation
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> q = approximation(model, encoding, ("x", "y"))
    >>> bounds = measured(model, encoding, [q, q], ("x", "y"), samples=3)
    >>> torch.allclose(bounds[0], bounds[1])  # the same noise
    True
    """
    seed = noise.fresh_seed()
    bounds = []
    for q in steps:
        with noise.seeded(seed):
            bounds.append(elbo(model, encoding, [q], given, samples=samples, beta=beta))
    return torch.cat(bounds)


def elbo(
    model: Model,
    encoding: Encoding,
    steps: Sequence[Approximation],
    given: tuple[str, ...],
    *,
    samples: int = 1,
    beta: float = 1.0,
) -> Tensor:
    """L(λ) of each row in nats, (T, B), for T approximations at once, by draws of every
    component; for a mixture the mean of its components' bounds.

    >>> from counterpoint.inference import approximation
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> q = approximation(model, encoding, ("x", "y"))
    >>> elbo(model, encoding, [q], ("x", "y")).shape
    torch.Size([1, 5])
    """
    each = [q.parts for q in steps]
    count = len(each[0][SHARED_KEY].loc)  # S
    parts = {key: _joined([p[key] for p in each], count) for key in each[0]}  # (T S, B, dim)
    most = max(1, DECODED_ROWS // parts[SHARED_KEY].loc.shape[:-1].numel())
    bounds = []
    for some in [most] * (samples // most) + [samples % most] * (samples % most > 0):
        drawn = {key: part.rsample(torch.Size((some,))) for key, part in parts.items()}
        bounds.append(some / samples * component_bounds(model, encoding, parts, drawn, given, beta))
    by_component = torch.stack(bounds).sum(0).unflatten(0, (len(each), count))
    return (steps[0].shares * by_component).sum(1)


def _joined(parts: Sequence[Diagonal], count: int) -> Diagonal:
    """Of T distributions of S or of one component, one of T S."""
    loc = torch.cat([q.loc.expand(count, -1, -1) for q in parts])
    scale = torch.cat([q.scale.expand(count, -1, -1) for q in parts])
    return type(parts[0])(loc, scale)


def component_bounds(
    model: Model,
    encoding: Encoding,
    parts: dict[str, Diagonal],
    drawn: dict[str, Tensor],
    given: tuple[str, ...],
    beta: float,
) -> Tensor:
    """L of each component, (S, B).

    Args:
        parts: components by latent, parameters (S, B, dim).
        drawn: their draws, (K, S, B, D) of z, and (K, S, B, D_m) or (K, 1, B, D_m) of w_m.
    """
    batch = encoding.batch
    lead = drawn[SHARED_KEY].shape[:2]
    names = [name for name in given if private_key(name) in drawn]
    private = {name: drawn[private_key(name)].expand(*lead, -1, -1).flatten(0, 1) for name in names}
    latents = Latents(drawn[SHARED_KEY].flatten(0, 1), private)
    (raw,) = model.decode([Draw(latents, given)], batch.covariates)
    factors = {name: model.modalities[name].weight for name in given}
    likelihood = log_likelihoods(model, batch, raw, factors).unflatten(0, lead).mean(0)
    q = LatentPosterior(parts[SHARED_KEY], {name: parts[private_key(name)] for name in names})
    return likelihood - beta * divergence_from_prior(model, batch, q)
