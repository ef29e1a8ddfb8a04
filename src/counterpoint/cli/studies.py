"""Commands that make many runs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from counterpoint.cli import choose
from counterpoint.cli.arguments import check_source, gathered, settings, study_settings
from counterpoint.methods import METHODS


def tune(words: Sequence[str]) -> None:
    """Search fields of a configuration for the best value of a metric on the validation
    split."""
    from counterpoint.studies import tune as search

    wanted = settings(words, verb="tune", study=_of_tune)
    space = wanted.study.pop("search")
    if space is None:
        raise ValueError(
            "name the search space: --search F.yaml, a mapping such as 'fit.lr: {low: 1.0e-4, high: 1.0e-2, log: true}'"
        )
    check_source(wanted.data)
    if wanted.out is None:
        raise ValueError("name the folder of the study: --out DIR")
    if wanted.resume or wanted.overwrite:
        raise ValueError("a study goes on by the same command; leave out --resume and --overwrite")
    found = search(
        wanted.method,
        wanted.data,
        space,
        out=wanted.out,
        model=wanted.model,
        fit=wanted.fit,
        evaluation=wanted.evaluate,
        progress=wanted.fit["progress"],
        **wanted.study,
    )
    print(found.table(), end="")
    if found.best is None or found.config is None:
        raise ValueError(f"no trial came to a value; the last one says: {found.trials[-1].reason}")
    again = shlex.quote(str(wanted.out / "best"))
    print(
        f"best: trial {found.best.number}, {found.metric} {found.best.value:.6g} on the validation split"
    )
    print(
        f"next: counterpoint fit --config {shlex.quote(str(found.config))} --out {again}; counterpoint evaluate {again}"
    )


def sweep(words: Sequence[str]) -> None:
    """What methods lose as more values are missing."""
    from counterpoint.studies import sweep as study

    listed = gathered(words, ("methods", "how", "metrics", "only"), ("rates", "seeds"))
    wanted, own = study_settings(listed, "sweep", sweep.__doc__ or "", _of_sweep)
    names = wanted.study.pop("methods") or [*own]
    if not names:
        raise ValueError(
            f"name the methods: --methods NAME ..., or methods in the configuration; choose from {', '.join(METHODS)}"
        )
    check_source(wanted.data)
    if wanted.out is None:
        raise ValueError("name the folder of the sweep: --out DIR")
    found = study(
        {choose(name, [*METHODS], "method"): own.get(name, {}) for name in names},
        wanted.data,
        out=wanted.out,
        fit=wanted.fit,
        evaluation={key: value for key, value in wanted.evaluate.items() if value is not None},
        progress=wanted.fit["progress"],
        **wanted.study,
    )
    print(found.table(), end="")
    for name, reason in found.failed.items():
        print(f"{name} came to nothing: {reason}")
    print(f"{wanted.out / 'sweep.json'}, {wanted.out / 'sweep.png'}")


def _of_tune(parser: ArgumentParser) -> None:
    from counterpoint.studies import tune as search

    parser.add_argument(
        "--study.search",
        type=Path,
        default=None,
        help="YAML file of the fields to search, and their ranges or choices",
    )
    skip: set[str | int] = {
        "name",
        "data",
        "search",
        "out",
        "model",
        "fit",
        "evaluation",
        "progress",
    }
    parser.add_function_arguments(search, "study", skip=skip)


def _of_sweep(parser: ArgumentParser) -> None:
    from counterpoint.studies import sweep as study

    skip: set[str | int] = {"methods", "data", "out", "fit", "evaluation", "progress"}
    parser.add_argument(
        "--study.methods",
        type=list[str],
        default=[],
        help="names; those of the configuration by default",
    )
    parser.add_function_arguments(study, "study", skip=skip)
