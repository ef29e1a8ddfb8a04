"""MVTCAE: a product of experts without prior expert, trained by a bound on total
correlation (Hwang et al. 2021,
https://proceedings.neurips.cc/paper/2021/hash/65a99bb7a3115fdede20da98b08a370f-Abstract.html).

With r the weight of total correlation (α in the paper), M modalities and q(z|X) the
posterior given everything:

    L = (M−r)/M · Σ_m −log p(x_m|z) + β [ (1−r)·KL(q(z|X) ‖ p(z)) + (r/M)·Σ_m KL(q(z|X) ‖ q(z|x_m)) ]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import ProductRule
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.matching import PosteriorMatch
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class MVTCAEOptions(CommonOptions):
    """Options of :class:`MVTCAE`.

    >>> MVTCAEOptions(ratio=0.5).beta
    2.5

    Args:
        beta: β, the weight of the KLs.
        ratio: r in [0, 1]. For one modality the loss is 1 − r times the ELBO.
    """

    beta: float = 2.5
    ratio: float = 5 / 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio={self.ratio} must lie in [0, 1]")


class MVTCAE(Method):
    """A product of experts whose unimodal posteriors are matched to it.

    Args:
        modalities: one or more.
        options: keywords, see :class:`MVTCAEOptions`.

    >>> MVTCAE([Modality("x", (5,)), Modality("y", (3,))], ratio=0.5).options.ratio
    0.5
    """

    name = "mvtcae"
    title = "MVTCAE (2021), https://proceedings.neurips.cc/paper/2021/hash/65a99bb7a3115fdede20da98b08a370f-Abstract.html"

    @configured_by(MVTCAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: MVTCAEOptions) -> None:
        beta = options.beta
        ratio = options.ratio
        size = len(modalities)
        if size == 1 and ratio == 1:
            raise ValueError(
                "ratio=1 gives a single modality no loss at all; give a ratio below 1, or two or more modalities"
            )
        model = build(modalities, options, rule=ProductRule(prior_expert="never"))
        reconstruction = (size - ratio) / size
        bound = Bound(everything_to_everything, beta=beta * (1 - ratio) / reconstruction)
        match = PosteriorMatch(beta * ratio / size)
        super().__init__(model, Stage([(bound, Ramp(reconstruction)), (match, Ramp(1.0))]))
