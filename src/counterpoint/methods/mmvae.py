"""MMVAE: a mixture of experts (Shi et al. 2019, https://arxiv.org/abs/1911.03393).

Every modality in turn is the source of z and reconstructs all modalities. log q(z) is
that of the mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import MixtureRule
from counterpoint.objectives.bound import Bound, Estimator, of_everything
from counterpoint.objectives.routes import singles_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class MMVAEOptions(CommonOptions):
    """Options of :class:`MMVAE`.

    >>> MMVAEOptions(samples=30).estimator
    'dreg'

    Args:
        beta: β, the weight of the KL.
        estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"``, with ``samples`` draws.
        samples: K.
        posterior: family of posteriors and priors: ``"laplace"``, as published, or
            ``"normal"``.
        prior_scale: learn the scale of p(z).
    """

    beta: float = 1.0
    estimator: Estimator = "dreg"
    samples: int = 10
    posterior: str = "laplace"
    prior_scale: bool = True


class MMVAE(Method):
    """A mixture of experts with shared latents only.

    Args:
        modalities: one or more.
        options: keywords, see :class:`MMVAEOptions`.

    >>> MMVAE([Modality("x", (5,)), Modality("y", (3,))], samples=5).options.samples
    5
    """

    name = "mmvae"
    title = "MMVAE (2019), https://arxiv.org/abs/1911.03393"

    @configured_by(MMVAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: MMVAEOptions) -> None:
        model = build(
            modalities,
            options,
            rule=MixtureRule(),
            posterior=options.posterior,
            prior_scale=options.prior_scale,
        )
        bound = Bound(
            singles_to_everything,
            estimator=options.estimator,
            samples=options.samples,
            beta=options.beta,
            density=of_everything,
        )
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
