"""Multimodal iterative amortised inference: a refined joint posterior, and unimodal
encoders that are aligned with it (2024, https://arxiv.org/abs/2410.11403).

    L = mean_{t=0..T} −ELBO(λ_t; X) + a Σ_m KL(q(z | x_m) ‖ sg[q_T(z | X)])

λ_0 are the parameters of the joint encoder's q(z | X). A network refines them to λ_1 ..
λ_T (:mod:`counterpoint.inference.refinement`). At test time the unimodal encoders run
alone; ``encode(..., refine=5)`` refines what they say. Our choices where the paper
leaves it open (docs/results/iterative): the direction of the KL; a last stage that
trains the refiner on subsets; the joint encoder reads a learned vector in place of an
absent modality; some of several modalities take the product of their encoders.
Without refinement, and with a KL the other way whose gradient reaches the joint encoder
too, this is JMVAE.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.core.modality import Modality
from counterpoint.inference import Refiner
from counterpoint.methods.common import build, check_modalities
from counterpoint.methods.iterative_options import IterativeOptions
from counterpoint.methods.method import Method
from counterpoint.methods.options import configured_by
from counterpoint.model.encoders import Encoder
from counterpoint.model.model import Model
from counterpoint.model.rules import JointEncoder, JointRule, ProductRule
from counterpoint.objectives.afterwards import RefinerLoss
from counterpoint.objectives.bound import Bound, by_refinement
from counterpoint.objectives.loss import Loss
from counterpoint.objectives.matching import Alignment, PosteriorMatch
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


class IterativeMVAE(Method):
    """A joint encoder with a refiner, and unimodal encoders aligned with the result.

    Args:
        modalities: one or more.
        options: keywords, see
            :class:`~counterpoint.methods.iterative_options.IterativeOptions`.

    >>> [stage.name for stage in IterativeMVAE([Modality("x", (5,)), Modality("y", (3,))]).stages]
    ['refine', 'subsets']
    """

    name = "iterative"
    title = "Multimodal iterative amortised inference (2024), https://arxiv.org/abs/2410.11403"

    @configured_by(IterativeOptions)
    def __init__(self, modalities: Sequence[Modality], options: IterativeOptions) -> None:
        check_modalities(modalities)
        joint = JointEncoder(modalities, options.shared_dim, networks=options.networks, tokens=True)
        model = build(
            modalities,
            options,
            rule=JointRule(joint, ProductRule(prior_expert="never")),
            private_dim=options.private_dim,
        )
        model.put_refiner(Refiner(modalities, model.latents, options.refiner, beta=options.beta))
        super().__init__(model, *_stages(model, joint, options))


def _stages(model: Model, joint: JointEncoder, options: IterativeOptions) -> list[Stage]:
    """Refine and align, together or one after the other, then refine subsets."""
    bound = Bound(everything_to_everything, beta=options.beta, condition=by_refinement)
    refine = (bound, Ramp(1.0))
    toward: Loss = PosteriorMatch(1.0)
    if options.teacher == "refined":
        toward = Alignment(options.direction or "reverse")
    align = (toward, Ramp(options.align, 0, options.align_warmup))
    encoders = [e for e in model.posterior.encoders.values() if isinstance(e, Encoder)]
    of_w = []
    for e in encoders:
        for part in (e.private_trunk, e.private_head):
            if part is not None:
                of_w.append(part)
    of_z = []
    for e in encoders:
        for part in (e.shared_trunk, e.shared_head):
            of_z.append(part)
    learning = [joint, *of_w, model.decoders, model.refiners]
    stages = [Stage([refine, align], name="refine", trains=[*learning, *of_z])]
    if options.staged:
        stages = [Stage([refine], name="refine", trains=learning)]
        stages += [Stage([align], name="align", trains=of_z)] if options.align else []
    if options.subsets:
        subsets = (RefinerLoss(), Ramp(1.0))
        stages.append(Stage([subsets], name="subsets", trains=[model.refiners]))
    return stages
