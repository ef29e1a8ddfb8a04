"""From words to typed options: flags come from the signatures of what they are passed
to.

Options are dotted, ``--model.shared_dim``; a name that is unambiguous does without its
group, ``--shared_dim``. A configuration file says the same in YAML, and is read as if
its entries stood on the command line before the others.
"""

from __future__ import annotations

import json
import re
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser

from counterpoint import data as datasets
from counterpoint.cli import choose
from counterpoint.cli.data_flags import DataFlags, add_data_flags, named_source
from counterpoint.cli.recipes import config_file, recipes
from counterpoint.cli.recipes import recipe as recipe_file
from counterpoint.core.documents import parse_yaml, read_yaml
from counterpoint.data.source import Source
from counterpoint.training.options import lifted, plain

Result = TypeVar("Result")

SHORT = {"data": "data.source", "seed": "fit.seed", "batch_size": "fit.batch_size"}
"""What a bare name stands for where several groups, or a group itself, have it."""

_STAGES = "fit.stages."

CLASS_PATH = "class_path"
"""What jsonargparse calls a class that it is to import."""


_MAPPINGS = (
    "data.modalities",
    "data.layers",
    "data.private_labels",
    "data.top_features",
    "data.covariate_kinds",
)
"""Options that are mappings themselves, and no groups of options."""

_LISTS = (
    "only",
    "evaluate.only",
    "labels",
    "data.labels",
    "batch",
    "data.batch",
    "columns",
    "data.columns",
)

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
        method: name of the method; ``model`` the keywords of its constructor.
        data: keywords of ``data.load``, ``source`` among them.
        fit: fields of ``FitOptions``.
        evaluate: keywords of ``metrics.evaluate``, for a verb that measures.
        study: keywords of what the verb does with runs, for one that makes many.
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


def parser_for(verb: str, about: str) -> ArgumentParser:
    """A parser whose errors are exceptions."""
    return ArgumentParser(
        prog=f"counterpoint {verb}", description=about, exit_on_error=False, allow_abbrev=False
    )


@cache  # reading signatures takes longer than all that a short command does, and a process may run many commands
def _parser_of(target: Callable[..., object], verb: str) -> ArgumentParser:
    """A parser of the flags that a function or a record has."""
    parser = parser_for(verb, " ".join((target.__doc__ or "").partition("\n\n")[0].split()))
    add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
    add(target, as_positional=True)
    return parser


def called(target: Callable[..., Result], verb: str, words: Sequence[str]) -> Result:
    """What a function or a record makes of its own flags, called with them; those
    without a default are positional, and records of options have flags of their own,
    ``--refiner.steps``."""
    parser = _parser_of(target, verb)
    spelled = expanded(words, option_names(parser))
    values = parsed(parser, [*_lifted_words(spelled), *spelled])
    kinds = {
        name: type(parameter.default) for name, parameter in signature(target).parameters.items()
    }
    return target(
        **{
            key: kinds[key](**value) if is_dataclass(kinds[key]) else value
            for key, value in values.items()
        }
    )


def words_for(options: Any, usual: Any, group: str = "") -> list[str]:
    """The words that ``called`` makes a record of options from: a flag and a value for
    each entry that differs from the usual ones."""
    words = []
    for entry in fields(options):
        name, value, default = (
            group + entry.name,
            getattr(options, entry.name),
            getattr(usual, entry.name),
        )
        if value == default:
            continue
        if is_dataclass(value):
            words += words_for(value, default, f"{name}.")
        else:
            text = (
                value
                if isinstance(value, str)
                else json.dumps(value)
                if isinstance(value, int | float | None)
                else _flow(value)
            )
            words += [f"--{name}", text]
    return words


def _flow(value: Any) -> str:
    """A sequence or a mapping as YAML on one line."""
    return str(yaml.safe_dump(plain(value), default_flow_style=True, width=10_000)).strip()


def parsed(parser: ArgumentParser, words: Sequence[str]) -> dict[str, Any]:
    """What the parser makes of the words.

    Raises:
        ValueError: a value of the wrong type, a missing argument or one too many; the
            name of a class, which would be imported.
    """
    _refuse_classes(words, option_names(parser))
    try:
        values: dict[str, Any] = parser.parse_args([*words]).as_dict()
    except ArgumentError as error:
        raise ValueError(explained(" ".join(str(error).split()))) from None
    finally:
        vars(parser).pop(
            "print_config", None
        )  # jsonargparse keeps a --print_config that came before an error, and would answer it next time
    return values


def _refuse_classes(words: Sequence[str], names: Sequence[str]) -> None:
    """Refuse what jsonargparse would import: a ``class_path`` in any value, and a value
    of a whole group, which may be the name of a class or of another file."""
    group = ""
    for word in words:
        name, equals, value = (
            word.removeprefix("--").partition("=") if word.startswith("--") else ("", "", word)
        )
        option = name.removesuffix("+")
        if (
            value
            and (whole := group if not name else option)
            and any(other.startswith(f"{whole}.") for other in names)
        ):
            raise ValueError(
                f"--{whole} {value} is no option of its own; give one of its group, such as --{_first(whole, names)}"
            )
        if CLASS_PATH in option.split(".") or _holds_class(value):
            raise ValueError(
                f"{word}: {CLASS_PATH} is not allowed, for it would import code; give plain values"
            )
        group = option if name and not equals else ""


def _first(group: str, names: Sequence[str]) -> str:
    return next(name for name in names if name.startswith(f"{group}."))


def _holds_class(value: Any) -> bool:
    """Whether a value, or a text as YAML, has a key ``class_path`` anywhere."""
    if isinstance(value, str):
        if not any(sign in value for sign in "{[:"):
            return False
        try:
            found = parse_yaml(value, "it")
        except ValueError:
            return CLASS_PATH in value
        return found != value and _holds_class(found)
    if isinstance(value, Mapping):
        return CLASS_PATH in value or any(map(_holds_class, value.values()))
    return isinstance(value, list) and any(map(_holds_class, value))


def explained(message: str) -> str:
    """jsonargparse's message in the words of the command line: the option, what was
    expected, what was given."""
    found = re.match(
        r'Parser key "(?P<key>[^"]+)": .*?(?:Subtypes: [\[(](?P<types>.*?)[\])] Errors:|Expected an? (?P<type>.*?)\. Got)',
        message,
    )
    if not found:
        return message
    value = re.search(r"(?:Given|Got) value: (.*)$", message)
    expected = (found["types"] or found["type"]).replace("<class 'NoneType'>", "null")
    expected = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", expected).replace(
        "typing.Literal", "one of "
    )
    return f"option --{found['key']}: expected {expected.replace(', null', ' or null')}, got {value[1] if value else 'something else'}"


def option_names(parser: ArgumentParser) -> list[str]:
    """Names of the options without their dashes."""
    return [
        text[2:]
        for action in parser._actions
        for text in action.option_strings
        if text.startswith("--")
    ]


def expanded(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words with every option spelled out in full.

    Raises:
        ValueError: an unknown or ambiguous option.
    """
    result = []
    for word in words:
        if not word.startswith("--") or word == "--":
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        result.append(f"--{full_name(name.replace('-', '_'), names)}{equals}{value}")
    return result


def full_name(name: str, names: Sequence[str]) -> str:
    """The one option that ``name`` means."""
    if SHORT.get(name) in names:
        return SHORT[name]
    if name in names or name.rpartition(".")[0] == "fit.trainer":
        return name
    fitting = [full for full in names if full.endswith(f".{name}")]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(
            f"option --{name} could be {' or '.join(f'--{full}' for full in fitting)}; give the full name"
        )
    last = {full.rpartition(".")[2]: full for full in names}
    close = get_close_matches(name, names, 1) or [
        last[n] for n in get_close_matches(name.rpartition(".")[2], [*last], 1)
    ]
    raise ValueError(
        f"unknown option --{name}; "
        + (f"did you mean --{close[0]}?" if close else f"the options are {', '.join(names)}")
    )


def gathered(words: Sequence[str], names: Sequence[str], numbers: Sequence[str] = ()) -> list[str]:
    """``--to a --to b`` and ``--to a b`` alike, as one list each; of numbers in those
    of ``numbers``."""
    rest: list[str] = []
    found: dict[str, list[str]] = {name: [] for name in (*names, *numbers)}
    current: str | None = None
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            current = name if name in found else None
            if current is None:
                rest.append(word)
            elif equals:
                found[current].append(value)
        elif current is not None:
            found[current].append(word)
        else:
            rest.append(word)
    listed = {
        name: f"[{', '.join(values)}]" if name in numbers else json.dumps(values)
        for name, values in found.items()
        if values
    }
    return [*rest, *(f"--{name}={values}" for name, values in listed.items())]


@cache
def _run_parser(
    verb: str,
    name: str,
    kind: Any,
    source: Source[Any] | None,
    measures: bool,
    study: Callable[[ArgumentParser], object] | None,
) -> ArgumentParser:
    """A parser of what a run of one method is told.

    Args:
        verb: and the method, where the command names it.
        source: of the data, whose options are flags; None for those of all.
        measures: whether what is measured is told, too.
    """
    from counterpoint.metrics import evaluate
    from counterpoint.training import FitOptions

    parser = parser_for(verb, kind.title)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file of options, as --print_config or a run's config.yaml has them; flags come after it",
    )
    _add_recipe(parser)
    parser.add_argument("--method", type=str, default=name, help="name of the method")
    parser.add_argument("--out", type=Path, default=None, help="run folder to make")
    parser.add_argument(
        "--resume", type=Path, default=None, help="run folder to go on with, in place of --out"
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the run that --out holds")
    parser.add_argument(
        "--data.source",
        type=str,
        default=None,
        help="name of a data set, a folder, or a file (.npz, .h5mu, .h5ad); --data for short",
    )
    parser.add_argument(
        "--data.labels",
        type=list[str] | None,
        default=None,
        help="of an .h5mu or .h5ad file: columns of obs that are probed",
    )
    parser.add_argument(
        "--data.modalities",
        type=dict[str, str | None] | None,
        default=None,
        help="of an .h5mu or .h5ad file: those to read and their likelihoods, '{rna: nb, adt: normal}'",
    )
    add_data_flags(parser, source)
    parser.add_class_arguments(kind, "model", skip={"modalities"})
    parser.add_class_arguments(FitOptions, "fit")
    if measures:
        parser.add_function_arguments(
            evaluate, "evaluate", skip=EVALUATE_SKIPS | ({"only", "split"} if study else set())
        )
    if study is not None:
        study(parser)
    return parser


def settings(
    words: Sequence[str],
    *,
    verb: str = "fit",
    recipe: Path | None = None,
    study: Callable[[ArgumentParser], object] | None = None,
) -> Settings:
    """What ``counterpoint fit`` (or another verb that trains) was asked for.

    Args:
        words: the words after the verb; the first may be the method.
        recipe: a configuration that comes before all else.
        study: adds the options of a verb that makes many runs, in the group ``study``.

    Raises:
        ValueError: an unknown method or option, or a configuration that is not one, or
            a value of the wrong type.
        FileNotFoundError: no such configuration file.
    """
    from counterpoint.methods import METHODS

    rest = [*words]
    method = rest.pop(0) if rest and not rest[0].startswith("-") else None
    rest, config = _taken(rest, "config")
    rest, named = _taken(rest, "recipe")
    rest, resumed = _taken(rest, "resume")
    files = [path for path in (recipe, *_files(named, resumed, config)) if path is not None]
    entries: dict[str, Any] = {}
    measures = recipe is not None or study is not None
    for path in files:
        entries = _over(
            entries,
            {
                key: value
                for key, value in leaves(read_config(path))
                if measures or not key.startswith("evaluate.")
            },
        )
    rest, flag = _taken(rest, "method")
    rest, entries = _stages_joined(rest, entries)
    of = entries.pop("method", None)
    name = method or flag or of
    if name is None and {"-h", "--help"} & {*rest}:
        print(_methods_help(verb, METHODS))
        raise SystemExit(0)
    if name is None:
        raise ValueError(
            f"name a method: counterpoint {verb} METHOD --data NAME --out RUN; choose one of {', '.join(METHODS)}"
        )
    kind: Any = METHODS[choose(str(name), [*METHODS], "method")]
    data = DataFlags.of(named_source(rest, entries))
    title = verb if recipe else f"{verb} {name}"
    parser = _run_parser(title, str(name), kind, data.source, measures, study)
    names = option_names(parser)
    foreign = [key for key in _mapped(entries) if key.startswith("model.") and key not in names]
    if foreign and of not in (None, name):
        raise ValueError(
            f"{files[-1]} is of {of}, and {name} has no {foreign[0]!r}; name {of}, or no configuration"
        )
    data.check_keys(_mapped(entries), names)
    data.check(rest, names)
    from_files = [f"--{key}={_word(value)}" for key, value in _known(entries, names, files)]
    flags = expanded(gathered(rest, _LISTS), names)
    found = parsed(parser, [*from_files, *_lifted_words(flags, entries), *flags])
    groups = {key: found.get(key, {}) for key in ("model", "data", "fit", "evaluate", "study")}
    if resumed is not None and (found["out"] is not None or found["overwrite"]):
        raise ValueError(
            f"--resume {resumed} goes on in its own folder; leave out --out and --overwrite"
        )
    out = Path(resumed) if resumed is not None else found["out"]
    return Settings(
        str(name), **groups, out=out, resume=resumed is not None, overwrite=found["overwrite"]
    )


@cache
def _study_parser(
    verb: str,
    about: str,
    source: Source[Any] | None,
    study: Callable[[ArgumentParser], object],
) -> ArgumentParser:
    """A parser of what runs of several methods are told."""
    from counterpoint.metrics import evaluate
    from counterpoint.training import FitOptions

    parser = parser_for(verb, about)
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file of data, fit, evaluate, and of each method's own model and fit in methods",
    )
    _add_recipe(parser)
    parser.add_argument("--out", type=Path, default=None, help="folder to make")
    parser.add_argument(
        "--data.source",
        type=str,
        default=None,
        help="name of a data set, a folder, or an .npz file; --data for short",
    )
    add_data_flags(parser, source)
    parser.add_class_arguments(FitOptions, "fit")
    parser.add_function_arguments(evaluate, "evaluate", skip=EVALUATE_SKIPS | {"split"})
    study(parser)
    return parser


def study_settings(
    words: Sequence[str], verb: str, about: str, study: Callable[[ArgumentParser], object]
) -> tuple[Settings, dict[str, Any]]:
    """What a verb that trains several methods was asked for, and its configuration's
    ``methods``: by name, their own ``model`` and ``fit``.

    Args:
        study: adds the verb's own options, in the group ``study``.

    Raises:
        ValueError, FileNotFoundError: as ``settings``.
    """
    rest, config = _taken(words, "config")
    rest, named = _taken(rest, "recipe")
    files = _files(named, None, config)
    methods: dict[str, Any] = {}
    entries: dict[str, Any] = {}
    for path in files:
        content = read_config(path)
        methods |= _methods_of(content, path)
        entries = _over(entries, dict(leaves(content)))
    rest, entries = _stages_joined(rest, entries)
    data = DataFlags.of(named_source(rest, entries))
    parser = _study_parser(verb, about, data.source, study)
    names = option_names(parser)
    data.check_keys(_mapped(entries), names)
    data.check(rest, names)
    from_files = [f"--{key}={_word(value)}" for key, value in _known(entries, names, files)]
    flags = expanded(rest, names)
    found = parsed(parser, [*from_files, *_lifted_words(flags, entries), *flags])
    groups = {key: found.get(key, {}) for key in ("data", "fit", "evaluate", "study")}
    return Settings("", {}, **groups, out=found["out"], resume=False, overwrite=False), {
        name: dict(own) for name, own in methods.items()
    }


def _add_recipe(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        type=str,
        default=None,
        help=f"a configuration that comes with the package, read before --config: {', '.join(recipes())}",
    )


def _files(recipe: str | None, resumed: str | None, config: str | None) -> list[Path]:
    """The files of options that were named, in the order in which they are read."""
    found = [
        None if recipe is None else recipe_file(recipe),
        None if resumed is None else Path(resumed) / "config.yaml",
        None if config is None else config_file(config),
    ]
    return [path for path in found if path is not None]


def _methods_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """What each method of a configuration has of its own, taken out of it; of one of a
    single method, that method and its model."""
    methods = content.pop("methods", None) or {}
    if not isinstance(methods, Mapping) or not all(
        isinstance(value, Mapping) for value in methods.values()
    ):
        raise ValueError(
            f"{path}: methods must say what each has of its own, as in 'methods: {{idmvae: {{model: {{shared_dim: 16}}}}}}'"
        )
    single = content.pop("method", None)
    alone = {} if single is None else {str(single): {"model": content.pop("model", None) or {}}}
    return {**alone, **methods}


def _over(entries: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Entries and those that come after them, whose limits on training replace the
    limits of the former."""
    of_fit = {
        key.removeprefix("fit."): value for key, value in later.items() if key.startswith("fit.")
    }
    gone = {f"fit.{name}" for name in lifted(of_fit)}
    return {**{key: value for key, value in entries.items() if key not in gone}, **later}


def _lifted_words(flags: Sequence[str], entries: Mapping[str, Any] | None = None) -> list[str]:
    """Words that lift the limits on training that stood before the flags, where these
    give one of their own.

    Args:
        flags: options spelled out in full.
        entries: what stood before them, for the warning that a cooldown goes.
    """
    given: dict[str, Any] = {}
    for word, following in zip(flags, [*flags[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("--fit."):
            text = value if equals else following
            given[name.removeprefix("--fit.")] = None if text in ("-1", "null") else text
    resets = lifted(given)
    if "cooldown" in resets and (entries or {}).get("fit.cooldown"):
        warnings.warn(
            "the cooldown is left out: it counts back from max_steps, which another limit replaces; give both",
            stacklevel=2,
        )
    return [f"--fit.{name}={_word(value)}" for name, value in resets.items()]


def read_config(path: Path) -> dict[str, Any]:
    """A configuration file as the groups ``method``, ``model``, ``data``, ``fit``,
    ``evaluate``; a run's own config.yaml is understood too.

    Raises:
        FileNotFoundError: no such file. ValueError: not a mapping in YAML.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no configuration file {path}; give a YAML file or a folder that holds a run"
        )
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no options; expected a mapping such as 'method: idmvae'")
    content = {
        str(key): value
        for key, value in content.items()
        if key not in ("rows", "out", "resume", "overwrite", "config", "recipe")
    }
    method = content.get("method")
    if isinstance(method, dict):  # as training writes it
        content |= {"method": method.get("name"), "model": method.get("config", {})}
    if isinstance(content.get("data"), str):
        content["data"] = {"source": content["data"]}
    return content


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a tree."""
    for key, value in tree.items():
        here = f"{path}{key}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{here}.")
        else:
            yield here, value


def check_source(data: Mapping[str, Any]) -> None:
    """Refuse data that nothing names, and a name that is neither a data set's nor a
    path, by ValueError."""
    if data.get("source") is None:
        raise ValueError(
            f"name the data: --data NAME; choose one of {', '.join(datasets.names())}, or give a folder or a file (.npz, .h5mu, .h5ad)"
        )
    if not Path(str(data["source"])).exists():
        choose(str(data["source"]), [*datasets.names()], "data set")


def run_groups(path: Path) -> dict[str, Any]:
    """The configuration of a run folder.

    Raises:
        FileNotFoundError: it is no run folder.
    """
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(
            f"{path} is not a run folder: it holds no config.yaml; make one with counterpoint fit METHOD --data NAME --out {path}"
        )
    return read_config(path / "config.yaml")


def _taken(words: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """The words without ``--name VALUE`` (or ``--name=VALUE``), and the last such
    value."""
    rest, value, waiting = [], None, False
    for word in words:
        if waiting:
            value, waiting = word, False
        elif word == f"--{name}":
            waiting = True
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    if waiting:
        raise ValueError(f"--{name} needs a value")
    return rest, value


def _stages_joined(
    words: Sequence[str], entries: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Options of single stages, ``fit.stages.STAGE.NAME`` in files and flags, as the
    one option ``fit.stages``; flags come after files."""
    rest, given, waiting = [], dict(entries), ""
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if waiting:
            given[waiting], waiting = parse_yaml(word, f"--{waiting}"), ""
        elif word.startswith("--") and name.startswith((_STAGES, _STAGES.removeprefix("fit."))):
            key = _STAGES + name.partition("stages.")[2].replace("-", "_")
            if equals:
                given[key] = parse_yaml(value, f"--{key}")
            else:
                waiting = key
        else:
            rest.append(word)
    if waiting:
        raise ValueError(f"--{waiting} needs a value")
    joined: dict[str, dict[str, Any]] = {}
    for key in [key for key in given if key.startswith(_STAGES)]:
        stage, dot, option = key.removeprefix(_STAGES).partition(".")
        if not dot:
            raise ValueError(
                f"--{key} must name a stage and an option, as in --fit.stages.flows.max_epochs"
            )
        joined.setdefault(stage, {})[option] = given.pop(key)
    return rest, given | ({"fit.stages": joined} if joined else {})


def _known(
    entries: Mapping[str, Any], names: Sequence[str], files: Sequence[Path]
) -> Iterator[tuple[str, Any]]:
    for key, value in _mapped(entries).items():
        if key not in names and not key.startswith("fit.trainer."):
            close = get_close_matches(key, names, 1)
            group = key.partition(".")[0] + "."
            among = [name for name in names if name.startswith(group)] or [
                "method",
                "model",
                "data",
                "fit",
                "evaluate",
            ]
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"unknown key {key!r} in {' or '.join(map(str, files))}; {hint}choose one of {', '.join(among)}"
            )
        yield key, value


def _mapped(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries with those of one mapping joined again."""
    joined: dict[str, Any] = {}
    for key, value in entries.items():
        option, _, name = key.rpartition(".")
        if option in _MAPPINGS:
            joined[option] = {**joined.get(option, {}), name: value}
        else:
            joined[key] = value
    return joined


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _methods_help(verb: str, methods: Mapping[str, Any]) -> str:
    width = max(map(len, methods))
    listed = "\n".join(f"  {name:<{width}}  {method.title}" for name, method in methods.items())
    known = recipes()
    wide = max(map(len, known))
    shipped = "\n".join(f"  {name:<{wide}}  {about}" for name, about in known.items())
    return (
        f"usage: counterpoint {verb} METHOD --data NAME --out RUN [options]\n"
        f"       counterpoint {verb} --recipe NAME [--data NAME] --out RUN [options]\n\n"
        f"Methods:\n{listed}\n\nRecipes:\n{shipped}\n\n"
        f"counterpoint {verb} METHOD --help lists the options of one."
    )
