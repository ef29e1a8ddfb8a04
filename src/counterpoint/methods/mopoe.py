"""MoPoE-VAE: mixture of the products of all subsets (Sutter et al. 2021,
https://arxiv.org/abs/2105.02470).

One route: z is drawn from a random subset's product, row by row, and reconstructs
everything; the KL is the mean over the subsets'.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.rules import MixtureOfProducts
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


class MoPoE(Method):
    """Args:
    modalities: one or more.
    shared_dim: D.
    private_dim: D_m of every modality; 0, the published method, for none.
    beta: β on the KLs.
    networks: kind and sizes of the networks.
    denoiser: which modalities have a diffusion decoder, and of what kind.
    decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them
        elsewhere.
    """

    name = "mopoe"
    title = "MoPoE-VAE (2021), https://arxiv.org/abs/2105.02470"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        private_dim: int = 0,
        beta: float = 1.0,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        model = build(
            modalities,
            rule=MixtureOfProducts(),
            shared_dim=shared_dim,
            private_dim=private_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        super().__init__(model, Stage([(Bound(everything_to_everything, beta=beta), Ramp(1.0))]))
