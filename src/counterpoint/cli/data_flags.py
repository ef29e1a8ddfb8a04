"""Flags of a data set: those that every source has, and those of its own options.

The source is looked up before the flags are read, and its record of options says which
flags there are. Where no source is named yet, as in ``fit METHOD --help``, the flags of
all sources are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser

from counterpoint import data as datasets
from counterpoint.data.registry import KINDS, MAPPING, SETS, all_options, find
from counterpoint.data.source import Source

_SKIPPED: set[str | int] = {"source", "present", "labels", "covariates", "modalities", "options"}
"""Arguments of ``data.load`` that no flag is made from."""

_SOURCE_FLAGS = ("--data", "--data.source")


@dataclass(frozen=True)
class DataFlags:
    """The flags of one source, or of all.

    Attributes:
        called: how the source was called; None where none was named.
        source: what it is; None where that is not known.
    """

    called: str | None = None
    source: Source[Any] | None = None

    @staticmethod
    def of(called: str | None) -> DataFlags:
        """Return the flags of a source as it was called on the command line."""
        try:
            return DataFlags(called, None if called is None else find(called))
        except (FileNotFoundError, ValueError):  # loading says what is wrong
            return DataFlags(called)

    def check(self, words: Sequence[str], names: Sequence[str]) -> None:
        """Check that no flag is an option of another source.

        Args:
            words: of the command line.
            names: of all flags that there are.

        Raises:
            ValueError: one is.
        """
        if self.source is None or self.called is None:
            return
        given = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
        for flag in given:
            option = flag.replace("-", "_").removeprefix("data.")
            known = any(name == option or name.endswith(f".{option}") for name in names)
            if not known and option in all_options():
                raise ValueError(self.source.refusal(option, self.called))

    def check_keys(self, entries: Mapping[str, Any], names: Sequence[str]) -> None:
        """Check that no entry ``data.NAME`` of a configuration is an option of another
        source; raise a ValueError if one is."""
        keys = [key for key in entries if key.startswith("data.") and key not in names]
        self.check([f"--{key}" for key in keys], names)


def add_data_flags(
    parser: ArgumentParser, source: Source[Any] | None, group: str | None = "data"
) -> None:
    """Add the flags of ``data.load`` and of a source to a parser.

    Args:
        source: whose options are flags; None for those of all.
        group: what the flags are dotted with.
    """
    parser.add_function_arguments(datasets.load, group, skip=_SKIPPED)
    prefix = "" if group is None else f"{group}."
    if source is not None:
        _add_own(parser, source, prefix)
    else:
        _add_all(parser, prefix)


def named_source(words: Sequence[str], entries: Mapping[str, Any] | None = None) -> str | None:
    """Return the source that flags name, or else the entries of a configuration.

    >>> named_source(["--data", "cub", "--fold=1"])
    'cub'
    """
    source = (entries or {}).get("data.source")
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        if flag in _SOURCE_FLAGS:
            source = value if equals else following
    return None if source is None else str(source)


def _add_own(parser: ArgumentParser, source: Source[Any], prefix: str) -> None:
    """Add a flag for each option of a source."""
    texts = _texts(source)
    hints = get_type_hints(source.options)
    defaults = source.options()
    for name in source.option_names:
        default = getattr(defaults, name)
        parser.add_argument(
            f"--{prefix}{name}", type=hints[name], default=default, help=texts.get(name)
        )


def _add_all(parser: ArgumentParser, prefix: str) -> None:
    """Add a flag for each option of any source; without a value, its default counts."""
    for name, by_source in all_options().items():
        helps: dict[str, list[str]] = {}
        for source in (*SETS.values(), *KINDS, MAPPING):
            if name in source.option_names:
                helps.setdefault(_texts(source).get(name, ""), []).append(source.name)
        parser.add_argument(
            f"--{prefix}{name}",
            type=reduce(or_, by_source.values()) | None,
            default=None,
            help="; ".join(f"of {', '.join(names)}: {text}" for text, names in helps.items()),
        )


def _texts(source: Source[Any]) -> dict[str, str]:
    """What a record of options says of each option."""
    described = parse(source.options.__doc__ or "").params
    return {one.arg_name: " ".join((one.description or "").split()) for one in described}
