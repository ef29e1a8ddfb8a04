"""Diff-MVAE: diffusion decoders for images beside feed-forward ones, and a score model
as the prior (2024, https://arxiv.org/abs/2408.16883).

    L = Σ_{m feed-forward} −log p(x_m | z) + Σ_{m by diffusion} λ E_{t, ε} ‖ε − ε_θ(x_t, t, z)‖² + β KL,    z from a random subset's product

MoPoE's posterior and KL, trained end to end; then, with everything else frozen, a score
model of the aggregate posterior's means, which takes the place of N(0, I) where nothing
is given. What the decoders learn by is in :mod:`counterpoint.model.denoising`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.rules import MixtureOfProducts
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.afterwards import DiffusionPriorLoss
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


class DiffMVAE(Method):
    """See the module for the derivation.

    Args:
        modalities: one or more.
        shared_dim: D.
        private_dim: D_m of every modality; 0, the published method, for none.
        beta: β on the KLs.
        decoder: ``"diffusion"`` for the modalities that ``denoiser`` names, or for all
            images (of which there may be none) where it names none; ``"feed-forward"``
            for none.
        score: train a score model of the aggregate posterior in a stage of its own.
        score_width: width of its network.
        networks: kind and sizes of the other networks.
        denoiser: the kind of the diffusion decoders.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of
            them elsewhere.

    Raises:
        ValueError: an unknown decoder, or feed-forward ones beside names for diffusion.
    """

    name = "diff-mvae"
    title = "Diff-MVAE (2024), https://arxiv.org/abs/2408.16883"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        private_dim: int = 0,
        beta: float = 1.0,
        decoder: Literal["diffusion", "feed-forward"] = "diffusion",
        score: bool = True,
        score_width: int = 512,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        if decoder not in ("diffusion", "feed-forward"):
            raise ValueError(
                f"decoder={decoder!r} is unknown; choose 'diffusion' or 'feed-forward'"
            )
        if decoder == "feed-forward" and denoiser.modalities:
            raise ValueError(
                f"denoiser names {', '.join(denoiser.modalities)}, but decoder='feed-forward'; leave out one of them"
            )
        drawn = denoiser.modalities or tuple(m.name for m in modalities if len(m.shape) == 3)
        model = build(
            modalities,
            rule=MixtureOfProducts(),
            shared_dim=shared_dim,
            private_dim=private_dim,
            networks=networks,
            denoiser=replace(denoiser, modalities=drawn if decoder == "diffusion" else ()),
            decoder_rows=decoder_rows,
        )
        bound = Bound(everything_to_everything, beta=beta)
        if not score:
            super().__init__(model, Stage([(bound, Ramp(1.0))]))
            return
        model.add_samplers("score", score_width)
        super().__init__(
            model,
            Stage([(bound, Ramp(1.0))], name="vae", trains=[model.posterior, model.decoders]),
            Stage(
                [(DiffusionPriorLoss("score", detach=True), Ramp(1.0))],
                name="prior",
                trains=[model.samplers],
            ),
        )
