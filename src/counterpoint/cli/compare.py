"""``counterpoint compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from counterpoint.cli.names import gathered
from counterpoint.cli.parsing import first_paragraph
from counterpoint.cli.settings import check_source, study_settings
from counterpoint.studies import compare
from counterpoint.studies.comparing import refuse_repeats
from counterpoint.studies.comparison_tables import text
from counterpoint.studies.launching import names_of

SKIPS: set[str | int] = {"methods", "data", "out", "fit", "evaluation", "progress"}
"""Parameters of ``studies.compare`` that other options fill in."""

DEFAULT_RECIPE = "compare"
"""What is compared if no file and no method is named."""


def run(words: Sequence[str]) -> None:
    """Compare methods on one data set, over seeds or folds: tables and a page. Without a
    file it compares four methods on the embedded digits."""
    named = [*words]
    if named and not named[0].startswith("-"):
        named = ["--config", *named]
    if not {"--config", "--recipe", "--methods"} & {word.partition("=")[0] for word in named}:
        named = ["--recipe", DEFAULT_RECIPE, *named]
    listed = gathered(named, ("methods", "metrics", "only"), ("seeds", "folds"))
    wanted, own = study_settings(listed, "compare", first_paragraph(run), _add_options)
    names = wanted.study.pop("methods") or [*own]
    refuse_repeats("methods", names)
    check_source(wanted.data)
    out = wanted.out or Path("comparison")
    found = compare(
        {name: own.get(name, {}) for name in names},
        wanted.data,
        out=out,
        fit=wanted.fit,
        evaluation={key: value for key, value in wanted.evaluate.items() if value is not None},
        progress=wanted.fit["progress"],
        **wanted.study,
    )
    print(text(found), end="")
    for line in names_of(found.failed):
        print(line)
    print(out / "comparison.html")


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--study.methods",
        type=list[str],
        default=[],
        help="names; those of the configuration by default",
    )
    parser.add_function_arguments(compare, "study", skip=SKIPS)
