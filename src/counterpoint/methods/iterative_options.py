"""Options of multimodal iterative amortised inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from counterpoint.inference import RefinerOptions
from counterpoint.methods.options import CommonOptions
from counterpoint.objectives.matching import Direction


@dataclass(frozen=True, kw_only=True)
class IterativeOptions(CommonOptions):
    """Options of :class:`~counterpoint.methods.iterative.IterativeMVAE`.

    Args:
        private_dim: D_m of every modality; 0 for no private latents.
        beta: β, the weight of the KLs.
        refiner: how the joint posterior is refined.
        align: a, the weight of the alignment.
        align_warmup: steps over which it rises from zero.
        direction: of the alignment's KL: ``"reverse"``, KL(q(z | x_m) ‖ sg[q_T(z | X)]),
            ``"forward"``, KL(sg[q_T(z | X)] ‖ q(z | x_m)), or ``"both"``, their mean.
            None means ``"reverse"``, and ``"forward"`` for a joint teacher, which
            allows no other.
        teacher: what unimodal encoders are aligned with: the ``"refined"`` posterior,
            or the ``"joint"`` encoder's, as in JMVAE. The gradient then reaches the
            joint encoder too, unless ``staged``.
        staged: align in a stage of its own, with all other weights frozen.
        subsets: add a last stage that trains the refiner, and nothing else, on some of
            the modalities (our choice). Without it ``refine`` is for complete rows.

    >>> IterativeOptions(align=2.0).teacher
    'refined'
    """

    private_dim: int = 0
    beta: float = 1.0
    refiner: RefinerOptions = RefinerOptions()
    align: float = 1.0
    align_warmup: int = 0
    direction: Direction | None = None
    teacher: Literal["refined", "joint"] = "refined"
    staged: bool = False
    subsets: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.not_negative("align", "align_warmup")
        if self.teacher == "joint" and self.direction not in (None, "forward"):
            raise ValueError(
                f"direction={self.direction!r} is for teacher='refined'; the joint encoder's posterior comes first"
            )
