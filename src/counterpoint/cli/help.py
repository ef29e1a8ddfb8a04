"""Short help: the options that most runs need, one clause each."""

from __future__ import annotations

import re
import textwrap
from argparse import Action
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from counterpoint.cli.names import option_names, short_name

WIDTH = 100
"""Columns of a line of help."""


HELP_OPTIONS = ("help", "help_all")
"""Options that only print help."""

FIT_OPTIONS = ("fit.max_epochs", "fit.max_steps", "fit.batch_size", "fit.lr", "fit.seed")
"""The fields of ``FitOptions`` that short help shows."""


def asks_help(words: Sequence[str]) -> bool:
    """Whether the words ask for short help."""
    return bool({"-h", "--help"} & {*words})


def short_help(
    parser: ArgumentParser, common: Sequence[str], before: Mapping[str, Any] | None = None
) -> str:
    """An entry for each common option: its shortest name, what it is, its default.

    Args:
        parser: has the options.
        common: names of options in full, in order; a group, such as ``study.``, stands
            for all its options. Those that the parser does not have are left out.
        before: entries of configuration files, which replace defaults.
    """
    names = option_names(parser)
    actions = {action.dest: action for action in parser._actions}
    chosen = _chosen(common, [dest for dest in actions if dest not in HELP_OPTIONS])
    signs = {dest: _sign(actions[dest], short_name(dest, names)) for dest in chosen}
    column = max(map(len, signs.values())) + 4
    lines = []
    for dest in chosen:
        default = (before or {}).get(dest, actions[dest].default)
        first, *more = textwrap.wrap(_about(actions[dest], default), WIDTH - column - 2) or [""]
        lines += [
            f"  {signs[dest]:<{column}}{first}",
            *(" " * (column + 2) + line for line in more),
        ]
    return "\n".join(
        [
            f"usage: {usage(parser)}",
            "",
            *textwrap.wrap(parser.description or "", WIDTH),
            "",
            "Options:",
            *lines,
            "",
            f"{parser.prog} --help-all explains all {len(names)} options in full.",
        ]
    )


def usage(parser: ArgumentParser) -> str:
    """The command, what must follow it, and a word for the options."""
    positional = [action.dest.upper() for action in parser._actions if not action.option_strings]
    return " ".join([parser.prog, *positional, "[options]"])


def _chosen(common: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known options that are common, in the order of ``common``."""
    chosen = []
    for name in common:
        in_group = [dest for dest in known if name.endswith(".") and dest.startswith(name)]
        chosen += [name] if name in known else in_group
    return chosen


def _sign(action: Action, name: str) -> str:
    """How the option is written: ``--lr LR``, or ``RUN`` without dashes."""
    if not action.option_strings:
        return name.upper()
    if action.nargs == 0:
        return f"--{name}"
    return f"--{name} {_values(action) or action.metavar or name.rpartition('.')[2].upper()}"


def _values(action: Action) -> str:
    """The choices of an option, if it has few."""
    kind = str(getattr(action, "_typehint", ""))
    choices = re.findall(r"'([^']*)'", kind) if kind.startswith("typing.Literal[") else []
    return f"{{{','.join(choices)}}}" if choices else ""


def _about(action: Action, default: Any) -> str:
    """The first clause of an option's help, and its default."""
    first = re.split(r"(?<=[^.])[.;](?:\s|$)", unmarked(action.help or ""), maxsplit=1)[0]
    known = (
        default is not None
        and default is not False
        and isinstance(default, str | int | float | Path)
    )
    return first + f" (default: {default})" * known


def unmarked(text: str) -> str:
    """Documentation on one line, without its markup: ``:func:`load``` is ``load``.

    >>> unmarked("see :func:`~counterpoint.data.load`,\\n``{seed}``")
    'see load, {seed}'
    """
    named = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"\1", text)
    return " ".join(named.replace("`", "").split())
