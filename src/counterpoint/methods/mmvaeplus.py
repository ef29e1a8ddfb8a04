"""MMVAE+: a mixture of experts with private latents and learned auxiliary private priors
(Palumbo et al. 2023, https://openreview.net/forum?id=sdQGxouELX).

Every modality in turn is the source of z and reconstructs all modalities. Targets other
than the source take their private latent from the auxiliary prior, so that private
encoders cannot carry shared content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, mixture_bound
from counterpoint.methods.method import Method
from counterpoint.methods.options import MixtureOptions, configured_by
from counterpoint.model.rules import MixtureRule
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class MMVAEPlusOptions(MixtureOptions):
    """Options of :class:`MMVAEPlus`.

    >>> MMVAEPlusOptions(posterior="laplace").prior_scale
    False

    Args:
        posterior: family of posteriors and priors, ``"normal"`` or ``"laplace"``.
        prior_scale: learn the scale of p(z).
    """

    posterior: str = "normal"
    prior_scale: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.private_dim < 1:
            raise ValueError(
                f"mmvae+ needs private latents, got private_dim={self.private_dim}; give 1 or more, or use mmvae"
            )


class MMVAEPlus(Method):
    """A mixture of experts with private latents.

    Args:
        modalities: one or more.
        options: keywords, see :class:`MMVAEPlusOptions`.

    >>> MMVAEPlus([Modality("x", (5,)), Modality("y", (3,))], beta=1.0).options.beta
    1.0
    """

    name = "mmvae+"
    title = "MMVAE+ (2023), https://openreview.net/forum?id=sdQGxouELX"

    @configured_by(MMVAEPlusOptions)
    def __init__(self, modalities: Sequence[Modality], options: MMVAEPlusOptions) -> None:
        model = build(
            modalities,
            options,
            rule=MixtureRule(),
            private_dim=options.private_dim,
            posterior=options.posterior,
            towers=options.towers,
            prior_scale=options.prior_scale,
            auxiliary=True,
        )
        bound = mixture_bound(modalities, options)
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
