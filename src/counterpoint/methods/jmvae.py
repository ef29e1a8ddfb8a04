"""JMVAE: a joint encoder, and unimodal encoders that are matched to it (Suzuki et al.
2016, https://arxiv.org/abs/1611.01891).

    L = −ELBO under q(z | X) + α Σ_m KL(q(z | X) ‖ q(z | x_m))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, check_modalities
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.rules import JointEncoder, JointRule, ProductRule
from counterpoint.objectives.bound import Bound
from counterpoint.objectives.matching import PosteriorMatch
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class JMVAEOptions(CommonOptions):
    """Options of :class:`JMVAE`.

    >>> JMVAEOptions(beta=2.0).alpha
    0.1

    Args:
        beta: β, the weight of the KL to the prior.
        alpha: α, the weight of the KLs to the unimodal posteriors.
    """

    beta: float = 1.0
    alpha: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.not_negative("alpha")


class JMVAE(Method):
    """A joint encoder, with unimodal encoders for subsets.

    Args:
        modalities: one or more.
        options: keywords, see :class:`JMVAEOptions`.

    >>> JMVAE([Modality("x", (5,)), Modality("y", (3,))], alpha=0.5).options.alpha
    0.5
    """

    name = "jmvae"
    title = "JMVAE (2016), https://arxiv.org/abs/1611.01891"

    @configured_by(JMVAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: JMVAEOptions) -> None:
        check_modalities(modalities)
        joint = JointEncoder(modalities, options.shared_dim, networks=options.networks)
        model = build(modalities, options, rule=JointRule(joint, ProductRule(prior_expert="never")))
        bound = Bound(everything_to_everything, beta=options.beta)
        match = PosteriorMatch(options.alpha)
        super().__init__(model, Stage([(bound, Ramp(1.0)), (match, Ramp(1.0))]))
