"""What a verb that trains was asked for: method, data and options, from files and
flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser

from counterpoint import data as datasets
from counterpoint.cli import choose
from counterpoint.cli.config_files import (
    file_words,
    methods_of,
    named_files,
    read_config,
    updated,
    with_mappings,
    with_stages,
)
from counterpoint.cli.data_flags import DataFlags, add_data_flags, named_source
from counterpoint.cli.help import FIT_OPTIONS, asks_help, short_help
from counterpoint.cli.names import gathered, option_names, taken
from counterpoint.cli.parsing import parsed, parser_for, spelled
from counterpoint.cli.recipes import recipes
from counterpoint.data.source import Source
from counterpoint.training.options import leaves

if TYPE_CHECKING:
    from counterpoint.methods import Method

COMMON_OPTIONS = (
    "out",
    "resume",
    "recipe",
    "config",
    "data.source",
    "data.root",
    "data.labels",
    "study.",
    "model.shared_dim",
    "model.private_dim",
    *FIT_OPTIONS,
    "evaluate.only",
)
"""The options that ``--help`` shows; ``--help-all`` shows the rest too."""

LIST_OPTIONS = (
    "only",
    "evaluate.only",
    "labels",
    "data.labels",
    "batch",
    "data.batch",
    "columns",
    "data.columns",
)
"""Options that may be repeated, ``--only probe --only match`` for ``--only probe match``."""

EVALUATE_SKIPS: set[str | int] = {
    "method",
    "data",
    "cache",
    "progress",
    "judge",
    "feature_extractors",
}


@dataclass(frozen=True)
class Settings:
    """A run, as asked for.

    Attributes:
        method: name of the method.
        model: keywords of its constructor.
        data: keywords of ``data.load``, ``source`` among them.
        fit: fields of ``FitOptions``.
        evaluate: keywords of ``metrics.evaluate``, for a verb that measures.
        study: the verb's own keywords, for one that makes many runs.
        out: run folder.
        resume: resume the run in ``out``.
        overwrite: replace the run in ``out``.
    """

    method: str
    model: dict[str, Any]
    data: dict[str, Any]
    fit: dict[str, Any]
    evaluate: dict[str, Any]
    study: dict[str, Any]
    out: Path | None
    resume: bool
    overwrite: bool


def settings(
    words: Sequence[str],
    *,
    verb: str = "fit",
    recipe: Path | None = None,
    study: Callable[[ArgumentParser], object] | None = None,
) -> Settings:
    """What ``counterpoint fit``, or another verb that trains one method, was asked for.

    Args:
        words: the words after the verb; the first may be the method.
        recipe: a configuration that comes before all else.
        study: adds the options of a verb that makes many runs, in the group ``study``.

    Raises:
        ValueError: an unknown method or option, a configuration that is not one, or a
            value of the wrong type.
        FileNotFoundError: no such configuration file.
    """
    from counterpoint.methods import METHODS

    rest = [*words]
    method = rest.pop(0) if rest and not rest[0].startswith("-") else None
    rest, config = taken(rest, "config")
    rest, resumed = taken(rest, "resume")
    rest, named = taken(rest, "recipe")
    files = [*([recipe] if recipe else []), *named_files(named, resumed, config)]
    measures = recipe is not None or study is not None
    entries = _entries(files, measures)
    rest, flag = taken(rest, "method")
    rest, entries = with_stages(rest, entries)
    of_files = entries.pop("method", None)
    name = method or flag or of_files
    if name is None:
        _name_method(verb, rest)
    name = choose(str(name), [*METHODS], "method")
    title = verb if recipe else f"{verb} {name}"
    data = DataFlags.of(named_source(rest, entries))
    parser = _fit_parser(title, METHODS[name], data.source, measures, study)
    names = option_names(parser)
    if of_files not in (None, name):
        _check_model(name, str(of_files), entries, names, files)
    if asks_help(rest):
        _print_help(parser, entries)
    data.check_keys(with_mappings(entries), names)
    data.check(rest, names)
    flags = spelled(gathered(rest, LIST_OPTIONS), parser, entries)
    values = parsed(parser, [*file_words(entries, names, files), *flags])
    if resumed is not None and (values["out"] is not None or values["overwrite"]):
        raise ValueError(
            f"--resume {resumed} goes on in its own folder; leave out --out and --overwrite"
        )
    out = Path(resumed) if resumed is not None else values["out"]
    return _settings(name, values, out, resumed is not None)


def study_settings(
    words: Sequence[str], verb: str, about: str, study: Callable[[ArgumentParser], object]
) -> tuple[Settings, dict[str, Any]]:
    """What a verb that trains several methods was asked for.

    Args:
        study: adds the verb's own options, in the group ``study``.

    Returns:
        The settings, and by method its own ``model`` and ``fit``.

    Raises:
        ValueError, FileNotFoundError: as ``settings``.
    """
    rest, config = taken(words, "config")
    rest, named = taken(rest, "recipe")
    files = named_files(named, None, config)
    methods: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for path in files:
        content = read_config(path)
        methods |= methods_of(content, path)
        entries = updated(entries, dict(leaves(content)))
    rest, entries = with_stages(rest, entries)
    data = DataFlags.of(named_source(rest, entries))
    parser = _study_parser(verb, about, data.source, study)
    names = option_names(parser)
    if asks_help(rest):
        _print_help(parser, entries)
    data.check_keys(with_mappings(entries), names)
    data.check(rest, names)
    flags = spelled(rest, parser, entries)
    values = parsed(parser, [*file_words(entries, names, files), *flags])
    own = {name: dict(options) for name, options in methods.items()}
    return _settings("", values, values["out"], False), own


def check_source(data: Mapping[str, Any]) -> None:
    """Refuse data that nothing names, and a name that is neither a data set's nor a
    path, by ValueError."""
    if data.get("source") is None:
        raise ValueError(
            f"name the data: --data NAME; choose one of {', '.join(datasets.names())}, or give a folder or a file (.npz, .h5mu, .h5ad)"
        )
    if not Path(str(data["source"])).exists():
        choose(str(data["source"]), [*datasets.names()], "data set")


# ------------------------------------------------------------------------------- parsers


@cache  # see parsing.called
def _fit_parser(
    title: str,
    method: type[Method],
    source: Source[Any] | None,
    measures: bool,
    study: Callable[[ArgumentParser], object] | None,
) -> ArgumentParser:
    """The options of a verb that trains one method.

    Args:
        title: the verb, and the method if the command names it.
        source: of the data, whose options are flags; None for those of all sources.
        measures: whether the verb has the options of ``evaluate``.
        study: adds the verb's own options.
    """
    from counterpoint.training import FitOptions

    parser = parser_for(title, method.title)
    _add_files(parser, "YAML file of options, such as --print_config or a run's config.yaml")
    parser.add_argument("--method", type=str, default=method.name, help="name of the method")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder to make")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="run folder to resume")
    parser.add_argument("--overwrite", action="store_true", help="remove the run that --out holds")
    parser.add_argument(
        "--data.source",
        type=str,
        metavar="NAME",
        help="name of a data set, a folder, or a file (.npz, .h5mu, .h5ad)",
    )
    parser.add_argument(
        "--data.labels",
        type=list[str] | None,
        default=None,
        help="columns of obs to probe, of an .h5mu or .h5ad file",
    )
    parser.add_argument(
        "--data.modalities",
        type=dict[str, str | None] | None,
        default=None,
        help="modalities to read and their likelihoods, of an .h5mu or .h5ad file, '{rna: nb, adt: normal}'",
    )
    add_data_flags(parser, source)
    if (options := method.options_type) is not None:
        parser.add_class_arguments(options, "model")
    parser.add_class_arguments(FitOptions, "fit")
    if measures:
        _add_evaluation(parser, EVALUATE_SKIPS | ({"only", "split"} if study else set()))
    if study is not None:
        study(parser)
    return parser


@cache
def _study_parser(
    verb: str,
    about: str,
    source: Source[Any] | None,
    study: Callable[[ArgumentParser], object],
) -> ArgumentParser:
    """The options of a verb that trains several methods."""
    from counterpoint.training import FitOptions

    parser = parser_for(verb, about)
    _add_files(
        parser,
        "YAML file of data, fit, evaluate, and of each method's own model and fit in methods",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--data.source",
        type=str,
        metavar="NAME",
        help="name of a data set, a folder, or an .npz file",
    )
    add_data_flags(parser, source)
    parser.add_class_arguments(FitOptions, "fit")
    _add_evaluation(parser, EVALUATE_SKIPS | {"split"})
    study(parser)
    return parser


def _add_files(parser: ArgumentParser, about: str) -> None:
    parser.add_argument(
        "--config", action="config", metavar="FILE", help=f"{about}; flags override it"
    )
    parser.add_argument(
        "--recipe",
        type=str,
        metavar="NAME",
        help=f"configuration of the package, read before --config; one of {', '.join(recipes())}",
    )


def _add_evaluation(parser: ArgumentParser, skip: set[str | int]) -> None:
    from counterpoint.metrics import evaluate

    parser.add_function_arguments(evaluate, "evaluate", skip=skip)


# ------------------------------------------------------------------------------- entries


def _entries(files: Sequence[Path], measures: bool) -> dict[str, Any]:
    """Dotted names and values of files, later ones first in force; ``evaluate`` only
    for a verb that measures."""
    entries: dict[str, Any] = {}
    for path in files:
        content = dict(leaves(read_config(path)))
        if not measures:
            content = {k: v for k, v in content.items() if not k.startswith("evaluate.")}
        entries = updated(entries, content)
    return entries


def _check_model(
    name: str, other: str, entries: Mapping[str, Any], names: Sequence[str], files: Sequence[Path]
) -> None:
    """Refuse model options of another method, which the named one does not have."""
    known = with_mappings(entries)
    foreign = [key for key in known if key.startswith("model.") and key not in names]
    if foreign:
        raise ValueError(
            f"{files[-1]} is of {other}, and {name} has no {foreign[0]!r}; name {other}, or no configuration"
        )


def _settings(name: str, values: Mapping[str, Any], out: Path | None, resume: bool) -> Settings:
    return Settings(
        name,
        model=values.get("model", {}),
        data=values.get("data", {}),
        fit=values.get("fit", {}),
        evaluate=values.get("evaluate", {}),
        study=values.get("study", {}),
        out=out,
        resume=resume,
        overwrite=values.get("overwrite", False),
    )


# ---------------------------------------------------------------------------------- help


def _print_help(parser: ArgumentParser, entries: Mapping[str, Any]) -> NoReturn:
    print(short_help(parser, COMMON_OPTIONS, entries))
    raise SystemExit(0)


def _name_method(verb: str, words: Sequence[str]) -> NoReturn:
    """Ask for a method: by the list of methods if help is asked for, else by an error."""
    from counterpoint.methods import METHODS

    if asks_help(words) or "--help-all" in words:
        print(_methods_help(verb, {name: method.title for name, method in METHODS.items()}))
        raise SystemExit(0)
    raise ValueError(
        f"name a method: counterpoint {verb} METHOD --data NAME --out RUN; choose one of {', '.join(METHODS)}"
    )


def _methods_help(verb: str, methods: Mapping[str, str]) -> str:
    return (
        f"usage: counterpoint {verb} METHOD --data NAME --out RUN [options]\n"
        f"       counterpoint {verb} --recipe NAME [--data NAME] --out RUN [options]\n\n"
        f"Methods:\n{_listed(methods)}\n\nRecipes:\n{_listed(recipes())}\n\n"
        f"counterpoint {verb} METHOD --help lists the options of one."
    )


def _listed(about: Mapping[str, str]) -> str:
    width = max(map(len, about))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in about.items())
