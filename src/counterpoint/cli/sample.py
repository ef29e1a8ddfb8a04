"""``counterpoint sample``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.cli.given import (
    ImageOptions,
    as_images,
    check_count,
    given_covariates,
    image_autoencoder,
)
from counterpoint.cli.names import gathered
from counterpoint.cli.parsing import called
from counterpoint.cli.runs import opened_model
from counterpoint.cli.values import write_values


@dataclass(frozen=True)
class SampleOptions(ImageOptions):
    """Generate new examples of all modalities.

    Args:
        n: number of examples.
        out: .png for a sheet of pictures, .npz or .json for the numbers, .csv for
            those of a model of one vector.
    """

    n: int = 64
    out: Path = Path("samples.png")


def run(words: Sequence[str]) -> None:
    """Generate new examples of all modalities."""
    wanted = called(SampleOptions, "sample", gathered(words, ("covariates",)))
    method = opened_model(wanted.run)
    method.draw_by(guidance=wanted.guidance, solver_steps=wanted.solver_steps)
    check_count(wanted.n)
    autoencoder = image_autoencoder(wanted.autoencoder, method)
    values = method.sample(
        wanted.n,
        prior=wanted.prior,
        covariates=given_covariates(wanted.covariates, method),
        generator=wanted.generator(),
    )
    print(write_values(*as_images(values, method.modalities, autoencoder), wanted.out))
