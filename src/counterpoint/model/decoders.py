"""Decoders: from latents and covariates to the raw outputs that a likelihood reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from counterpoint.core.latents import Latents
from counterpoint.model.denoising import Denoising
from counterpoint.model.likelihood import Likelihood
from counterpoint.nn.running import MeanImputer, RunningMoments


@dataclass(frozen=True)
class Draw:
    """Latents, and the modalities to decode them to.

    Attributes:
        latents: shared (K, B, D), private (K, B, D_m) of each target that has one.
        targets: the modalities to decode.

    >>> from counterpoint.core.latents import Latents
    >>> Draw(Latents(torch.zeros(1, 5, 2)), ("x",))
    Draw(latents=Latents(z (1, 5, 2)), targets=('x',))
    """

    latents: Latents
    targets: tuple[str, ...]


class Decoder(nn.Module):
    """p(x_m | z, w_m, c): a network from [z, w_m, c] to raw outputs, and the likelihood
    that reads them.

    >>> from counterpoint.core.modality import Modality
    >>> from counterpoint.model.likelihoods import LIKELIHOODS
    >>> network = nn.Linear(2, 3)
    >>> decoder = Decoder(network, LIKELIHOODS["normal"](Modality("x", (3,), "normal")))
    >>> decoder(torch.zeros(7, 2)).shape
    torch.Size([7, 3])

    Args:
        network: (N, D + D_m + C) to raw outputs (N, *output_shape).
        likelihood: reads the raw outputs.
        covariates: C; 0 for none.

    Attributes:
        mean_covariates: running mean of the covariates of the training rows that have
            the modality, used where covariates are unknown; None for C = 0.
        filler: imputes missing entries before encoders read them; None for a modality
            without gaps.
        scale_seen: mean and standard deviation of the training values, (2,); zeros
            before any are remembered.
    """

    scale_seen: Tensor

    def __init__(self, network: nn.Module, likelihood: Likelihood, covariates: int = 0) -> None:
        super().__init__()
        self.network = network
        self.likelihood = likelihood
        self.mean_covariates = RunningMoments(covariates) if covariates else None
        self.filler = MeanImputer(likelihood.shape) if likelihood.gaps else None
        self.register_buffer("scale_seen", torch.zeros(2))

    def forward(self, u: Tensor) -> Tensor:
        """Raw outputs (N, *output_shape) of latents and covariates (N, D + D_m + C)."""
        return self.network(u)

    def denoised(self, denoising: Denoising) -> Decoder:
        """A diffusion decoder of the same modality.

        With ``condition="concat"`` it reads a draft, which this decoder's network
        draws without learning any more.

        Raises:
            ValueError: ``concat``, and this decoder has no feed-forward network.
        """
        decoder = Decoder(nn.Identity(), denoising)
        decoder.mean_covariates = self.mean_covariates
        decoder.scale_seen = self.scale_seen
        if denoising.coarse is None:
            return decoder
        own = self.likelihood
        draft = own.coarse if isinstance(own, Denoising) else own
        if draft is None:
            raise ValueError(
                "condition='concat' reads what a feed-forward decoder draws, and this decoder is none; take 'embed' or 'film'"
            )
        denoising.coarse = draft
        denoising.draft_learns = False
        decoder.network = self.network
        return decoder
