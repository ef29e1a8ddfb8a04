"""``counterpoint --completion SHELL``: a script that completes commands in a shell.

The words that it completes stand in ``completion.json``, which ``make completion``
writes from the parsers. To print a script therefore takes no heavy import.

    completion.json  {"verbs": {verb: [option]}, "methods": {method: [option]},
                      "recipes": [name], "data": [name], "data_verbs": [verb]}
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TypedDict

from counterpoint.cli import VERBS, choose, main

WORDS_FILE = Path(__file__).with_name("completion.json")
METHOD_VERBS = ("fit", "tune")
"""Verbs whose first word is a method."""


class Words(TypedDict):
    """The words to complete.

    Attributes:
        verbs: by verb its options, without dashes; those of every method left out.
        methods: by method the options that only some methods have.
        recipes: names of recipes.
        data: names of data sets.
        data_verbs: verbs of ``counterpoint data``.
    """

    verbs: dict[str, list[str]]
    methods: dict[str, list[str]]
    recipes: list[str]
    data: list[str]
    data_verbs: list[str]


def run(words: Sequence[str]) -> None:
    """Print the script for a shell."""
    if len(words) != 1:
        raise ValueError(f"name one shell: --completion {'|'.join(SCRIPTS)}")
    script = SCRIPTS[choose(words[0], [*SCRIPTS], "shell")]
    print(script(json.loads(WORDS_FILE.read_text(encoding="utf-8"))))


# ------------------------------------------------------------------------------- scripts


def bash_script(words: Words) -> str:
    """A script for bash: ``source <(counterpoint --completion bash)``."""
    options = "\n".join(
        f"    {verb}) words={_quoted(f'--{name}' for name in names)} ;;"
        for verb, names in words["verbs"].items()
    )
    methods = "\n".join(
        f'      {method}) words="$words "{_quoted(f"--{name}" for name in names)} ;;'
        for method, names in words["methods"].items()
    )
    return f"""# Completion of counterpoint for bash: source <(counterpoint --completion bash)
_counterpoint() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  local verb="${{COMP_WORDS[1]}}" method="${{COMP_WORDS[2]}}"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {_quoted([*VERBS, "--help", "--version", "--completion"])} -- "$current"))
    return
  fi
  case "$previous" in
    --completion) words="{" ".join(SCRIPTS)}" ;;
    data) [ "$COMP_CWORD" -eq 2 ] && words={_quoted(words["data_verbs"])} ;;
    --recipe) words={_quoted(words["recipes"])} ;;
    --method|--methods) words={_quoted(words["methods"])} ;;
    --data|--data.source) words={_quoted(words["data"])} ;;
  esac
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$current") $(compgen -f -- "$current"))
    return
  fi
  if [ "$COMP_CWORD" -eq 2 ] && [[ " {" ".join(METHOD_VERBS)} " == *" $verb "* ]]; then
    case "$current" in
      -*) ;;
      *) COMPREPLY=($(compgen -W {_quoted(words["methods"])} -- "$current")); return ;;
    esac
  fi
  case "$current" in
    -*) ;;
    *) COMPREPLY=($(compgen -f -- "$current")); return ;;
  esac
  case "$verb" in
{options}
  esac
  if [[ " {" ".join(METHOD_VERBS)} " == *" $verb "* ]]; then
    case "$method" in
{methods}
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o filenames -F _counterpoint counterpoint"""


def zsh_script(words: Words) -> str:
    """A script for zsh, which runs that of bash: ``source <(counterpoint --completion
    zsh)``."""
    return f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{bash_script(words)}"


def fish_script(words: Words) -> str:
    """A script for fish: ``counterpoint --completion fish | source``."""
    lines = ["# Completion of counterpoint for fish: counterpoint --completion fish | source"]
    start = "complete -c counterpoint"
    for verb, about in VERBS.items():
        lines.append(f"{start} -n __fish_use_subcommand -f -a {verb} -d {shlex.quote(about)}")
    for name in ("help", "version", "completion"):
        lines.append(f"{start} -n __fish_use_subcommand -f -l {name}")
    values = {"data": words["data"], "recipe": words["recipes"], "method": [*words["methods"]]}
    for verb, names in words["verbs"].items():
        seen = f"{start} -n '__fish_seen_subcommand_from {verb}'"
        for name in names:
            choices = values.get(name.removesuffix(".source"))
            lines.append(f"{seen} -l {name}{f' -x -a {_quoted(choices)}' if choices else ''}")
    for verb in METHOD_VERBS:
        seen = f"{start} -n '__fish_seen_subcommand_from {verb}'"
        lines.append(f"{seen} -a {_quoted(words['methods'])}")
    lines.append(
        f"{start} -n '__fish_seen_subcommand_from data' -f -a {_quoted(words['data_verbs'])}"
    )
    for method, names in words["methods"].items():
        seen = f"{start} -n '__fish_seen_subcommand_from {method}'"
        lines += [f"{seen} -l {name}" for name in names]
    return "\n".join(lines)


def _quoted(words: Iterable[str]) -> str:
    return shlex.quote(" ".join(words))


SCRIPTS = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}

# --------------------------------------------------------------------------------- words


def collect() -> Words:
    """Ask every verb for its options, with everything imported."""
    from counterpoint.cli.recipes import recipes
    from counterpoint.data import names
    from counterpoint.methods import METHODS

    of_methods = {method: _options(["fit", method]) for method in METHODS}
    shared = set.intersection(*map(set, of_methods.values()))
    verbs = {verb: _options([verb]) for verb in VERBS}
    for verb in METHOD_VERBS:
        every = [set(_options([verb, method])) for method in METHODS]
        verbs[verb] = sorted(set.intersection(*every))
    return {
        "verbs": verbs,
        "methods": {method: sorted({*own} - shared) for method, own in of_methods.items()},
        "recipes": [*recipes()],
        "data": [*names()],
        "data_verbs": re.findall(r"counterpoint data (\w+)", _help(["data"])),
    }


def _options(words: Sequence[str]) -> list[str]:
    """The options in the help of a command, and the short names that stand for them."""
    from counterpoint.cli.names import short_name

    names = sorted({*re.findall(r"(?<![\w-])--([\w.-]*\w)", _help(words))})
    return sorted({*names, *(short_name(name, names) for name in names)})


def _help(words: Sequence[str]) -> str:
    text = io.StringIO()
    with redirect_stdout(text):
        main([*words, "--help-all"])
    return text.getvalue()


def write_words() -> None:
    """Write ``completion.json`` anew."""
    WORDS_FILE.write_text(json.dumps(collect(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_words()
