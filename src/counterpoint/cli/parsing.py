"""From words to typed values: flags come from the signatures of what they are passed
to."""

from __future__ import annotations

import json
import re
import warnings
from argparse import ArgumentError, HelpFormatter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar

import yaml
from jsonargparse import ArgumentParser

from counterpoint.cli.help import asks_help, short_help, unmarked, usage
from counterpoint.cli.names import expanded, option_names
from counterpoint.core.documents import parse_yaml
from counterpoint.training.options import lifted, plain

Result = TypeVar("Result")

CLASS_PATH = "class_path"
"""Key by which jsonargparse would import a class."""


class _Parser(ArgumentParser):
    """A parser whose help begins with one line of usage, not with all options."""

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The help of every option."""
        self.usage = usage(self)
        return super().format_help(formatter)


def parser_for(verb: str, about: str) -> ArgumentParser:
    """A parser whose errors are exceptions, and whose ``--help-all`` shows every
    option."""
    parser = _Parser(
        prog=f"counterpoint {verb}",
        description=about,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--help-all", action="help", help="Show every option and exit.")
    return parser


def called(target: Callable[..., Result], verb: str, words: Sequence[str]) -> Result:
    """Call a function or a record with its own flags; parameters without a default are
    positional."""
    parser = _parser_of(target, verb)
    if asks_help(words):
        print(short_help(parser, _own_first(target, parser)))
        raise SystemExit(0)
    return target(**parsed(parser, spelled(words, parser)))


@cache  # to read signatures takes longer than a short command, and a process may run many
def _parser_of(target: Callable[..., object], verb: str) -> ArgumentParser:
    """A parser of the flags of a function or a record."""
    parser = parser_for(verb, first_paragraph(target))
    add = parser.add_class_arguments if isinstance(target, type) else parser.add_function_arguments
    add(target, as_positional=True)
    return parser


def _own_first(target: Any, parser: ArgumentParser) -> list[str]:
    """Options in the order of help: positional ones, then the fields of a record itself,
    then inherited ones."""
    own = getattr(target, "__annotations__", {})
    order = {
        action.dest: 0 if not action.option_strings else 1 if action.dest in own else 2
        for action in parser._actions
    }
    return sorted(order, key=order.__getitem__)


def first_paragraph(documented: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return unmarked((documented.__doc__ or "").partition("\n\n")[0])


def spelled(
    words: Sequence[str], parser: ArgumentParser, before: Mapping[str, Any] | None = None
) -> list[str]:
    """The words spelled out in full, after words that lift the limits on training that
    they replace.

    Args:
        before: entries of configuration files, for the warning that a cooldown goes.
    """
    flags = expanded(words, option_names(parser))
    return [*lifted_words(flags, before or {}), *flags]


def lifted_words(flags: Sequence[str], before: Mapping[str, Any]) -> list[str]:
    """Words that lift earlier limits on training, if the flags give one of their own.

    Args:
        flags: options spelled out in full.
        before: entries that stood before them.
    """
    given: dict[str, Any] = {}
    for word, following in zip(flags, [*flags[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name.startswith("--fit."):
            text = value if equals else following
            given[name.removeprefix("--fit.")] = None if text in ("-1", "null") else text
    resets = lifted(given)
    if "cooldown" in resets and before.get("fit.cooldown"):
        warnings.warn(
            "the cooldown is left out: it counts back from max_steps, which another limit replaces; give both",
            stacklevel=2,
        )
    return [f"--fit.{name}={json_word(value)}" for name, value in resets.items()]


def parsed(parser: ArgumentParser, words: Sequence[str]) -> dict[str, Any]:
    """What the parser makes of the words.

    Raises:
        ValueError: a value of the wrong type, a missing argument, one too many, or the
            name of a class, which would be imported.
    """
    _refuse_classes(words, option_names(parser))
    try:
        values: dict[str, Any] = parser.parse_args([*words]).as_dict()
    except ArgumentError as error:
        raise ValueError(explained(" ".join(str(error).split()))) from None
    finally:
        # jsonargparse keeps a --print_config that came before an error, for the next command
        vars(parser).pop("print_config", None)
    values.pop("help_all", None)
    return values


def explained(message: str) -> str:
    """Translate a message of jsonargparse: which option, what was expected, what was
    given."""
    error = re.match(
        r'Parser key "(?P<key>[^"]+)": .*?(?:Subtypes: [\[(](?P<types>.*?)[\])] Errors:|Expected an? (?P<type>.*?)\. Got)',
        message,
    )
    if not error:
        return message
    value = re.search(r"(?:Given|Got) value: (.*)$", message)
    expected = (error["types"] or error["type"]).replace("<class 'NoneType'>", "null")
    expected = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", expected)
    expected = expected.replace("typing.Literal", "one of ").replace(", null", " or null")
    return f"option --{error['key']}: expected {expected}, got {value[1] if value else 'something else'}"


# ----------------------------------------------------------------------- values as words


def json_word(value: Any) -> str:
    """A value of a configuration file as a word: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def as_word(value: Any) -> str:
    """A value as a word of a command line: sequences and mappings as YAML on one line.

    >>> as_word("a"), as_word(0.5), as_word(("a", "b"))
    ('a', '0.5', '[a, b]')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int | float | None):
        return json.dumps(value)
    return str(yaml.safe_dump(plain(value), default_flow_style=True, width=10_000)).strip()


def words_for(values: Mapping[str, Any], defaults: Mapping[str, Any], group: str = "") -> list[str]:
    """The flags that make these values: one for each that differs from its default.

    >>> words_for({"lr": 0.1, "steps": 5}, {"lr": 0.2, "steps": 5})
    ['--lr', '0.1']
    """
    words = []
    for name, value in values.items():
        if value == defaults[name]:
            continue
        if is_dataclass(value):
            words += words_for(vars(value), vars(defaults[name]), f"{group}{name}.")
        else:
            words += [f"--{group}{name}", as_word(value)]
    return words


# ------------------------------------------------------------------------ no foreign code


def _refuse_classes(words: Sequence[str], names: Sequence[str]) -> None:
    """Refuse what jsonargparse would import: a ``class_path`` in any value, and a value
    of a whole group, which may be the name of a class or of another file."""
    group = ""
    for word in words:
        is_option = word.startswith("--")
        name, equals, value = (
            word.removeprefix("--").partition("=") if is_option else ("", "", word)
        )
        option = name.removesuffix("+")
        whole = option or group
        if value and whole and any(other.startswith(f"{whole}.") for other in names):
            parts = [other for other in names if other.startswith(f"{whole}.")]
            raise ValueError(
                f"--{whole} takes no value of its own, got {value}; give its parts, such as --{parts[0]} VALUE"
            )
        if CLASS_PATH in option.split(".") or _holds_class(value):
            raise ValueError(
                f"{word}: {CLASS_PATH} is not allowed, for it would import code; give plain values"
            )
        group = option if name and not equals else ""


def _holds_class(value: Any) -> bool:
    """Whether a value, or a text as YAML, has a key ``class_path`` anywhere."""
    if isinstance(value, str):
        if not any(sign in value for sign in "{[:"):
            return False
        try:
            content = parse_yaml(value, "it")
        except ValueError:
            return CLASS_PATH in value
        return content != value and _holds_class(content)
    if isinstance(value, Mapping):
        return CLASS_PATH in value or any(map(_holds_class, value.values()))
    return isinstance(value, list) and any(map(_holds_class, value))
