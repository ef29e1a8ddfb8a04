"""Signals: what a refiner sees of the bound."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from counterpoint.core import noise
from counterpoint.core.latents import SHARED_KEY, Latents, modality_of, private_key
from counterpoint.core.modality import Modality
from counterpoint.inference.approximations import Approximation
from counterpoint.inference.bounds import component_bounds
from counterpoint.inference.refiner import Refiner
from counterpoint.model.decoders import Draw
from counterpoint.model.encoding import Encoding
from counterpoint.model.likelihood import Likelihood
from counterpoint.model.model import Model
from counterpoint.nn.modules import readable
from counterpoint.probability.distributions import Diagonal


def signals_of(
    model: Model, encoding: Encoding, q: Approximation, given: tuple[str, ...], refiner: Refiner
) -> dict[str, Tensor]:
    """By latent, (S, B, 2 D + features): what the refiner sees of the bound.

    >>> from counterpoint.inference import approximation
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.IterativeMVAE.from_config(modalities, {"shared_dim": 4}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> q = approximation(model, encoding, ("x", "y"))
    >>> signals = signals_of(model, encoding, q, ("x", "y"), model.refiner)
    >>> {key: tuple(signal.shape) for key, signal in signals.items()}
    {'z': (1, 5, 8)}
    """
    if refiner.options.signal == "gradient":
        return _gradients(model, encoding, q, given, refiner)
    parts = q.parts
    seen = errors(model, encoding, parts, given, refiner)
    found = {}
    for key, part in parts.items():
        prior = (
            model.prior() if key == SHARED_KEY else model.private_priors[str(modality_of(key))]()
        )
        off = torch.cat(
            [(part.loc - prior.loc) / prior.scale, (part.scale / prior.scale).log()], -1
        )
        found[key] = torch.cat(
            [
                off,
                seen if key == SHARED_KEY else (q.shares.unsqueeze(-1) * seen).sum(0, keepdim=True),
            ],
            -1,
        )
    return found


def _gradients(
    model: Model, encoding: Encoding, q: Approximation, given: tuple[str, ...], refiner: Refiner
) -> dict[str, Tensor]:
    """σ ⊙ ∇_{(μ, σ)} L, signed, as log(1 + |·|)."""
    unroll = refiner.options.unroll and torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = {
            key: part if unroll and part.loc.requires_grad else _leaf(part)
            for key, part in q.parts.items()
        }
        drawn = {key: _signed(part, refiner.options.draws) for key, part in leaves.items()}
        bound = (
            q.shares * component_bounds(model, encoding, leaves, drawn, given, refiner.beta)
        ).sum()
        at = []
        for part in leaves.values():
            for t in (part.loc, part.scale):
                at.append(t)
        slopes = iter(torch.autograd.grad(bound, at, create_graph=unroll))
    found = {}
    for key, part in leaves.items():
        g = part.scale.repeat(1, 1, 2) * torch.cat([next(slopes), next(slopes)], -1)
        if key == SHARED_KEY:  # each component's own bound, whatever it weighs in the mixture
            g = g / q.shares.where(q.shares > 0, 1.0).unsqueeze(-1)
        found[key] = g.sign() * g.abs().log1p()
    return found if unroll else {key: g.detach() for key, g in found.items()}


def _signed(q: Diagonal, draws: int) -> Tensor:
    """(draws, S, B, D): μ + σ ⊙ ε, σ the standard deviation and ε random signs, of
    which the second half are the first's opposites."""
    shape = (-(-draws // 2), *q.loc.shape)
    at = q.loc.device
    signs = (
        torch.randint(0, 2, shape, generator=noise.generator(at), device=at, dtype=q.loc.dtype) * 2
        - 1
    )
    return q.loc + q.base_dist.stddev * torch.cat([signs, -signs])[:draws]


def errors(
    model: Model,
    encoding: Encoding,
    parts: dict[str, Diagonal],
    given: tuple[str, ...],
    refiner: Refiner,
) -> Tensor:
    """(S, B, features): how each given modality differs from what is decoded at μ;
    zeros where it is not there.

    >>> from counterpoint.inference import Refiner, RefinerOptions, approximation
    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> refiner = Refiner(modalities, model.latents, RefinerOptions(signal="error"))
    >>> q = approximation(model, encoding, ("x", "y"))
    >>> errors(model, encoding, q.parts, ("x", "y"), refiner).shape
    torch.Size([1, 5, 512])
    """
    at = {key: part.loc for key, part in parts.items()}
    private = {
        name: at[private_key(name)].expand(len(at[SHARED_KEY]), -1, -1)
        for name in given
        if private_key(name) in at
    }
    raw = model.decode([Draw(Latents(at[SHARED_KEY], private), given)], encoding.batch.covariates)[
        0
    ]
    blank = at[SHARED_KEY].new_zeros(*at[SHARED_KEY].shape[:-1], refiner.options.width)
    found = []
    for name, reader in refiner.errors.items():
        if name not in given:
            found.append(blank)
            continue
        error = _error(
            model.modalities[name], model.likelihood(name), raw[name], encoding.batch.x[name]
        )
        error = error * encoding.batch.observed(name) if name in encoding.batch.entries else error
        # Decoders learn from the bound alone.
        error = error if refiner.options.unroll else error.detach()
        found.append(
            encoding.batch.present[name].unsqueeze(-1)
            * reader(error.flatten(0, 1)).unflatten(0, error.shape[:2])
        )
    return torch.cat(found, -1)


def _error(modality: Modality, likelihood: Likelihood, raw: Tensor, x: Tensor) -> Tensor:
    """x − E[x | raw], (S, B, *shape), both as networks see them; of words, what is and
    what was thought likely."""
    if not likelihood.exact:
        raise ValueError(
            "a diffusion decoder has no mean to take an error from; use signal='gradient'"
        )
    mean = likelihood.mean(raw, x)
    return (
        F.one_hot(x, mean.shape[-1])
        if modality.likelihood == "categorical"
        else readable(modality, x)
    ) - readable(modality, mean)


def _leaf(q: Diagonal) -> Diagonal:
    return type(q)(q.loc.detach().requires_grad_(), q.scale.detach().requires_grad_())
