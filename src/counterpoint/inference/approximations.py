"""Approximations: posteriors as means and scales that can be moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from counterpoint.core.latents import SHARED_KEY, private_key
from counterpoint.model.encoding import Encoding
from counterpoint.model.model import Model
from counterpoint.model.rules import Rule
from counterpoint.probability import distributions as dist
from counterpoint.probability.distributions import Diagonal


@dataclass(frozen=True)
class LatentPosterior:
    """q(z | x_S) ∏_m q(w_m | x_m).

    Attributes:
        shared: of z, parameters (B, D).
        private: of w_m by modality, parameters (B, D_m); ``{}`` without private latents.

    >>> q = dist.Normal(torch.zeros(5, 4), torch.ones(5, 4))
    >>> LatentPosterior(q, {}).shared.loc.shape
    torch.Size([5, 4])
    """

    shared: dist.Posterior
    private: Mapping[str, Diagonal]


@dataclass(frozen=True)
class Approximation(LatentPosterior):
    """A posterior that has means and scales, which can be moved.

    Attributes:
        shared: of z, parameters (B, D): diagonal, or a mixture of diagonals.
        private: of w_m by modality, parameters (B, D_m); ``{}`` without private latents.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> [*approximation(model, encoding, ("x", "y")).parts]
    ['z', 'w_x', 'w_y']
    """

    shared: Diagonal | dist.Mixture
    private: dict[str, Diagonal]

    @property
    def parts(self) -> dict[str, Diagonal]:
        """By latent ("z", or "w_" and a modality) what has parameters (S, B, dim): S
        components of z, and S = 1 of each w_m."""
        z = (
            self.shared.components
            if isinstance(self.shared, dist.Mixture)
            else dist.stacked([self.shared])
        )
        return {SHARED_KEY: z} | {
            private_key(name): dist.stacked([w]) for name, w in self.private.items()
        }

    @property
    def shares(self) -> Tensor:
        """(S, B): what each component of z weighs."""
        return (
            self.shared.weights
            if isinstance(self.shared, dist.Mixture)
            else torch.ones_like(self.shared.loc[None, :, 0])
        )

    def detached(self) -> Approximation:
        """The same, cut from the graph."""
        return self.moved(
            {
                key: type(part)(part.loc.detach(), part.scale.detach())
                for key, part in self.parts.items()
            }
        )

    def moved(self, parts: dict[str, Diagonal]) -> Approximation:
        """The same with other parameters."""
        one = {
            name: type(w)(parts[private_key(name)].loc[0], parts[private_key(name)].scale[0])
            for name, w in self.private.items()
        }
        z = parts[SHARED_KEY]
        if isinstance(self.shared, dist.Mixture):
            return Approximation(dist.Mixture(z, self.shared.allowed), one)
        return Approximation(type(self.shared)(z.loc[0], z.scale[0]), one)


def approximation(
    model: Model, encoding: Encoding, given: tuple[str, ...], rule: Rule | None = None
) -> Approximation:
    """λ_0: what the encoders say of the given modalities.

    >>> import counterpoint as cp
    >>> modalities = cp.Modality("x", (3,)), cp.Modality("y", (2,))
    >>> model = cp.DMVAE.from_config(modalities, {"shared_dim": 4, "private_dim": 1}).model
    >>> x, y = torch.zeros(5, 3), torch.ones(5, 2)
    >>> encoding = model.encode(cp.Batch.of({"x": x, "y": y}, modalities=modalities))
    >>> approximation(model, encoding, ("x",)).shared.loc.shape
    torch.Size([5, 4])

    Raises:
        ValueError: a posterior without parameters of its own, such as a flow's, or a
            product that is sampled by chains.
    """
    return parametrised(model, encoding, given, model.posterior.condition(encoding, given, rule))


def parametrised(
    model: Model, encoding: Encoding, given: tuple[str, ...], z: dist.Posterior
) -> Approximation:
    """A posterior of z given some modalities, with theirs of w_m.

    Raises:
        ValueError: as ``approximation``.
    """
    if not isinstance(z, Diagonal | dist.Mixture):
        raise ValueError(
            f"q(z | {', '.join(given)}) is a {type(z).__name__}, which has no means and scales to refine; give every modality, or use a method"
            " whose unimodal posteriors are normal or Laplace"
        )
    return Approximation(
        z, {name: encoding.private[name] for name in given if name in model.private_dims}
    )
