"""Multimodal iterative amortised inference: a refined joint posterior, and unimodal
encoders drawn to it (2024, https://arxiv.org/abs/2410.11403).

    L = mean_{t=0..T} −ELBO(λ_t; X) + a Σ_m KL(q(z | x_m) ‖ sg[q_T(z | X)])

λ_0 are the parameters of the joint encoder's q(z | X), and λ_1 .. λ_T what a network
makes of them that sees how the bound answers
(:mod:`counterpoint.inference.refinement`). At test time the unimodal encoders run
alone; what they say can be refined by what is given (``encode(..., refine=5)``), but
need not be. A refiner that has only ever seen complete rows makes worse what a single
modality says, so that a last stage, ours, teaches it the rest.

Which way the KL goes is left open. Ours makes unimodal posteriors as narrow as what
they aim at, so that their draws stay where the decoders were trained; the other way
they cover all that the refined one may be, and translate worse
(docs/results/iterative).

Without refinement, and with a KL the other way whose gradient reaches the joint encoder
too, this is JMVAE. The paper supposes complete data and leaves
open how subsets are joined. Ours: the joint encoder reads a learned vector in the place
of an absent modality's features, so that incomplete rows train; several modalities, but
not all, take the product of what their encoders say, as in JMVAE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.inference import Refiner, RefinerOptions
from counterpoint.methods.common import build, check_sizes
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.encoders import Encoder
from counterpoint.model.rules import Joint, JointEncoder, Product
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.afterwards import RefinerLoss
from counterpoint.objectives.bound import Bound, by_refinement
from counterpoint.objectives.loss import Loss
from counterpoint.objectives.matching import Alignment, Direction, PosteriorMatch
from counterpoint.objectives.routes import everything_to_everything
from counterpoint.objectives.stages import Ramp, Stage


class IterativeMVAE(Method):
    """See the module for the derivation.

    Args:
        modalities: one or more.
        shared_dim: D.
        private_dim: D_m of every modality; 0 for none.
        beta: β on the KLs.
        refiner: how the joint posterior is refined.
        align: a, the weight of the alignment.
        align_warmup: steps over which it rises from zero.
        direction: of the alignment's KL: ``"reverse"``, as above, ``"forward"``,
            KL(sg[q_T(z | X)] ‖ q(z | x_m)), or ``"both"``, their mean. None takes
            ``"reverse"``, and of a joint teacher the only one that there is,
            ``"forward"``.
        teacher: what unimodal encoders are drawn to: the ``"refined"`` posterior, or,
            as in JMVAE, the ``"joint"`` encoder's, which then is drawn to them too
            (unless ``staged``).
        staged: align in a stage of its own, after the rest, whose weights are then
            frozen.
        subsets: let the refiner learn, in a last stage in which all else is frozen, to
            refine also what is said of some modalities (ours); without it ``refine`` is
            for complete rows.
        networks: kind and sizes of the networks.
        denoiser: which modalities have a diffusion decoder, and of what kind.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of
            them elsewhere.

    Raises:
        ValueError: an option out of its range.
    """

    name = "iterative"
    title = "Multimodal iterative amortised inference (2024), https://arxiv.org/abs/2410.11403"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        private_dim: int = 0,
        beta: float = 1.0,
        refiner: RefinerOptions = RefinerOptions(),
        align: float = 1.0,
        align_warmup: int = 0,
        direction: Direction | None = None,
        teacher: Literal["refined", "joint"] = "refined",
        staged: bool = False,
        subsets: bool = True,
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        check_sizes(modalities, shared_dim, private_dim)
        if align < 0 or align_warmup < 0:
            raise ValueError(f"align={align} and align_warmup={align_warmup} must not be negative")
        if teacher == "joint" and direction not in (None, "forward"):
            raise ValueError(
                f"direction={direction!r} is for teacher='refined'; the joint encoder's posterior comes first"
            )
        if teacher not in ("refined", "joint"):
            raise ValueError(f"teacher={teacher!r} is unknown; choose 'refined' or 'joint'")
        rule = Joint(
            JointEncoder(modalities, shared_dim, networks=networks, tokens=True),
            Product(prior_expert="never"),
        )
        model = build(
            modalities,
            rule=rule,
            shared_dim=shared_dim,
            private_dim=private_dim,
            networks=networks,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        model.put_refiner(Refiner(modalities, model.latents, refiner, beta=beta))
        bound = Bound(everything_to_everything, beta=beta, condition=by_refinement)
        aligned: Loss = (
            Alignment(direction or "reverse") if teacher == "refined" else PosteriorMatch(1.0)
        )
        alignment = (aligned, Ramp(align, 0, align_warmup))
        encoders = [
            encoder for encoder in model.posterior.encoders.values() if isinstance(encoder, Encoder)
        ]
        of_w = [
            part for e in encoders for part in (e.private_trunk, e.private_head) if part is not None
        ]
        of_z = [part for e in encoders for part in (e.shared_trunk, e.shared_head)]
        learning = [rule.encoder, *of_w, model.decoders, model.refiners]
        stages = [Stage([(bound, Ramp(1.0)), alignment], name="refine", trains=[*learning, *of_z])]
        if staged:
            stages = [Stage([(bound, Ramp(1.0))], name="refine", trains=learning)]
            stages += [Stage([alignment], name="align", trains=of_z)] if align else []
        if subsets:
            stages.append(
                Stage([(RefinerLoss(), Ramp(1.0))], name="subsets", trains=[model.refiners])
            )
        super().__init__(model, *stages)
