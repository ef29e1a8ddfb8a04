"""``fit_decoder``: diffusion decoders for a trained method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ..denoising import DenoiserOptions
from ..methods.stages import Ramp, Stage
from ..objectives import DecoderFit
from .options import FitOptions, with_changes
from .run import FitResult, fit

if TYPE_CHECKING:
    from ..data import Split, Stream
    from ..methods import Method


def fit_decoder(
    method: Method,
    train: Split | Stream,
    val: Split | None = None,
    *,
    denoiser: DenoiserOptions,
    options: FitOptions | None = None,
    **changes: Any,
) -> FitResult:
    """Fit diffusion decoders in the place of some of a method's, whose encoders and other decoders stay as they are.

    Trained with the rest, a diffusion decoder leaves the latents little to say, for it finds in the noisy image itself what they would have told; of latents
    that a feed-forward decoder shaped it draws what they say, and makes up only what they don't. With ``condition="concat"`` it reads beside
    x_t what that decoder draws (DiffuseVAE, Pandey et al. 2022, https://arxiv.org/abs/2201.00308); with the others, latents. Ours is that
    it learns from whatever the aggregate posterior is made of (:class:`~counterpoint.objectives.DecoderFit`), and not from all modalities alone.

    Args:
        method: a trained method.
        train: the rows to learn from.
        val: the rows to validate on.
        denoiser: which modalities, and what kind of decoder.
        options: how to train; ``changes`` are fields of it.

    Raises:
        ValueError: a modality that diffusion can't draw, ``concat`` without a feed-forward decoder, or an option out of its range.
        NonFiniteLoss: the loss became NaN or infinite. After any error the method is as it was.
    """
    options = with_changes(options or FitOptions(), changes)
    model, stages = method.model, method.stages
    before, denoisers = {name: model.decoder(name) for name in model.names}, dict(model.denoisers)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(options.seed)  # the weights that training starts from
            model.put_denoisers(denoiser)
        model.to(method.device)
        loss = DecoderFit(denoiser.modalities)
        method.stages = (Stage([(loss, Ramp(1.0))], trains=[model.likelihood(name) for name in denoiser.modalities]),)
        return fit(method, train, val, options=options)
    except BaseException:
        model.decoders.update(before)
        model.denoisers = denoisers
        raise
    finally:
        method.stages = stages
        method.begin(None)
