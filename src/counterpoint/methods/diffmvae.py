"""Diff-MVAE: diffusion decoders for images beside feed-forward ones, and a score model
as the prior (2024, https://arxiv.org/abs/2408.16883).

    L = Σ_{m feed-forward} −log p(x_m | z) + Σ_{m by diffusion} λ E_{t, ε} ‖ε − ε_θ(x_t, t, z)‖² + β KL,    z from a random subset's product

Posterior and KL are those of MoPoE, trained end to end. A second stage freezes them and
trains a score model of the posterior means; generation draws from it in place of
N(0, I). The diffusion decoders are in :mod:`counterpoint.model.denoising`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import MoPoERule
from counterpoint.objectives.afterwards import DiffusionPriorLoss
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class DiffMVAEOptions(CommonOptions):
    """Options of :class:`DiffMVAE`.

    >>> DiffMVAEOptions(private_dim=8).decoder
    'diffusion'

    Args:
        private_dim: D_m of every modality. 0, as published, means no private latents.
        beta: β, the weight of the KLs.
        decoder: ``"diffusion"`` for the modalities that ``denoiser`` names, and for all
            images where it names none; ``"feed-forward"`` for no modality.
        score: train a score model of the posterior means in a second stage.
        score_width: width of its network.
    """

    private_dim: int = 0
    beta: float = 1.0
    decoder: Literal["diffusion", "feed-forward"] = "diffusion"
    score: bool = True
    score_width: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder == "feed-forward" and self.denoiser.modalities:
            raise ValueError(
                f"denoiser names {', '.join(self.denoiser.modalities)}, but decoder='feed-forward'; leave out one of them"
            )


class DiffMVAE(Method):
    """MoPoE with diffusion decoders and a score model as the prior.

    Args:
        modalities: one or more.
        options: keywords, see :class:`DiffMVAEOptions`.

    >>> DiffMVAE([Modality("x", (5,)), Modality("y", (3,))]).priors
    ('standard', 'score')
    """

    name = "diff-mvae"
    title = "Diff-MVAE (2024), https://arxiv.org/abs/2408.16883"

    @configured_by(DiffMVAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: DiffMVAEOptions) -> None:
        images = tuple(m.name for m in modalities if len(m.shape) == 3)
        drawn = options.denoiser.modalities or images if options.decoder == "diffusion" else ()
        model = build(
            modalities,
            options,
            rule=MoPoERule(),
            private_dim=options.private_dim,
            denoiser=replace(options.denoiser, modalities=drawn),
        )
        losses = [(Bound(everything_to_everything, beta=options.beta), Ramp(1.0))]
        if not options.score:
            super().__init__(model, Stage(losses))
            return
        model.add_fitted_priors("score", options.score_width)
        score = DiffusionPriorLoss("score", detach=True)
        super().__init__(
            model,
            Stage(losses, name="vae", trains=[model.posterior, model.decoders]),
            Stage([(score, Ramp(1.0))], name="prior", trains=[model.fitted_priors]),
        )
