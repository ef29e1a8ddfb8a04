"""``counterpoint sweep``."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from counterpoint.cli import choose
from counterpoint.cli.names import gathered
from counterpoint.cli.parsing import first_paragraph
from counterpoint.cli.settings import check_source, study_settings
from counterpoint.methods import METHODS
from counterpoint.studies import sweep
from counterpoint.studies.launching import names_of

SKIPS: set[str | int] = {"methods", "data", "out", "fit", "evaluation", "progress"}
"""Parameters of ``studies.sweep`` that other options fill in."""


def run(words: Sequence[str]) -> None:
    """Measure what methods lose as more values are missing."""
    listed = gathered(words, ("methods", "how", "metrics", "only"), ("rates", "seeds"))
    wanted, own = study_settings(listed, "sweep", first_paragraph(run), _add_options)
    names = wanted.study.pop("methods") or [*own]
    if not names:
        raise ValueError(
            f"name the methods: --methods NAME ..., or methods in the configuration; choose from {', '.join(METHODS)}"
        )
    check_source(wanted.data)
    if wanted.out is None:
        raise ValueError("name the folder of the sweep: --out DIR")
    study = sweep(
        {choose(name, [*METHODS], "method"): own.get(name, {}) for name in names},
        wanted.data,
        out=wanted.out,
        fit=wanted.fit,
        evaluation={key: value for key, value in wanted.evaluate.items() if value is not None},
        progress=wanted.fit["progress"],
        **wanted.study,
    )
    print(study.table(), end="")
    for line in names_of(study.failed):
        print(line)
    print(f"{wanted.out / 'sweep.json'}, {wanted.out / 'sweep.png'}")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--study.methods",
        type=list[str],
        default=[],
        help="names; those of the configuration by default",
    )
    parser.add_function_arguments(sweep, "study", skip=SKIPS)
