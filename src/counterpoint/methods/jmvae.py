"""JMVAE: a joint encoder, and unimodal encoders drawn to it (Suzuki et al. 2016,
https://arxiv.org/abs/1611.01891).

L = ELBO under q(z | X) + α Σ_m KL(q(z | X) ‖ q(z | x_m))
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, check_sizes
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.rules import Joint, JointEncoder, Product
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.matching import PosteriorMatch
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


class JMVAE(Method):
    """Args:
    modalities: one or more.
    shared_dim: D.
    beta: β on the KL to the prior.
    alpha: α on the KLs to the unimodal posteriors.
    networks: kind and sizes of the networks.
    denoiser: which modalities have a diffusion decoder, and of what kind.
    decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them
        elsewhere.
    """

    name = "jmvae"
    title = "JMVAE (2016), https://arxiv.org/abs/1611.01891"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        beta: float = 1.0,
        alpha: float = 0.1,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        check_sizes(modalities, shared_dim)
        if alpha < 0:
            raise ValueError(f"alpha={alpha} must not be negative")
        rule = Joint(
            JointEncoder(modalities, shared_dim, networks=networks), Product(prior_expert="never")
        )
        model = build(
            modalities,
            rule=rule,
            shared_dim=shared_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        super().__init__(
            model,
            Stage(
                [
                    (Bound(everything_to_everything, beta=beta), Ramp(1.0)),
                    (PosteriorMatch(alpha), Ramp(1.0)),
                ]
            ),
        )
