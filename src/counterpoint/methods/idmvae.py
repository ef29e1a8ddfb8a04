"""IDMVAE: Information-disentangled Multimodal VAE (2025,
https://arxiv.org/abs/2509.23548).

    L = L_ELBO (MMVAE+) + λ1·CrossMI + λ2·GenAug + λ_diff·diffusion priors

CrossMI pulls what the modalities share into z; GenAug drives it out of w, and what is
private out of z; the diffusion priors learn the aggregate posteriors, so that
unconditional samples look like conditional ones.

Reductions and constants are those of the authors' code, with which the published
weights were chosen: p(z) and p(w_m) are N(0, (ln 2)²), the bound is a mean over sources
and sums over everything else, λ_diff weighs (1/M) Σ_m [L(z_m) + L(w_m)] with L summed
over dimensions. What differs, and why, is listed in docs/decisions/0030.

The paper leaves the cold start open: early decoders make poor augmentations, and a w
that tells examples apart by anything at all satisfies GenAug's contrast before it has
learned what is private (docs/results/idmvae). Three knobs, all ours: ``contrast_first``
steps train by CrossMI alone, the next ``augment_after`` steps by everything but GenAug,
whose weight rises linearly over the ``augment_warmup`` steps after that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from counterpoint.core.modality import Modality
from counterpoint.methods.common import build, singles
from counterpoint.methods.method import Method
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.encoders import Towers
from counterpoint.model.rules import Mixture
from counterpoint.nn.options import NetworkOptions
from counterpoint.objectives.afterwards import DiffusionPriorLoss
from counterpoint.objectives.bound import Bound, Estimator, of_everything
from counterpoint.objectives.contrast import CrossMI
from counterpoint.objectives.genaug import GenAug
from counterpoint.objectives.stages import Ramp, Stage


class IDMVAE(Method):
    """See the module for the derivation. Sizes and weights default to those published
    for PolyMNIST-Quadrant; its networks are ``NetworkOptions(kind="resnet",
    width=64)``, and not the default.

    Args:
        modalities: two or more.
        shared_dim: D.
        private_dim: D_m of every modality.
        beta: β on the KLs.
        cross_mi: λ1; 0 leaves CrossMI out.
        genaug: λ2; 0 leaves GenAug out.
        prior_std: standard deviation of p(z) and every p(w_m), in the bound and where
            they are sampled; the auxiliary priors start at it. The authors' code has
            softplus(0) = ln 2. 1 is the usual one, and our other choice.
        diffusion: λ_diff; 0 trains no diffusion priors beside the rest (``fit_prior``
            fits them afterwards).
        diffusion_width: width of their denoisers.
        detach_diffusion: keep the diffusion loss's gradient out of the encoders.
        estimator: ``"elbo"``, ``"iwae"`` or ``"dreg"`` with ``samples`` draws.
        samples: K.
        cross_targets: decode so many random other modalities for each source instead of
            all (unbiased at K = 1).
        partner: where GenAug's partners come from.
        match: GenAug's match, ``"contrast"`` or ``"l2"``.
        temperature: τ of both contrasts.
        contrast_first: steps by CrossMI alone.
        augment_after: steps that follow without GenAug.
        augment_warmup: steps over which GenAug's weight then rises.
        towers: separate or shared encoder trunks.
        networks: kind and sizes of the networks.
        denoiser: which modalities have a diffusion decoder, and of what kind.
        decoder_rows: most rows of one decoder call; None takes 256 on a CPU and all of
            them elsewhere.

    Raises:
        ValueError: an option out of its range, or a diffusion partner without diffusion
            priors.
    """

    name = "idmvae"
    title = "IDMVAE (2025), https://arxiv.org/abs/2509.23548"

    def __init__(
        self,
        modalities: Sequence[Modality],
        *,
        shared_dim: int = 32,
        private_dim: int = 128,
        beta: float = 2.5,
        cross_mi: float = 80.0,
        genaug: float = 20.0,
        prior_std: float = math.log(2),
        diffusion: float = 1.0,
        diffusion_width: int = 512,
        detach_diffusion: bool = False,
        estimator: Estimator = "elbo",
        samples: int = 1,
        cross_targets: int | None = None,
        partner: Literal["posterior", "prior", "diffusion"] = "posterior",
        match: Literal["contrast", "l2"] = "contrast",
        temperature: float = 1.0,
        contrast_first: int = 0,
        augment_after: int = 0,
        augment_warmup: int = 0,
        towers: Towers = "separate",
        networks: NetworkOptions = NetworkOptions(),
        denoiser: DenoiserOptions = DenoiserOptions(),
        decoder_rows: int | None = None,
    ) -> None:
        if private_dim < 1:
            raise ValueError(
                f"idmvae needs private latents, got private_dim={private_dim}; give 1 or more"
            )
        weights = {"cross_mi": cross_mi, "genaug": genaug, "diffusion": diffusion}
        steps = {
            "contrast_first": contrast_first,
            "augment_after": augment_after,
            "augment_warmup": augment_warmup,
        }
        for kind, numbers in (("a weight", weights), ("a number of steps", steps)):
            for name, number in numbers.items():
                if number < 0:
                    raise ValueError(f"{name}={number} is {kind} and must not be negative")
        if not 0 < prior_std < math.inf:
            raise ValueError(
                f"prior_std={prior_std} must be positive and finite, such as 0.693 or 1"
            )
        if len(modalities) == 1:
            raise ValueError("idmvae contrasts modalities, so it needs two or more, got 1")
        if contrast_first and not cross_mi:
            raise ValueError("contrast_first trains by CrossMI alone, so it needs cross_mi > 0")
        if partner == "diffusion" and not diffusion:
            raise ValueError("partner='diffusion' needs the diffusion priors; give diffusion > 0")
        model = build(
            modalities,
            rule=Mixture(),
            shared_dim=shared_dim,
            private_dim=private_dim,
            networks=networks,
            towers=towers,
            scale=prior_std,
            auxiliary=True,
            denoiser=denoiser,
            decoder_rows=decoder_rows,
        )
        if diffusion:
            model.add_samplers("diffusion", diffusion_width)
        bound = Bound(
            singles(modalities, cross_targets),
            estimator=estimator,
            samples=samples,
            beta=beta,
            density=of_everything,
        )
        augmentation = GenAug(partner=partner, match=match, temperature=temperature)
        then = contrast_first
        augment = then + augment_after
        losses = [
            (bound, Ramp(1.0, then, then)),
            (CrossMI(temperature=temperature), Ramp(cross_mi)),
            (augmentation, Ramp(genaug, augment, augment + augment_warmup)),
            (DiffusionPriorLoss(detach=detach_diffusion), Ramp(diffusion, then, then)),
        ]
        super().__init__(model, Stage(losses))
