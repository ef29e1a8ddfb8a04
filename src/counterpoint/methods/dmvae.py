"""DMVAE: a product of experts with private latents (Lee & Pavlovic 2020,
https://arxiv.org/abs/2012.13024).

The loss sums the ELBOs from everything and from each single modality to everything;
each target has its own w. As in the authors' code, which has two modalities, N(0, I) is
an expert in the product of all modalities, and unimodal posteriors are the encoders'
own. Our choice: products of some of several modalities, and of a row that lacks one,
go without that expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import ProductRule
from counterpoint.objectives.bound import Bound, from_encoder, sum_over_routes
from counterpoint.objectives.routes import everything_to_everything, singles_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class DMVAEOptions(CommonOptions):
    """Options of :class:`DMVAE`.

    >>> DMVAEOptions(private_dim=8).beta
    1.0

    Args:
        private_dim: D_m of every modality.
        beta: β, the weight of the KLs.
    """

    private_dim: int = 32
    beta: float = 1.0


class DMVAE(Method):
    """A product of experts with private latents.

    Args:
        modalities: one or more.
        options: keywords, see :class:`DMVAEOptions`.

    >>> DMVAE([Modality("x", (5,)), Modality("y", (3,))], private_dim=2).model.private_dims
    {'x': 2, 'y': 2}
    """

    name = "dmvae"
    title = "DMVAE (2020), https://arxiv.org/abs/2012.13024"

    @configured_by(DMVAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: DMVAEOptions) -> None:
        model = build(
            modalities,
            options,
            rule=ProductRule(prior_expert="complete"),
            private_dim=options.private_dim,
        )
        routes = everything_to_everything, singles_to_everything
        bound = Bound(
            *routes, beta=options.beta, cross_private=from_encoder, shares=sum_over_routes
        )
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
