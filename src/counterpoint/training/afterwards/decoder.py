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

USUAL = FitOptions(max_steps=3000, lr=1e-3, ema=0.998)
"""How decoders are fitted, but for what is said otherwise."""


def fit_decoder(
    method: TrainableModel,
    train: Rows,
    val: Rows | None = None,
    *,
    denoiser: DenoiserOptions,
    out: str | Path | None = None,
    resume: bool = False,
    again: str | None = None,
    options: FitOptions = USUAL,
    **changes: Any,
) -> FitResult:
    """Fit diffusion decoders in the place of some of a method's, whose encoders and
    other decoders stay as they are.

    Trained with the rest, a diffusion decoder leaves the latents little to say, for it
    finds in the noisy image itself what they would have told; of latents that a
    feed-forward decoder shaped it draws what they say, and makes up only what they
    don't. With ``condition="concat"`` it reads beside x_t what that decoder draws
    (DiffuseVAE, Pandey et al. 2022, https://arxiv.org/abs/2201.00308); with the others,
    latents. Ours is that it learns from all that the aggregate posterior is made of
    (:class:`~counterpoint.objectives.afterwards.DecoderFit`): of a mixture, from what
    each set of modalities says.

    A refiner that was fitted to the former decoders should be fitted again.

    Args:
        method: a trained method.
        train: the rows to learn from; those that have none of the modalities are left
            out, but for a stream's.
        val: the rows to validate on.
        denoiser: which modalities, and what kind of decoder.
        out: a run folder for this fit, from which it can go on where it was stopped.
        resume: go on in ``out``; where nothing has been saved yet, begin.
        again: the command that goes on, see :func:`~counterpoint.training.fit`.
        options: how to train; ``changes`` are fields of it, or further keywords of
            Lightning's ``Trainer``.

    Raises:
        ValueError: a modality that diffusion can't draw, ``concat`` without a
            feed-forward decoder, a refiner that compares values with what is decoded,
            an option out of its range, or ``out`` that holds another run.
        TypeError: an unknown option.
        ModuleNotFoundError: the network needs diffusers, which is not installed.
        NonFiniteLoss: the loss became NaN or infinite. After any error the method has
            its former decoders, and the weights that it had.
    """
    options = with_changes(options, changes)
    model, stages = method.model, method.stages
    if isinstance(model.refiner, Refiner) and model.refiner.options.signal == "error":
        raise ValueError(
            "the refiner of this model compares values with decoded means, and diffusion has none; fit one with signal='gradient'"
        )
    before, denoisers = {name: model.decoder(name) for name in model.names}, dict(model.denoisers)
    with weights_from(options.seed):
        model.put_denoisers(denoiser)
    try:
        model.to(method.device)
        loss = DecoderFit(denoiser.modalities)
        method.stages = (
            Stage(
                [(loss, Ramp(1.0))], trains=[model.likelihood(name) for name in denoiser.modalities]
            ),
        )
        rows, described = train.having(denoiser.modalities), {"denoiser": asdict(denoiser)}
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
        model.denoisers = denoisers
        raise
    finally:
        method.stages = stages
        method.begin(None)
