"""Priors: the densities p(z) and p(w_m) of the objective."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from counterpoint.probability.distributions import Diagonal, family, floored


class Prior(nn.Module):
    """Zero-mean diagonal prior.

    Args:
        dim: number of latent dimensions.
        name: ``"normal"`` or ``"laplace"``.
        scale: of every dimension: the standard deviation of a normal, the diversity of
            a Laplace.
        learned_scale: learn one scale per dimension, at least .001, as auxiliary
            private priors do; it starts at ``scale``.

    Raises:
        ValueError: an unknown name, or a scale that is not positive.

    >>> Prior(2, scale=0.5)().scale.tolist()
    [0.5, 0.5]
    """

    log_scale: Tensor

    def __init__(
        self, dim: int, name: str = "normal", *, scale: float = 1.0, learned_scale: bool = False
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"the scale of a prior must be positive and finite, got {scale}")
        self.family = family(name)
        self.dim = dim
        self.learned = learned_scale
        log_scale = torch.full((dim,), math.log(scale))
        if learned_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)

    def forward(self) -> Diagonal:
        """The prior, parameters (dim,)."""
        log_scale = floored(self.log_scale) if self.learned else self.log_scale
        return self.family(torch.zeros_like(log_scale), log_scale.exp())
