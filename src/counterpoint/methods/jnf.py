"""JNF: a joint VAE first, then a normalizing flow for each unimodal posterior (Senellart & Allassonnière 2025, https://arxiv.org/abs/2502.03952).

    stage joint    L = Σ_m −r_m log p(x_m | z) + β KL(q(z | X) ‖ N(0, I)),  z ~ q(z | X)
    stage flows    L = Σ_m −log q_m(z | x_m),  z ~ q(z | X), joint encoder and decoders frozen

r_m is the modality's weight. One modality is conditioned on through its flow; several, but not all, through the product that independence
given z implies, q(z | x_S) ∝ p(z)^(1−|S|) ∏ q_m(z | x_m), sampled by Hamiltonian Monte Carlo; all of them through the joint encoder.

The paper supposes complete data. Ours: the joint encoder reads a learned vector in the place of an absent modality's features, so that
incomplete rows train both stages; at inference rows that lack a modality take the product of what they have.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.encoders import FlowEncoder
from counterpoint.flows import FlowOptions
from counterpoint.mcmc import HMC
from counterpoint.methods.base import Method, Ramp, Stage, build, check_sizes
from counterpoint.nn import NetworkOptions, trunk
from counterpoint.objectives import Bound, PosteriorFit, everything_to_everything
from counterpoint.posteriors import Joint, JointEncoder, PosteriorProduct
from counterpoint.types import Modality


class JNF(Method):
    """See the module for the derivation.

    Args:
        modalities: one or more; their weights are r_m.
        shared_dim: D.
        beta: β on the KL to the prior.
        flow: kind and sizes of the unimodal posteriors' flows.
        hmc: how products are sampled.
        networks: kind and sizes of the networks.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of them elsewhere.
    """

    name = "jnf"
    title = "JNF (2025), https://arxiv.org/abs/2502.03952"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        beta: float = 1.0,
        flow: FlowOptions = FlowOptions(),
        hmc: HMC = HMC(),
        networks: NetworkOptions = NetworkOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        check_sizes(modalities, shared_dim)
        trunks = {m.name: trunk(m, networks) for m in modalities}
        encoders = {name: FlowEncoder(network, network.features, shared_dim, flow) for name, network in trunks.items()}
        rule = Joint(JointEncoder(modalities, shared_dim, networks=networks, tokens=True), PosteriorProduct(hmc))
        model = build(modalities, encoders=encoders, rule=rule, shared_dim=shared_dim, networks=networks, decoder_rows=decoder_rows)
        bound = Bound(everything_to_everything, beta=beta, posterior="joint")
        super().__init__(
            model,
            Stage([(bound, Ramp(1.0))], name="joint", trains=[rule.encoder, model.decoders]),
            Stage([(PosteriorFit(), Ramp(1.0))], name="flows", trains=[model.posterior.encoders]),
        )
