"""MMVAE: mixture-of-experts posterior (Shi et al. 2019,
https://arxiv.org/abs/1911.03393), and MMVAE+, which adds private latents and learned
auxiliary private priors (Palumbo et al. 2023,
https://openreview.net/forum?id=sdQGxouELX).

Every modality in turn is the source of z and reconstructs all modalities; log q(z) is
that of the mixture. In MMVAE+ the targets other than the source take their private
latent from the auxiliary prior, so that the private encoders get no short cut.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, singles
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.encoders import Towers
from counterpoint.model.rules import Mixture
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import Bound, Estimator, of_everything
from counterpoint.objectives.routes import singles_to_everything
from counterpoint.objectives.stages import Ramp, Stage


class MMVAE(Method):
    """Args:
    modalities: one or more.
    shared_dim: D.
    beta: β on the KL.
    estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"`` with ``samples`` draws.
    samples: K.
    posterior: family of posterior and prior, ``"laplace"`` in the paper.
    prior_scale: learn the scale of p(z).
    networks: kind and sizes of the networks.
    denoiser: which modalities have a diffusion decoder, and of what kind.
    decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them
        elsewhere.
    """

    name = "mmvae"
    title = "MMVAE (2019), https://arxiv.org/abs/1911.03393"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        beta: float = 1.0,
        estimator: Estimator = "dreg",
        samples: int = 10,
        posterior: str = "laplace",
        prior_scale: bool = True,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        model = build(
            modalities,
            rule=Mixture(),
            shared_dim=shared_dim,
            networks=networks,
            posterior=posterior,
            prior_scale=prior_scale,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        bound = Bound(
            singles_to_everything,
            estimator=estimator,
            samples=samples,
            beta=beta,
            density=of_everything,
        )
        super().__init__(model, Stage([(bound, Ramp(1.0))]))


class MMVAEPlus(Method):
    """Args:
    modalities: one or more.
    shared_dim: D.
    private_dim: D_m of every modality.
    beta: β on the KLs.
    estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"`` with ``samples`` draws.
    samples: K.
    cross_targets: decode so many random other modalities for each source instead of all
        (unbiased at K = 1).
    posterior: family of posteriors and priors.
    prior_scale: learn the scale of p(z).
    towers: separate or shared encoder trunks.
    networks: kind and sizes of the networks.
    denoiser: which modalities have a diffusion decoder, and of what kind.
    decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them
        elsewhere.
    """

    name = "mmvae+"
    title = "MMVAE+ (2023), https://openreview.net/forum?id=sdQGxouELX"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        private_dim: int = 32,
        beta: float = 2.5,
        estimator: Estimator = "elbo",
        samples: int = 1,
        cross_targets: int | None = None,
        posterior: str = "normal",
        prior_scale: bool = False,
        towers: Towers = "separate",
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        if private_dim < 1:
            raise ValueError(
                f"mmvae+ needs private latents, got private_dim={private_dim}; give 1 or more, or use mmvae"
            )
        model = build(
            modalities,
            rule=Mixture(),
            shared_dim=shared_dim,
            private_dim=private_dim,
            networks=networks,
            posterior=posterior,
            towers=towers,
            prior_scale=prior_scale,
            auxiliary=True,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        bound = Bound(
            singles(modalities, cross_targets),
            estimator=estimator,
            samples=samples,
            beta=beta,
            density=of_everything,
        )
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
