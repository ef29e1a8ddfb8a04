"""``counterpoint evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from counterpoint.cli.help import asks_help, short_help
from counterpoint.cli.names import expanded, gathered, option_names
from counterpoint.cli.parsing import first_paragraph, parsed, parser_for
from counterpoint.cli.runs import evaluated, opened
from counterpoint.cli.settings import EVALUATE_SKIPS

COMMON_OPTIONS = ("run", "only", "split", "rows", "samples", "seed", "json", "detail")
"""The options that ``--help`` shows; ``--help-all`` shows the rest too."""


def run(words: Sequence[str]) -> None:
    """Measure a trained run: one table on the screen, the same numbers in
    RUN/evaluation.json, or in RUN/evaluation-partial.json."""
    parser = _parser()
    if asks_help(words):
        print(short_help(parser, COMMON_OPTIONS))
        return
    listed = gathered(words, ("only", "feature_extractors"))
    values = parsed(parser, expanded(listed, option_names(parser)))
    folder, copy, detail = (values.pop(key) for key in ("run", "json", "detail"))
    drawing = {key: values.pop(key) for key in ("guidance", "solver_steps")}
    extractors = _extractors(values.pop("feature_extractors"))
    method, data = opened(folder)
    method.draw_by(**drawing)
    options = {**values, "feature_extractors": extractors}
    as_trained = all(value is None for value in drawing.values())
    evaluation = evaluated(method, data, folder, options, as_trained)
    if copy is not None:
        evaluation.to_json(copy)
    print(evaluation.table(detail=detail))


@cache
def _parser() -> ArgumentParser:
    from counterpoint.metrics import evaluate

    parser = parser_for("evaluate", first_paragraph(run))
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here too")
    parser.add_argument("--detail", action="store_true", help="a line for every modality too")
    parser.add_argument(
        "--feature_extractors",
        type=list[str],
        default=[],
        help="MODALITY=FILE.py, repeated for more: a Python file, which is run, whose features(values) replaces the judge's features",
    )
    parser.add_argument(
        "--guidance", type=float | None, default=None, help="guidance of diffusion decoders"
    )
    parser.add_argument(
        "--solver_steps", type=int | None, default=None, help="steps of diffusion decoders"
    )
    parser.add_function_arguments(evaluate, skip=EVALUATE_SKIPS)
    return parser


def _extractors(entries: Sequence[str]) -> dict[str, Any]:
    """Functions by modality from entries MODALITY=FILE.py."""
    from counterpoint.metrics import read_extractor

    extractors = {}
    for entry in entries:
        name, equals, file = entry.partition("=")
        if not equals:
            raise ValueError(f"--feature_extractors {entry} must be MODALITY=FILE.py")
        extractors[name] = read_extractor(Path(file))
    return extractors
