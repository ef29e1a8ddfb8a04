"""MVAE: a product of experts, of which N(0, I) is one (Wu & Goodman 2018,
https://arxiv.org/abs/1802.05335).

The loss sums the ELBOs given everything, given each single modality, and given random
subsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import ProductRule
from counterpoint.objectives.bound import Bound, sum_over_routes
from counterpoint.objectives.routes import (
    RandomSubsets,
    everything_to_everything,
    singles_to_itself,
)
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class MVAEOptions(CommonOptions):
    """Options of :class:`MVAE`.

    >>> MVAEOptions(subsets=3).beta
    1.0

    Args:
        beta: β, the weight of the KL.
        subsets: number of random subsets at each step.
    """

    beta: float = 1.0
    subsets: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.subsets < 0:
            raise ValueError(f"subsets={self.subsets} must be 0 or more")


class MVAE(Method):
    """A product of experts with shared latents only.

    Args:
        modalities: one or more.
        options: keywords, see :class:`MVAEOptions`.

    >>> MVAE([Modality("x", (5,)), Modality("y", (3,))], shared_dim=4).model.shared_dim
    4
    """

    name = "mvae"
    title = "MVAE (2018), https://arxiv.org/abs/1802.05335"

    @configured_by(MVAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: MVAEOptions) -> None:
        model = build(modalities, options, rule=ProductRule(prior_expert="always"))
        routes = everything_to_everything, singles_to_itself, RandomSubsets(options.subsets)
        bound = Bound(*routes, beta=options.beta, shares=sum_over_routes)
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
