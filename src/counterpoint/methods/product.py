"""Methods whose posterior is a product of experts.

MVAE     ELBOs of everything, of each single modality and of random subsets, summed; N(0, I) is an expert
         (Wu & Goodman 2018, https://arxiv.org/abs/1802.05335)
MVTCAE   ELBO of everything, without prior expert, and KL(q(z|X) ‖ q(z|x_m)) of every modality: a bound on total correlation
         (Hwang et al. 2021, https://proceedings.neurips.cc/paper/2021/hash/65a99bb7a3115fdede20da98b08a370f-Abstract.html)
DMVAE    private latents; ELBOs of everything and of each single modality to everything, each target with its own w. N(0, I) is an expert in the
         product of all modalities, and single posteriors are the encoders' own, as in the authors' code, which has two modalities; that
         products of some of several, and of a row that lacks one, go without it, is our choice
         (Lee & Pavlovic 2020, https://arxiv.org/abs/2012.13024)
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.rules import Product
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import Bound, from_encoder, sum_over_routes
from counterpoint.objectives.matching import PosteriorMatch
from counterpoint.objectives.routes import (
    RandomSubsets,
    everything_to_everything,
    singles_to_everything,
    singles_to_itself,
)
from counterpoint.objectives.stages import Ramp, Stage


class MVAE(Method):
    """Args:
    modalities: one or more.
    shared_dim: D.
    beta: β on the KL.
    subsets: random subsets at each step beside everything and the singles.
    networks: kind and sizes of the networks.
    denoiser: which modalities have a diffusion decoder, and of what kind.
    decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them
        elsewhere.
    """

    name = "mvae"
    title = "MVAE (2018), https://arxiv.org/abs/1802.05335"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        beta: float = 1.0,
        subsets: int = 1,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        if subsets < 0:
            raise ValueError(f"subsets={subsets} must be 0 or more")
        model = build(
            modalities,
            rule=Product(prior_expert="always"),
            shared_dim=shared_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        bound = Bound(
            everything_to_everything,
            singles_to_itself,
            RandomSubsets(subsets),
            beta=beta,
            shares=sum_over_routes,
        )
        super().__init__(model, Stage([(bound, Ramp(1.0))]))


class MVTCAE(Method):
    """With r the weight of total correlation (α in the paper), M modalities and
    everything's posterior q(z|X):

        L = (M−r)/M · Σ_m −log p(x_m|z) + β [ (1−r)·KL(q(z|X) ‖ p(z)) + (r/M)·Σ_m KL(q(z|X) ‖ q(z|x_m)) ]

    Args:
        modalities: one or more.
        shared_dim: D.
        beta: β on the KLs.
        ratio: r in [0, 1]. Of one modality the loss is 1 − r times the ELBO.
        networks: kind and sizes of the networks.
        denoiser: which modalities have a diffusion decoder, and of what kind.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of
            them elsewhere.
    """

    name = "mvtcae"
    title = "MVTCAE (2021), https://proceedings.neurips.cc/paper/2021/hash/65a99bb7a3115fdede20da98b08a370f-Abstract.html"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        beta: float = 2.5,
        ratio: float = 5 / 6,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ValueError(f"ratio={ratio} must lie in [0, 1]")
        size = len(modalities)
        if size == 1 and ratio == 1:
            raise ValueError(
                "ratio=1 gives a single modality no loss at all; give a ratio below 1, or two or more modalities"
            )
        model = build(
            modalities,
            rule=Product(prior_expert="never"),
            shared_dim=shared_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        reconstruction = (size - ratio) / size
        bound = Bound(everything_to_everything, beta=beta * (1 - ratio) / reconstruction)
        super().__init__(
            model,
            Stage(
                [(bound, Ramp(reconstruction)), (PosteriorMatch(beta * ratio / size), Ramp(1.0))]
            ),
        )


class DMVAE(Method):
    """Args:
    modalities: one or more.
    shared_dim: D.
    private_dim: D_m of every modality.
    beta: β on the KLs.
    networks: kind and sizes of the networks.
    denoiser: which modalities have a diffusion decoder, and of what kind.
    decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them
        elsewhere.
    """

    name = "dmvae"
    title = "DMVAE (2020), https://arxiv.org/abs/2012.13024"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        private_dim: int = 32,
        beta: float = 1.0,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        model = build(
            modalities,
            rule=Product(prior_expert="complete"),
            shared_dim=shared_dim,
            private_dim=private_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        bound = Bound(
            everything_to_everything,
            singles_to_everything,
            beta=beta,
            cross_private=from_encoder,
            shares=sum_over_routes,
        )
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
