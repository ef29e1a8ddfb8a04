"""``fit_decoder``: diffusion decoders for a trained method."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterpoint.data.rows import Rows
from counterpoint.inference import Refiner
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.nn.modules import weights_from
from counterpoint.objectives.afterwards import DecoderFit
from counterpoint.objectives.stages import Ramp, Stage
from counterpoint.training.fitting import fit
from counterpoint.training.options import FitOptions, with_changes
from counterpoint.training.result import FitResult

if TYPE_CHECKING:
    from counterpoint.training.trainable import TrainableModel

DECODER_FIT = FitOptions(max_steps=3000, lr=1e-3, ema_decay=0.998)
"""Default options of ``fit_decoder``."""


def fit_decoder(
    method: TrainableModel,
    train: Rows,
    val: Rows | None = None,
    *,
    denoiser: DenoiserOptions,
    out: str | Path | None = None,
    resume: bool = False,
    again: str | None = None,
    options: FitOptions = DECODER_FIT,
    **changes: Any,
) -> FitResult:
    """Replace some decoders of a method by diffusion decoders. Its encoders and other
    decoders stay as they are.

    A diffusion decoder that is trained together with the encoders tends to ignore the
    latents, because the noisy image is informative itself. If it is fitted to latents
    that a feed-forward decoder has shaped, it follows them and adds only what they leave
    open. With ``condition="concat"`` its input is x_t and the output of that decoder
    (DiffuseVAE, Pandey et al. 2022, https://arxiv.org/abs/2201.00308); with the others,
    x_t and the latents. We chose to fit it to the whole aggregate posterior
    (:class:`~counterpoint.objectives.afterwards.DecoderFit`): for a mixture, to the
    posterior given each set of modalities.

    A refiner that was fitted to the former decoders should be fitted again.

    >>> import counterpoint as cp
    >>> data = cp.data.load("digits-quadrant", pairings=1, views=2)
    >>> method = cp.MVAE.for_data(data, shared_dim=2, networks=cp.NetworkOptions(width=4))
    >>> train, val = data.train.take(range(32)), data.val.take(range(16))
    >>> denoiser = cp.DenoiserOptions(modalities=("view0",), width=8)
    >>> settings = cp.training.FitOptions(max_steps=1, batch_size=4, progress=False)
    >>> result = method.fit_decoder(train, denoiser=denoiser, options=settings)
    >>> [*method.model.denoisings]
    ['view0']

    Args:
        method: a trained method.
        train: rows to learn from. Rows of a split that have none of the modalities are
            left out.
        val: rows to validate on.
        denoiser: which modalities, and what kind of decoder.
        out: run folder of this fit, in which it can be resumed.
        resume: resume the fit in ``out``; start it if nothing has been saved yet.
        again: the command that resumes the fit, see :func:`~counterpoint.training.fit`.
        options: how to train. ``changes`` are fields of it, or further keywords of
            Lightning's ``Trainer``.

    Raises:
        ValueError: a modality that diffusion cannot generate, ``concat`` without a
            feed-forward decoder, a refiner that compares values with what is decoded,
            an option out of its range, or ``out`` that holds another run.
        TypeError: an unknown option.
        ModuleNotFoundError: the network needs diffusers, which is not installed.
        NonFiniteLoss: the loss became NaN or infinite. After any error the method has
            its former decoders and weights.
    """
    options = with_changes(options, changes)
    model = method.model
    stages = method.stages
    if isinstance(model.refiner, Refiner) and model.refiner.options.signal == "error":
        raise ValueError(
            "the refiner of this model compares values with decoded means, and diffusion has none; fit one with signal='gradient'"
        )
    before = {name: model.decoder(name) for name in model.names}
    additions = dict(model.additions)
    with weights_from(options.seed):
        model.replace_decoders(denoiser)
    try:
        model.to(method.device)
        loss = DecoderFit(denoiser.modalities)
        fitted = [model.likelihood(name) for name in denoiser.modalities]
        method.stages = (Stage([(loss, Ramp(1.0))], trains=fitted),)
        rows = train.having(denoiser.modalities)
        described = {"denoiser": asdict(denoiser)}
        return fit(
            method,
            rows,
            val,
            out=out,
            resume=resume,
            describe=described,
            again=again,
            options=options,
        )
    except BaseException:
        model.decoders.update(before)
        model.additions = additions
        raise
    finally:
        method.stages = stages
        method.begin(None)
