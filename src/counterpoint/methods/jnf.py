"""JNF: a joint VAE first, then a normalizing flow for each unimodal posterior (2025,
https://arxiv.org/abs/2502.03952).

    stage joint    L = Σ_m −r_m log p(x_m | z) + β KL(q(z | X) ‖ N(0, I)),  z ~ q(z | X)
    stage flows    L = Σ_m −log q_m(z | x_m),  z ~ q(z | X), joint encoder and decoders frozen

r_m is the modality's weight. One given modality takes its flow, all take the joint
encoder. Some of several take the product that independence given z implies,
q(z | x_S) ∝ p(z)^(1−|S|) ∏ q_m(z | x_m), sampled by Hamiltonian Monte Carlo.

The paper assumes complete data. Our choice: the joint encoder reads a learned vector in
place of an absent modality's features, so that incomplete rows train both stages; at
inference rows that lack a modality take the product of what they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, check_modalities
from counterpoint.methods.method import Method
from counterpoint.methods.options import CommonOptions, configured_by
from counterpoint.model.encoders import FlowEncoder
from counterpoint.model.model import Model
from counterpoint.model.rules import BayesRule, JointEncoder, JointRule
from counterpoint.nn.build import trunk
from counterpoint.objectives.bound import Bound, by_joint_encoder
from counterpoint.objectives.matching import PosteriorFit
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage
from counterpoint.probability.flows import FlowOptions
from counterpoint.probability.mcmc import HMC


@dataclass(frozen=True, kw_only=True)
class JNFOptions(CommonOptions):
    """Options of :class:`JNF`.

    >>> from counterpoint import FlowOptions
    >>> JNFOptions(flow=FlowOptions(transforms=4)).flow.kind
    'maf'

    Args:
        beta: β, the weight of the KL to the prior.
        rescale: multiply r_m by the size of the largest modality over that of m.
        flow: kind and sizes of the flows of the unimodal posteriors.
        hmc: how products are sampled.
    """

    beta: float = 1.0
    rescale: bool = False
    flow: FlowOptions = FlowOptions()
    hmc: HMC = HMC()


class JNF(Method):
    """A joint VAE with a flow for each unimodal posterior.

    Args:
        modalities: one or more; their weights are r_m.
        options: keywords, see :class:`JNFOptions`.

    >>> [stage.name for stage in JNF([Modality("x", (5,)), Modality("y", (3,))]).stages]
    ['joint', 'flows']
    """

    name = "jnf"
    title = "JNF (2025), https://arxiv.org/abs/2502.03952"

    @configured_by(JNFOptions)
    def __init__(self, modalities: Sequence[Modality], options: JNFOptions) -> None:
        check_modalities(modalities)
        trunks = {m.name: trunk(m, options.networks) for m in modalities}
        encoders = {
            name: FlowEncoder(network, network.features, options.shared_dim, options.flow)
            for name, network in trunks.items()
        }
        rule = joint_rule(modalities, options)
        model = build(modalities, options, encoders=encoders, rule=rule)
        flows = Stage(
            [(PosteriorFit(), Ramp(1.0))], name="flows", trains=[model.posterior.encoders]
        )
        super().__init__(model, joint_stage(model, rule, options), flows)


def joint_rule(modalities: Sequence[Modality], options: JNFOptions) -> JointRule:
    """A joint encoder for everything, and products of the flows for subsets."""
    networks = options.networks
    joint = JointEncoder(modalities, options.shared_dim, networks=networks, tokens=True)
    return JointRule(joint, BayesRule(options.hmc))


def joint_stage(model: Model, rule: JointRule, options: JNFOptions) -> Stage:
    """The stage that trains the joint encoder and the decoders."""
    beta = options.beta
    rescale = options.rescale
    bound = Bound(everything_to_everything, beta=beta, condition=by_joint_encoder, rescale=rescale)
    return Stage([(bound, Ramp(1.0))], name="joint", trains=[rule.encoder, model.decoders])
