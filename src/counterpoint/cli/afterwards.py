"""What fit-prior, fit-decoder and fit-refiner share: flags from the signature of the
function that fits, and the record of the command in its run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from counterpoint.cli.help import FIT_OPTIONS, asks_help, short_help
from counterpoint.cli.names import option_names
from counterpoint.cli.parsing import first_paragraph, parsed, parser_for, spelled, words_for
from counterpoint.methods import Method
from counterpoint.training.run_folder import RunFolder

NO_FLAGS: set[str | int] = {"method", "train", "val", "out", "again", "options", "progress"}
"""Parameters of functions that fit that the command line fills in itself."""

NOT_RECORDED = {"resume"}
"""Flags that do not change what is fitted."""


@dataclass(frozen=True)
class Fitting:
    """A fit to a trained run, as asked for.

    Attributes:
        run: run folder.
        options: keywords by flag.
        words: the flags that differ from their defaults, to record the command.
    """

    run: Path
    options: dict[str, Any]
    words: list[str]


def fitting(
    words: Sequence[str],
    verb: str,
    function: Callable[..., Any],
    records: Mapping[str, Any] | None = None,
) -> Fitting:
    """Parse the words of a verb that fits something to a trained run.

    Args:
        words: the words after the verb.
        function: fits it; its parameters become flags, with its docstring as help.
        records: parameters that are records, whose fields become flags of a group of
            that name; each with its default.
    """
    groups = records or {}
    parser = parser_for(verb, first_paragraph(function))
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_function_arguments(function, skip=NO_FLAGS | {*groups})
    for name, default in groups.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    if asks_help(words):
        print(short_help(parser, _common(parser)))
        raise SystemExit(0)
    defaults = {**parser.get_defaults().as_dict(), **groups}
    values = parsed(parser, spelled(words, parser))
    run = values.pop("run")
    for name, default in groups.items():
        values[name] = type(default)(**values[name])
    recorded = {key: value for key, value in values.items() if key not in NOT_RECORDED}
    return Fitting(run, values, words_for(recorded, defaults))


def _common(parser: ArgumentParser) -> list[str]:
    """The options that ``--help`` shows: all but the rare ones of ``FitOptions``."""
    names = ["run", *option_names(parser)]
    rare = {"fit", "denoiser", "refiner"}
    return [
        name
        for name in names
        if name in FIT_OPTIONS or not (name in rare or name.startswith("fit."))
    ]


def record(method: Method, verb: str, wanted: Fitting) -> None:
    """Save a model that was added to in its run, with the command that did so, and
    remove what was measured on the former model."""
    folder = RunFolder(wanted.run)
    folder.add([verb, *wanted.words], method.checksum)
    method.save_pretrained(folder.model)
