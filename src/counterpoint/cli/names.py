"""Names of options: short ones spelled out, repeated ones gathered into lists.

Options are dotted, ``--model.shared_dim``. A name that only one option ends in needs no
group: ``--shared_dim``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

SHORT_NAMES = {
    "data": "data.source",
    "seed": "fit.seed",
    "batch_size": "fit.batch_size",
    "folds": "study.folds",
}
"""Short names that would be ambiguous, and the option that each means."""


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

    >>> expanded(["--lr=0.1", "--max-steps", "5"], ["fit.lr", "fit.max_steps"])
    ['--fit.lr=0.1', '--fit.max_steps', '5']
    """
    result = []
    for word in words:
        if not word.startswith("--") or word == "--":
            result.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        spelled = name if name in names else name.replace("-", "_")
        result.append(f"--{full_name(spelled, names)}{equals}{value}")
    return result


def full_name(name: str, names: Sequence[str]) -> str:
    """The one option that ``name`` means.

    Raises:
        ValueError: no option, or more than one, has this name; the closest is
            suggested.
    """
    meant = _meant(name, names)
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ValueError(
            f"option --{name} could be {' or '.join(f'--{full}' for full in meant)}; give the full name"
        )
    last_parts = {full.rpartition(".")[2]: full for full in names}
    similar = get_close_matches(name.rpartition(".")[2], [*last_parts], 1)
    close = get_close_matches(name, names, 1) or [last_parts[part] for part in similar]
    hint = (
        f"did you mean --{short_name(close[0], names)}?"
        if close
        else "--help-all lists the options"
    )
    raise ValueError(f"unknown option --{name}; {hint}")


def _meant(name: str, names: Sequence[str]) -> list[str]:
    """The options that a name may mean."""
    if SHORT_NAMES.get(name) in names:
        return [SHORT_NAMES[name]]
    if name in names or name.rpartition(".")[0] == "fit.trainer":
        return [name]
    return [full for full in names if full.endswith(f".{name}")]


def short_name(name: str, names: Sequence[str]) -> str:
    """The shortest name that ``full_name`` expands to ``name``.

    >>> short_name("fit.lr", ["fit.lr", "data.source"])
    'lr'
    """
    for short in (name.partition(".")[0], name.rpartition(".")[2]):
        if _meant(short, names) == [name]:
            return short
    return name


def gathered(words: Sequence[str], names: Sequence[str], numbers: Sequence[str] = ()) -> list[str]:
    """The words with ``--to a --to b`` and ``--to a b`` joined to ``--to=["a", "b"]``.

    Args:
        words: words of a command line.
        names: options that take several texts.
        numbers: options that take several numbers.

    >>> gathered(["run", "--to", "a", "b", "--to=c"], ["to"])
    ['run', '--to=["a", "b", "c"]']
    """
    rest: list[str] = []
    lists: dict[str, list[str]] = {name: [] for name in (*names, *numbers)}
    current: str | None = None
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if word.startswith("--"):
            current = name if name in lists else None
            if current is None:
                rest.append(word)
            elif equals:
                lists[current].append(value)
        elif current is not None:
            lists[current].append(word)
        else:
            rest.append(word)
    return [*rest, *_joined(lists, numbers)]


def _joined(lists: Mapping[str, Sequence[str]], numbers: Sequence[str]) -> list[str]:
    words = []
    for name, values in lists.items():
        if values:
            text = f"[{', '.join(values)}]" if name in numbers else json.dumps(values)
            words.append(f"--{name}={text}")
    return words


def taken(words: Sequence[str], name: str) -> tuple[list[str], str | None]:
    """Split off ``--name VALUE`` or ``--name=VALUE``.

    Returns:
        The other words, and the last value; None if the option is not there.

    >>> taken(["--config", "a.yaml", "--lr=1"], "config")
    (['--lr=1'], 'a.yaml')
    """
    rest = []
    value = None
    waiting = False
    for word in words:
        if waiting:
            value = word
            waiting = False
        elif word == f"--{name}":
            waiting = True
        elif word.startswith(f"--{name}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
    if waiting:
        raise ValueError(f"--{name} needs a value")
    return rest, value
