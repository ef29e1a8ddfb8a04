"""Decoders: from latents and covariates to the raw outputs that a likelihood reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from counterpoint.core.latents import Latents
from counterpoint.model.denoising import Denoising
from counterpoint.model.likelihoods import Likelihood
from counterpoint.nn.running import MeanImputer, RunningMoments


@dataclass(frozen=True)
class Draw:
    """Latents to be decoded to some modalities.

    Attributes:
        latents: shared (K, B, D), private (K, B, D_m) of each target that has one.
        targets: the modalities to decode.
    """

    latents: Latents
    targets: tuple[str, ...]


class Decoder(nn.Module):
    """p(x_m | z, w_m, c): a network from [z, w_m, c] to raw outputs and the likelihood
    that reads them.

    Args:
        covariates: C; 0 for none.

    Attributes:
        mean_covariates: average of the covariates of the training rows that have the modality,
            which stands for those that nobody knows; None for none.
        filler: what encoders read in the place of entries that are missing; None where
            the modality has no gaps.
        scale_seen: mean and standard deviation of the training values, (2,); zeros
            where nobody has remembered any.
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
        """The same modality's decoder by diffusion; where that reads a draft, this
        one's network draws it, and is to stay as it is.

        Raises:
            ValueError: there is nothing to draw the draft.
        """
        made = Decoder(nn.Identity(), denoising)
        made.mean_covariates, made.scale_seen = self.mean_covariates, self.scale_seen
        if denoising.coarse is not None:
            drawn = (
                self.likelihood.coarse
                if isinstance(self.likelihood, Denoising)
                else self.likelihood
            )
            if drawn is None:
                raise ValueError(
                    "condition='concat' reads what a feed-forward decoder draws, and this decoder is none; take 'embed' or 'film'"
                )
            denoising.coarse, denoising.draft_learns, made.network = drawn, False, self.network
        return made
