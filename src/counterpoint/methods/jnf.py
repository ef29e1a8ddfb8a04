"""JNF: a joint VAE first, then a normalizing flow for each unimodal posterior (JNF
2025, https://arxiv.org/abs/2502.03952).

    stage shared   (JNF-Shared) projectors g_m that agree on what modalities share, by contrast or by canonical correlation
    stage joint    L = Σ_m −r_m log p(x_m | z) + β KL(q(z | X) ‖ N(0, I)),  z ~ q(z | X)
    stage flows    L = Σ_m −log q_m(z | x_m),  z ~ q(z | X), joint encoder and decoders frozen;
                   JNF-Shared: q_m(z | g_m(x_m)), projectors frozen too

r_m is the modality's weight. One modality is conditioned on through its flow; several,
but not all, through the product that independence given z implies, q(z | x_S) ∝
p(z)^(1−|S|) ∏ q_m(z | x_m), sampled by Hamiltonian Monte Carlo; all of them through the
joint encoder.

The paper supposes complete data. Ours: the joint encoder reads a learned vector in the
place of an absent modality's features, so that incomplete rows train both stages; at
inference rows that lack a modality take the product of what they have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, check_sizes
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.encoders import FlowEncoder, Projector
from counterpoint.model.model import Model
from counterpoint.model.rules import Joint, JointEncoder, PosteriorProduct
from counterpoint.nn.build import trunk
from counterpoint.nn.mlp import mlp
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.bound import Bound, by_joint_encoder
from counterpoint.objectives.contrast import ProjectionContrast, ProjectionCorrelation
from counterpoint.objectives.matching import PosteriorFit
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage
from counterpoint.probability.flows import FlowOptions
from counterpoint.probability.mcmc import HMC


class JNF(Method):
    """See the module for the derivation.

    Args:
        modalities: one or more; their weights are r_m.
        shared_dim: D.
        beta: β on the KL to the prior.
        rescale: multiply r_m by the size of the largest modality over that of m.
        flow: kind and sizes of the unimodal posteriors' flows.
        hmc: how products are sampled.
        networks: kind and sizes of the networks.
        denoiser: which modalities have a diffusion decoder, and of what kind.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of
            them elsewhere.
    """

    name = "jnf"
    title = "JNF (2025), https://arxiv.org/abs/2502.03952"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        beta: float = 1.0,
        rescale: bool = False,
        flow: FlowOptions = FlowOptions(),
        hmc: HMC = HMC(),
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        check_sizes(modalities, shared_dim)
        trunks = {m.name: trunk(m, networks) for m in modalities}
        encoders = {
            name: FlowEncoder(network, network.features, shared_dim, flow)
            for name, network in trunks.items()
        }
        rule = Joint(
            JointEncoder(modalities, shared_dim, networks=networks, tokens=True),
            PosteriorProduct(hmc),
        )
        model = build(
            modalities,
            encoders=encoders,
            rule=rule,
            shared_dim=shared_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        super().__init__(
            model,
            joint_stage(model, rule, beta, rescale),
            Stage([(PosteriorFit(), Ramp(1.0))], name="flows", trains=[model.posterior.encoders]),
        )


class JNFShared(Method):
    """JNF whose flows see of each modality only what it shares with the others.

    Args:
        modalities: two or more; their weights are r_m.
        shared_dim: D.
        projection_dim: dimensions of g_m(x_m). The paper does not say how many; 32 is
            ours.
        align: how projectors are trained, by ``"contrast"`` or by ``"correlation"``
            (DCCA).
        temperature: τ of the contrast.
        top: canonical correlations that count; None for all.
        beta: β on the KL to the prior.
        rescale: multiply r_m by the size of the largest modality over that of m.
        flow: kind and sizes of the unimodal posteriors' flows.
        hmc: how products are sampled.
        networks: kind and sizes of the networks.
        denoiser: which modalities have a diffusion decoder, and of what kind.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of
            them elsewhere.

    Raises:
        ValueError: one modality, or a size below 1.
    """

    name = "jnf-shared"
    title = "JNF-Shared (2025), https://arxiv.org/abs/2502.03952"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        projection_dim: int = 32,
        align: Literal["contrast", "correlation"] = "contrast",
        temperature: float = 0.1,
        top: int | None = None,
        beta: float = 1.0,
        rescale: bool = False,
        flow: FlowOptions = FlowOptions(),
        hmc: HMC = HMC(),
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        check_sizes(modalities, shared_dim)
        if len(modalities) == 1:
            raise ValueError("jnf-shared aligns modalities, so it needs two or more, got 1")
        if projection_dim < 1:
            raise ValueError(f"projection_dim={projection_dim} must be 1 or more")
        if align not in ("contrast", "correlation"):
            raise ValueError(f"align={align!r} is unknown; choose 'contrast' or 'correlation'")
        width = networks.dense
        projectors = {m.name: Projector(m, projection_dim, networks=networks) for m in modalities}
        encoders = {
            n: FlowEncoder(mlp((projection_dim, width, width)), width, shared_dim, flow, g)
            for n, g in projectors.items()
        }
        rule = Joint(
            JointEncoder(modalities, shared_dim, networks=networks, tokens=True),
            PosteriorProduct(hmc),
        )
        model = build(
            modalities,
            encoders=encoders,
            rule=rule,
            shared_dim=shared_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        loss = (
            ProjectionContrast(temperature=temperature)
            if align == "contrast"
            else ProjectionCorrelation(top=top)
        )
        heads = [
            part
            for encoder in encoders.values()
            for part in (encoder.network, encoder.head, encoder.flow, encoder.statistics)
            if part
        ]
        super().__init__(
            model,
            Stage([(loss, Ramp(1.0))], name="shared", trains=[*projectors.values()]),
            joint_stage(model, rule, beta, rescale),
            Stage([(PosteriorFit(), Ramp(1.0))], name="flows", trains=heads),
        )


def joint_stage(model: Model, rule: Joint, beta: float, rescale: bool) -> Stage:
    """The stage that trains the joint encoder and the decoders."""
    bound = Bound(everything_to_everything, beta=beta, condition=by_joint_encoder, rescale=rescale)
    return Stage([(bound, Ramp(1.0))], name="joint", trains=[rule.encoder, model.decoders])
