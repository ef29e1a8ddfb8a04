"""The commands. Each takes the words after its name, and raises ValueError, TypeError
or OSError for what a user can mend."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from counterpoint.cli import choose
from counterpoint.cli.answers import annotate, impute, sample, translate
from counterpoint.cli.arguments import (
    EVALUATE_SKIPS,
    called,
    check_source,
    expanded,
    gathered,
    option_names,
    parsed,
    parser_for,
    settings,
)
from counterpoint.cli.options import (
    FitDecoderOptions,
    FitRefinerOptions,
    PriorOptions,
    ReportOptions,
)
from counterpoint.cli.recipes import recipe
from counterpoint.cli.runs import (
    decoder_folder,
    evaluated,
    extending,
    loaded,
    measured,
    opened,
    opened_model,
    out_folder,
    reported,
    saved,
    trained,
)
from counterpoint.cli.sets import data
from counterpoint.cli.studies import sweep, tune
from counterpoint.methods import Method
from counterpoint.training.run_folder import leads

if TYPE_CHECKING:
    from counterpoint.data import Split

__all__ = [
    "annotate",
    "data",
    "demo",
    "evaluate",
    "fit",
    "fit_decoder",
    "fit_prior",
    "fit_refiner",
    "impute",
    "report",
    "sample",
    "sweep",
    "translate",
    "tune",
]

GAIN_ROWS = 256
"""Validation rows on which fit-refiner measures what was gained."""

RECIPE = recipe("demo")


def demo(words: Sequence[str]) -> None:
    """Train, evaluate and report."""
    wanted = settings(
        [*words] if _names_folder(words) else ["--out=runs/demo", *words],
        verb="demo",
        recipe=RECIPE,
    )
    run = out_folder(wanted)
    data = loaded(wanted.data)
    trained(wanted, data)
    if not leads():
        return
    method = opened_model(run)  # with what was fitted afterwards, where the run was over already
    evaluation = evaluated(method, data, run, wanted.evaluate)
    path = reported(method, data, evaluation, run)
    print(evaluation.table())
    print(f"report: {path}")


def fit(words: Sequence[str]) -> None:
    """Train a method; leave a run folder."""
    wanted = settings(words)
    check_source(wanted.data)
    run = out_folder(wanted)
    _, result = trained(wanted, loaded(wanted.data))
    if not leads():
        return
    print(f"{run}: {result.steps} steps, loss {result.metrics.get('train/loss', float('nan')):.4g}")
    print(
        f"next: counterpoint evaluate {shlex.quote(str(run))}; counterpoint report {shlex.quote(str(run))}"
    )


def fit_decoder(words: Sequence[str]) -> None:
    """Fit diffusion decoders in the place of some of a trained run's; everything else
    stays as it is."""
    wanted = called(FitDecoderOptions, "fit-decoder", words)
    with extending(wanted.run) as (method, data):
        result = method.fit_decoder(
            data.train,
            data.val,
            denoiser=wanted.denoiser,
            options=wanted.fit,
            out=decoder_folder(wanted.run, wanted.resume),
            resume=wanted.resume,
            again="the same command and --resume true",
        )
        if not leads():
            return
        saved(method, "fit-decoder", wanted)
        print(
            f"{wanted.run}: {', '.join(wanted.denoiser.modalities)} by diffusion, {result.steps} steps, loss {result.metrics['train/loss']:.4g}"
        )
        print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")


def fit_prior(words: Sequence[str]) -> None:
    """Fit samplers to the latents of a trained run; generation draws from them."""
    wanted = called(PriorOptions, "fit-prior", words)
    with extending(wanted.run) as (method, data):
        options = {key: value for key, value in vars(wanted).items() if key != "run"}
        history = method.fit_prior(data.train, **options)
        saved(method, "fit-prior", wanted)
        print(
            f"{wanted.run}: {wanted.kind} samplers of {', '.join(method.model.latents)}, loss {history[-1]:.4g}; generation draws from them now"
        )
        print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")


def fit_refiner(words: Sequence[str]) -> None:
    """Fit a refiner to the posteriors of a trained run; translate --refine draws from
    what it makes of them."""
    wanted = called(FitRefinerOptions, "fit-refiner", words)
    with extending(wanted.run) as (method, data):
        options = {key: value for key, value in vars(wanted).items() if key != "run"}
        method.fit_refiner(data.train, **options)
        saved(method, "fit-refiner", wanted)
        print(f"{wanted.run}: {_gain(method, data.val, wanted.seed)}")
        print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")


def _gain(method: Method, val: Split, seed: int) -> str:
    """What refinement does to the bound of complete validation rows, in words."""
    rows = np.random.default_rng(seed).permutation(val.complete)[:GAIN_ROWS]
    bound = (
        method.refine(
            val.batch(rows, method.device), generator=torch.Generator().manual_seed(seed)
        ).elbo
        if len(rows)
        else None
    )
    if bound is None:
        return "a refiner is fitted; no validation row has every modality to measure it on"
    return f"a bound of {bound[0].mean():.4g} nats before and {bound[-1].mean():.4g} after {len(bound) - 1} steps on {len(rows)} validation rows"


def evaluate(words: Sequence[str]) -> None:
    """Measure a run: one table on the screen, the same numbers in RUN/evaluation.json,
    or in RUN/evaluation-partial.json."""
    from counterpoint.metrics import evaluate as measure
    from counterpoint.metrics import read_extractor

    parser = parser_for("evaluate", evaluate.__doc__ or "")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here, too")
    parser.add_argument("--detail", action="store_true", help="a line for every modality, too")
    parser.add_argument(
        "--feature_extractors",
        type=list[str],
        default=[],
        help="MODALITY=FILE.py, repeated for more: a Python file, which is run, whose features(values) takes the place of the judge's features",
    )
    parser.add_argument(
        "--guidance",
        type=float | None,
        default=None,
        help="of diffusion decoders; what they were made with by default",
    )
    parser.add_argument(
        "--solver_steps",
        type=int | None,
        default=None,
        help="of diffusion decoders; what they were made with by default",
    )
    parser.add_function_arguments(measure, skip=EVALUATE_SKIPS)
    values = parsed(
        parser, expanded(gathered(words, ("only", "feature_extractors")), option_names(parser))
    )
    run, copy, detail = (values.pop(key) for key in ("run", "json", "detail"))
    drawn = {key: values.pop(key) for key in ("guidance", "solver_steps")}
    extractors = {}
    for entry in values.pop("feature_extractors"):
        name, equals, file = entry.partition("=")
        if not equals:
            raise ValueError(f"--feature_extractors {entry} must be MODALITY=FILE.py")
        extractors[name] = read_extractor(Path(file))
    method, data = opened(run)
    method.draw_by(**drawn)
    usual = all(value is None for value in drawn.values())
    evaluation = evaluated(method, data, run, {**values, "feature_extractors": extractors}, usual)
    if copy is not None:
        evaluation.to_json(copy)
    print(evaluation.table(detail=detail))


def report(words: Sequence[str]) -> None:
    """One HTML file about a run."""
    wanted = called(ReportOptions, "report", gathered(words, ("maps",)))
    from counterpoint.report.figures import MAPS

    for kind in wanted.maps or ():
        choose(kind, MAPS, "map")
    method, data = opened(wanted.run)
    print(
        reported(
            method,
            data,
            measured(method, data, wanted.run),
            wanted.run,
            wanted.out,
            wanted.maps,
            wanted.seed,
        )
    )


def _names_folder(words: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in ("--out", "--resume") for word in words)
