"""Options of IDMVAE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from counterpoint.methods.options import MixtureOptions


@dataclass(frozen=True, kw_only=True)
class IDMVAEOptions(MixtureOptions):
    """Options of :class:`~counterpoint.methods.idmvae.IDMVAE`.

    Args:
        cross_mi: λ1, the weight of CrossMI; 0 leaves it out.
        genaug: λ2, the weight of GenAug; 0 leaves it out.
        prior_std: standard deviation of p(z) and every p(w_m), in the bound and in
            samples; the auxiliary priors start there. The authors' code has
            softplus(0) = ln 2; 1 is the usual alternative.
        diffusion: λ_diff, the weight of the diffusion priors; 0 trains none
            (``fit_prior`` fits them afterwards).
        diffusion_width: width of their denoisers.
        detach_diffusion: keep the gradient of their loss out of the encoders.
        partner: where GenAug takes its partners from.
        match: GenAug's match, ``"contrast"`` or ``"l2"``.
        temperature: τ of both contrasts.
        contrast_first: first steps, by CrossMI alone.
        augment_after: steps that follow without GenAug.
        augment_warmup: steps over which GenAug's weight then rises.

    >>> IDMVAEOptions(genaug=0.0).cross_mi
    80.0
    """

    private_dim: int = 128
    cross_mi: float = 80.0
    genaug: float = 20.0
    prior_std: float = math.log(2)
    diffusion: float = 1.0
    diffusion_width: int = 512
    detach_diffusion: bool = False
    partner: Literal["posterior", "prior", "diffusion"] = "posterior"
    match: Literal["contrast", "l2"] = "contrast"
    temperature: float = 1.0
    contrast_first: int = 0
    augment_after: int = 0
    augment_warmup: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.private_dim < 1:
            raise ValueError(
                f"idmvae needs private latents, got private_dim={self.private_dim}; give 1 or more"
            )
        self.not_negative("cross_mi", "genaug", "diffusion")
        self.not_negative("contrast_first", "augment_after", "augment_warmup")
        if not 0 < self.prior_std < math.inf:
            raise ValueError(
                f"prior_std={self.prior_std} must be positive and finite, such as 0.693 or 1"
            )
        if self.contrast_first and not self.cross_mi:
            raise ValueError("contrast_first trains by CrossMI alone, so it needs cross_mi > 0")
        if self.partner == "diffusion" and not self.diffusion:
            raise ValueError("partner='diffusion' needs the diffusion priors; give diffusion > 0")
