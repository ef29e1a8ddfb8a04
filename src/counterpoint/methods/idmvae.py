"""IDMVAE: Information-disentangled Multimodal VAE (2026,
https://arxiv.org/abs/2509.23548).

    L = L_ELBO (MMVAE+) + λ1·CrossMI + λ2·GenAug + λ_diff·diffusion priors

CrossMI draws shared content into z. GenAug drives it out of w, and private content out
of z. The diffusion priors learn the aggregate posteriors. Reductions and constants are
those of the authors' code; docs/decisions/0030 lists the differences. Our choice: three
options for a cold start, when early decoders make poor augmentations.
``contrast_first`` steps train by CrossMI alone and ``augment_after`` steps without
GenAug; over ``augment_warmup`` steps its weight then rises.
"""

from __future__ import annotations

from collections.abc import Sequence

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, mixture_bound
from counterpoint.methods.idmvae_options import IDMVAEOptions
from counterpoint.methods.method import Method
from counterpoint.methods.options import configured_by
from counterpoint.model.rules import MixtureRule
from counterpoint.objectives.afterwards import DiffusionPriorLoss
from counterpoint.objectives.contrast import CrossMI
from counterpoint.objectives.genaug import GenAug
from counterpoint.objectives.stages import Ramp, Stage


class IDMVAE(Method):
    """MMVAE+ whose latents are disentangled by contrast and generative augmentation.

    Sizes and weights default to those published for PolyMNIST-Quadrant, with networks
    of ``NetworkOptions(kind="resnet", width=64)``, which are not the default.

    Args:
        modalities: two or more.
        options: keywords, see
            :class:`~counterpoint.methods.idmvae_options.IDMVAEOptions`.

    >>> IDMVAE([Modality("x", (5,)), Modality("y", (3,))], private_dim=2).model.private_dims
    {'x': 2, 'y': 2}
    """

    name = "idmvae"
    title = "IDMVAE (2026), https://arxiv.org/abs/2509.23548"

    @configured_by(IDMVAEOptions)
    def __init__(self, modalities: Sequence[Modality], options: IDMVAEOptions) -> None:
        if len(modalities) == 1:
            raise ValueError("idmvae contrasts modalities, so it needs two or more, got 1")
        model = build(
            modalities,
            options,
            rule=MixtureRule(),
            private_dim=options.private_dim,
            towers=options.towers,
            scale=options.prior_std,
            auxiliary=True,
        )
        if options.diffusion:
            model.add_fitted_priors("diffusion", options.diffusion_width)
        tau = options.temperature
        augmentation = GenAug(partner=options.partner, match=options.match, temperature=tau)
        priors = DiffusionPriorLoss(detach=options.detach_diffusion)
        bound_from = options.contrast_first
        augment_from = bound_from + options.augment_after
        augment_full = augment_from + options.augment_warmup
        losses = [
            (mixture_bound(modalities, options), Ramp(1.0, bound_from, bound_from)),
            (CrossMI(temperature=tau), Ramp(options.cross_mi)),
            (augmentation, Ramp(options.genaug, augment_from, augment_full)),
            (priors, Ramp(options.diffusion, bound_from, bound_from)),
        ]
        super().__init__(model, Stage(losses))
