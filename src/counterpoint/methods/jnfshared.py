"""JNF-Shared: JNF whose flows see only what a modality shares with the others (2025,
https://arxiv.org/abs/2502.03952).

    stage shared   projectors g_m that agree on what modalities share, by contrast or by canonical correlation
    stage joint    as in :mod:`counterpoint.methods.jnf`
    stage flows    L = Σ_m −log q_m(z | g_m(x_m)), projectors frozen too
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, check_modalities
from counterpoint.methods.jnf import JNFOptions, joint_rule, joint_stage
from counterpoint.methods.method import Method
from counterpoint.methods.options import configured_by
from counterpoint.model.encoders import FlowEncoder, Projector
from counterpoint.nn.mlp import mlp
from counterpoint.objectives.contrast import ProjectionContrast, ProjectionCorrelation
from counterpoint.objectives.matching import PosteriorFit
from counterpoint.objectives.stages import Ramp, Stage


@dataclass(frozen=True, kw_only=True)
class JNFSharedOptions(JNFOptions):
    """Options of :class:`JNFShared`.

    >>> JNFSharedOptions(projection_dim=8).align
    'contrast'

    Args:
        projection_dim: dimensions of g_m(x_m). The paper leaves them open; 32 is our
            choice.
        align: how projectors are trained, by ``"contrast"`` or by ``"correlation"``
            (DCCA).
        temperature: τ of the contrast.
        top: number of canonical correlations that count; None for all.
    """

    projection_dim: int = 32
    align: Literal["contrast", "correlation"] = "contrast"
    temperature: float = 0.1
    top: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.projection_dim < 1:
            raise ValueError(f"projection_dim={self.projection_dim} must be 1 or more")


class JNFShared(Method):
    """JNF whose flows read projections of the modalities.

    Args:
        modalities: two or more; their weights are r_m.
        options: keywords, see :class:`JNFSharedOptions`.

    >>> [stage.name for stage in JNFShared([Modality("x", (5,)), Modality("y", (3,))]).stages]
    ['shared', 'joint', 'flows']
    """

    name = "jnf-shared"
    title = "JNF-Shared (2025), https://arxiv.org/abs/2502.03952"

    @configured_by(JNFSharedOptions)
    def __init__(self, modalities: Sequence[Modality], options: JNFSharedOptions) -> None:
        check_modalities(modalities)
        if len(modalities) == 1:
            raise ValueError("jnf-shared aligns modalities, so it needs two or more, got 1")
        size = options.projection_dim
        width = options.networks.dense
        projectors = {m.name: Projector(m, size, networks=options.networks) for m in modalities}
        encoders = {
            name: FlowEncoder(
                mlp((size, width, width)), width, options.shared_dim, options.flow, projector
            )
            for name, projector in projectors.items()
        }
        rule = joint_rule(modalities, options)
        model = build(modalities, options, encoders=encoders, rule=rule)
        loss = (
            ProjectionContrast(temperature=options.temperature)
            if options.align == "contrast"
            else ProjectionCorrelation(top=options.top)
        )
        heads = []
        for encoder in encoders.values():
            for part in encoder.after_projection:
                heads.append(part)
        super().__init__(
            model,
            Stage([(loss, Ramp(1.0))], name="shared", trains=[*projectors.values()]),
            joint_stage(model, rule, options),
            Stage([(PosteriorFit(), Ramp(1.0))], name="flows", trains=heads),
        )
