"""``counterpoint fit-decoder``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from counterpoint.cli.afterwards import fitting, record
from counterpoint.cli.runs import decoder_folder, extending
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.training import fit_decoder
from counterpoint.training.afterwards.decoder import DECODER_FIT
from counterpoint.training.run_folder import leads

RECORDS = {"denoiser": DenoiserOptions(), "fit": DECODER_FIT}


def run(words: Sequence[str]) -> None:
    """Replace decoders of a trained run by diffusion decoders."""
    wanted = fitting(words, "fit-decoder", fit_decoder, RECORDS)
    denoiser = wanted.options["denoiser"]
    resume = wanted.options["resume"]
    with extending(wanted.run) as (method, data):
        result = method.fit_decoder(
            data.train,
            data.val,
            denoiser=denoiser,
            options=wanted.options["fit"],
            out=decoder_folder(wanted.run, resume),
            resume=resume,
            again="the same command and --resume true",
        )
        if not leads():
            return
        record(method, "fit-decoder", wanted)
        print(
            f"{wanted.run}: {', '.join(denoiser.modalities)} by diffusion, {result.steps} steps, loss {result.metrics['train/loss']:.4g}"
        )
        print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")
