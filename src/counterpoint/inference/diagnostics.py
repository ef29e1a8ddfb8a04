"""How far posteriors are from each other, and how chains fare."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.model.rules import Rule
from counterpoint.probability import convergence
from counterpoint.probability.combining import chained, log_normaliser


def divergence(
    model: Model, encoding: Encoding, given: tuple[str, ...], samples: int, rule: Rule | None = None
) -> Tensor:
    """KL(q(z | X) ‖ q(z | x_S)) in nats, (B,), by Monte Carlo over z ~ q(z | X): how
    much of what everything says S alone has lost.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> divergence(model, encoding, ("x", "y"), samples=5).max().item()  # nothing is left out
    0.0
    """
    everything = model.posterior.condition(encoding, model.names)
    some = model.posterior.condition(encoding, given, rule)
    normaliser = log_normaliser(some, everything, samples)
    z = everything.rsample(torch.Size((samples,)))
    return (everything.log_prob(z) - some.log_prob(z)).mean(0) + normaliser


@dataclass(frozen=True)
class Diagnostics:
    """How the chains of a batch fared, each (N,): one value for every row that takes
    chains.

    Attributes:
        rows: which rows of the batch they are.
        acceptance: mean probability of a proposal to be taken.
        divergent: share of steps that diverged.
        rhat: the largest rank-normalised split R-hat over the dimensions. Of many long
            chains that have mixed it is at most 1.01; of four times fifty draws in tens
            of dimensions, perfect ones have up to 1.07.
        ess: the smallest bulk effective sample size over the dimensions.
        improper: rows whose product is no density, and in which nothing was divided
            out.

    >>> ones = torch.ones(2)
    >>> Diagnostics(ones, 0.8 * ones, 0 * ones, 1.01 * ones, 150 * ones, 0 * ones).ess
    tensor([150., 150.])
    """

    rows: Tensor
    acceptance: Tensor
    divergent: Tensor
    rhat: Tensor
    ess: Tensor
    improper: Tensor


def diagnose(
    model: Model, encoding: Encoding, given: tuple[str, ...], rule: Rule | None = None
) -> Diagnostics | None:
    """The chains of q(z | x_S); None where it takes no chains.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> diagnose(model, encoding, ("x", "y")) is None  # a product of normals takes no chains
    True
    """
    q = chained(model.posterior.condition(encoding, given, rule))
    if q is None:
        return None
    chains = q.chains()
    return Diagnostics(
        q.rows,
        chains.acceptance.mean(0),
        chains.divergent.mean(0),
        convergence.rhat(chains.draws).amax(-1),
        convergence.bulk_size(chains.draws).amin(-1),
        q.improper,
    )
