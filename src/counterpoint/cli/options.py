"""What the verbs take, as records whose fields are their flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from counterpoint.inference import RefinerOptions
from counterpoint.model.denoising import DenoiserOptions
from counterpoint.model.fitted_priors import SamplerName
from counterpoint.training import FitOptions
from counterpoint.training.afterwards.decoder import DECODER_FIT


@dataclass(frozen=True)
class SampleOptions:
    """New examples from a trained run.

    Args:
        run: run folder.
        n: how many.
        out: .png for a sheet of pictures, .npz or .json for the numbers.
        prior: "standard", "diffusion", "score", "score-ode", "flow", "gmm", or "auto"
            for the sampler that was learned last.
        covariates: COLUMN, which then is 1, or COLUMN=NUMBER, repeated for more;
            columns that are not named are 0. Without any, the average of training.
        autoencoder: its folder: write the images that latents stand for, instead of the
            latents.
        guidance: of diffusion decoders: more than 1 exaggerates what latents say; what
            they were made with by default.
        sampler_steps: of diffusion decoders; what they were made with by default.
        seed: of the draws.
    """

    run: Path
    n: int = 64
    out: Path = Path("samples.png")
    prior: str = "auto"
    covariates: tuple[str, ...] = ()
    autoencoder: Path | None = None
    guidance: float | None = None
    sampler_steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class PriorOptions:
    """Fit samplers to the latents of a trained run; generation draws from them. Measure
    again afterwards: evaluation.json and report.html are removed.

    Args:
        run: run folder.
        kind: "diffusion", "score", "score-ode", "flow" or "gmm". Those of the same kind
            that are there already are replaced.
        size: width of the networks, or number of the mixture's components; 512, 512,
            128 or 10 by default.
        of: learn posterior "means" or "samples".
        steps: Adam steps; a mixture takes none.
        batch_size: rows of a step.
        lr: learning rate, falling to zero by a cosine.
        seed: of the rows and the noise.
    """

    run: Path
    kind: SamplerName = "diffusion"
    size: int | None = None
    of: Literal["means", "samples"] = "means"
    steps: int = 2000
    batch_size: int = 512
    lr: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class FitDecoderOptions:
    """Fit diffusion decoders in the place of some of a trained run's; everything else
    stays as it is. Measure again afterwards: evaluation.json and report.html are
    removed.

    Args:
        run: run folder.
        denoiser: which modalities, and what kind of decoder.
        fit: how to train.
        resume: go on with a fit that was stopped, with the same options.
    """

    run: Path
    denoiser: DenoiserOptions = DenoiserOptions()
    fit: FitOptions = DECODER_FIT
    resume: bool = False


@dataclass(frozen=True)
class FitRefinerOptions:
    """Fit a network that refines the posteriors of a trained run; translate --refine
    draws from them. Measure again afterwards: evaluation.json and report.html are
    removed.

    Args:
        run: run folder.
        refiner: how posteriors are refined.
        beta: of the bound that it learns to raise.
        steps: Adam steps.
        batch_size: rows of a step.
        lr: learning rate, falling to zero by a cosine.
        seed: of the rows and the noise.
    """

    run: Path
    refiner: RefinerOptions = RefinerOptions()
    beta: float = 1.0
    steps: int = 1000
    batch_size: int = 128
    lr: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class TranslateOptions:
    """Some modalities from others.

    Args:
        run: run folder.
        given: MODALITY=FILE, repeated for more: an image file, or numbers as .npy,
            .json, .csv or .txt; a .csv may name the features above its columns. Of word
            ids whose words are known, a .txt file holds a text a line, and
            MODALITY=TEXT gives a text itself.
        to: MODALITY, repeated for more; all others by default.
        n: how many answers to each row.
        out: .png for a sheet of pictures, .npz or .json for the numbers, .csv for those
            of one vector under the names of its features; without it, vectors and text
            are printed, or ids whose words are unknown.
        prior: "standard", "diffusion", "score", "score-ode", "flow", "gmm", or "auto"
            for the sampler that was learned last.
        rule: "own", or "product" for the product of unimodal posteriors, whatever the
            method was trained with.
        refine: steps of refinement, for a run with a refiner (fit-refiner); none by
            default.
        covariates: COLUMN, which then is 1, or COLUMN=NUMBER, repeated for more;
            columns that are not named are 0. Without any, the average of training.
        autoencoder: its folder: read and write the images that latents stand for,
            instead of the latents.
        guidance: of diffusion decoders: more than 1 exaggerates what latents say; what
            they were made with by default.
        sampler_steps: of diffusion decoders; what they were made with by default.
        seed: of the draws.
    """

    run: Path
    given: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    n: int = 1
    out: Path | None = None
    prior: str = "auto"
    rule: Literal["own", "product"] = "own"
    refine: int | None = None
    covariates: tuple[str, ...] = ()
    autoencoder: Path | None = None
    guidance: float | None = None
    sampler_steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ImputeOptions:
    """Fill what is missing, with an interval for each value.

    Args:
        run: run folder.
        given: MODALITY=FILE, repeated for more: an image file, or numbers as .npy,
            .json, .csv or .txt; a row of NaN is missing. With --split, MODALITY alone:
            go by these, and fill all others in every row. Rows that have none of them
            stay missing, NaN, and are counted.
        split: fill rows of the run's own data instead: "train", "val" or "test".
        to: MODALITY, repeated for more: those to fill; all by default.
        out: .npz of values as NAME, ends of intervals as lower/NAME and upper/NAME,
            probabilities of words as probability/NAME, and what was filled as
            missing/NAME.
        n: draws of each row.
        level: probability with which a value lies inside its interval, if the model is
            right.
        samples: write the draws, too, as samples/NAME.
        prior: "standard", "diffusion", "score", "score-ode", "flow", "gmm", or "auto"
            for the sampler that was learned last.
        rule: "own", or "product" for the product of unimodal posteriors, whatever the
            method was trained with.
        refine: steps of refinement, for a run with a refiner (fit-refiner); none by
            default.
        covariates: COLUMN, which then is 1, or COLUMN=NUMBER, repeated for more;
            columns that are not named are 0. Without any, those of the rows, or the
            average of training.
        seed: of the draws.
    """

    run: Path
    given: tuple[str, ...] = ()
    split: Literal["train", "val", "test"] | None = None
    to: tuple[str, ...] = ()
    out: Path = Path("imputed.npz")
    n: int = 100
    level: float = 0.9
    samples: bool = False
    prior: str = "auto"
    rule: Literal["own", "product"] = "own"
    refine: int | None = None
    covariates: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class ReportOptions:
    """One self-contained HTML file about a run.

    Args:
        run: run folder; where it has no evaluation.json, everything is measured first.
        out: the file; RUN/report.html by default.
        maps: list of pca, tsne and umap; all that can be had by default.
        seed: chooses the examples shown.
    """

    run: Path
    out: Path | None = None
    maps: tuple[str, ...] | None = None
    seed: int = 0


@dataclass(frozen=True)
class AnnotateOptions:
    """The latents of every observation and its modalities as the model has them, in a
    copy of the .h5mu or .h5ad file that a run was trained on.

    Args:
        run: run folder.
        out: the .h5mu file to write: obsm X_counterpoint and
            X_counterpoint_<modality>_private, layers counterpoint_imputed, and obsm
            counterpoint_imputed_<modality> where observations lack a modality.
        seed: of what posteriors without a mean draw.
    """

    run: Path
    out: Path = Path("annotated.h5mu")
    seed: int = 0
