"""Approximate posteriors as what can be moved, and the bound that says how good they
are.

    L(λ) = E_q [Σ_{m∈S} r_m log p(x_m | z, w_m)] − β KL(q ‖ p),      q = q(z | x_S) ∏_{m∈S} q(w_m | x_m),      r_m the modality's weight,

with λ the means and scales of q. Of a mixture each component has a bound of its own, as
a posterior given all of S, and L is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from counterpoint.core import noise
from counterpoint.core.latents import Latents
from counterpoint.inference.approximations import Approximation
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.probability import distributions as dist
from counterpoint.probability.distributions import Diagonal

ROWS = 4096
"""Most latents decoded at once to measure a bound."""


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
    that they differ by nothing else."""
    seed, bounds = noise.fresh_seed(), []
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
    component; for a mixture the mean of its components' bounds."""
    each = [q.parts for q in steps]
    count = len(each[0]["z"].loc)  # S
    parts = {key: _joined([p[key] for p in each], count) for key in each[0]}  # (T S, B, dim)
    most = max(1, ROWS // parts["z"].loc.shape[:-1].numel())
    bounds = []
    for some in [most] * (samples // most) + [samples % most] * (samples % most > 0):
        drawn = {key: part.rsample(torch.Size((some,))) for key, part in parts.items()}
        bounds.append(some / samples * component_bounds(model, encoding, parts, drawn, given, beta))
    return (steps[0].shares * torch.stack(bounds).sum(0).unflatten(0, (len(each), count))).sum(1)


def _joined(parts: Sequence[Diagonal], count: int) -> Diagonal:
    """Of T distributions of S or of one component, one of T S."""
    loc, scale = (
        torch.cat([t.expand(count, -1, -1) for t in each])
        for each in zip(*((q.loc, q.scale) for q in parts), strict=True)
    )
    return type(parts[0])(loc, scale)


def component_bounds(
    model: Model,
    encoding: Encoding,
    parts: dict[str, Diagonal],
    drawn: dict[str, Tensor],
    given: tuple[str, ...],
    beta: float,
) -> Tensor:
    """L of each component, (S, B), over its draws (K, S, B, D) of z, and (K, S, B, D_m)
    or (K, 1, B, D_m) of w_m."""
    lead = drawn["z"].shape[:2]
    private = {
        name: drawn[f"w_{name}"].expand(*lead, -1, -1).flatten(0, 1)
        for name in given
        if f"w_{name}" in drawn
    }
    batch = encoding.batch
    raw = model.decode([Draw(Latents(drawn["z"].flatten(0, 1), private), given)], batch.covariates)[
        0
    ]
    total = -beta * dist.kl(parts["z"], model.prior())
    for name in given:
        said = model.log_prob(name, raw[name], batch)
        total = total + model.modalities[name].weight * said.unflatten(0, lead).mean(0)
    for name in private:
        total = total - beta * batch.present[name] * dist.kl(
            parts[f"w_{name}"], model.private_priors[name]()
        )
    return total
