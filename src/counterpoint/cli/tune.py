"""``counterpoint tune``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from counterpoint.cli.settings import Settings, check_source, settings
from counterpoint.studies import tune

SKIPS: set[str | int] = {
    "name",
    "data",
    "search",
    "out",
    "model",
    "fit",
    "evaluation",
    "progress",
}
"""Parameters of ``studies.tune`` that other options fill in."""


def run(words: Sequence[str]) -> None:
    """Search fields of a configuration for the best value of a metric on the validation
    split."""
    wanted = settings(words, verb="tune", study=_add_options)
    space = wanted.study.pop("search")
    if space is None:
        raise ValueError(
            "name the search space: --search F.yaml, a mapping such as 'fit.lr: {low: 1.0e-4, high: 1.0e-2, log: true}'"
        )
    check_source(wanted.data)
    out = _out(wanted)
    study = tune(
        wanted.method,
        wanted.data,
        space,
        out=out,
        model=wanted.model,
        fit=wanted.fit,
        evaluation=wanted.evaluate,
        progress=wanted.fit["progress"],
        **wanted.study,
    )
    print(study.table(), end="")
    if study.best is None or study.config is None:
        raise ValueError(f"no trial came to a value; the last one says: {study.trials[-1].reason}")
    again = shlex.quote(str(out / "best"))
    config = shlex.quote(str(study.config))
    print(
        f"best: trial {study.best.number}, {study.metric} {study.best.value:.6g} on the validation split"
    )
    print(f"next: counterpoint fit --config {config} --out {again}; counterpoint evaluate {again}")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--study.search",
        type=Path,
        default=None,
        help="YAML file of the fields to search, and their ranges or choices",
    )
    parser.add_function_arguments(tune, "study", skip=SKIPS)


def _out(wanted: Settings) -> Path:
    if wanted.out is None:
        raise ValueError("name the folder of the study: --out DIR")
    if wanted.resume or wanted.overwrite:
        raise ValueError("a study goes on by the same command; leave out --resume and --overwrite")
    return wanted.out
