"""MoPoE-VAE: a mixture of the products of all subsets (Sutter et al. 2021,
https://arxiv.org/abs/2105.02470).

There is one route. For each row z is drawn from the product of a random subset and
reconstructs everything. The KL is the mean over the subsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import MoPoERule
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class MoPoEOptions(CommonOptions):
    """Options of :class:`MoPoE`.

    >>> MoPoEOptions(beta=2.0).private_dim
    0

    Args:
        private_dim: D_m of every modality. 0, as published, means no private latents.
        beta: β, the weight of the KLs.
    """

    private_dim: int = 0
    beta: float = 1.0


class MoPoE(Method):
    """A mixture of the products of all subsets of the experts.

    Args:
        modalities: one or more.
        options: keywords, see :class:`MoPoEOptions`.

    >>> MoPoE([Modality("x", (5,)), Modality("y", (3,))], shared_dim=4).model.shared_dim
    4
    """

    name = "mopoe"
    title = "MoPoE-VAE (2021), https://arxiv.org/abs/2105.02470"

    @configured_by(MoPoEOptions)
    def __init__(self, modalities: Sequence[Modality], options: MoPoEOptions) -> None:
        model = build(modalities, options, rule=MoPoERule(), private_dim=options.private_dim)
        bound = Bound(everything_to_everything, beta=options.beta)
        super().__init__(model, Stage([(bound, Ramp(1.0))]))
