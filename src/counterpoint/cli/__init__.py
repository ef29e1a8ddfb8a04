"""The command line: ``counterpoint VERB ...``. This module imports nothing heavy, so
that help is there at once."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import traceback
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version

VERBS = {
    "demo": "train, evaluate and report on the embedded data, in minutes on two cores",
    "data": "list, prepare, index, pack or encode data sets",
    "fit": "train a method on a data set",
    "fit-decoder": "replace decoders of a trained run by diffusion decoders",
    "fit-prior": "fit priors to the latents of a trained run: diffusion, score model, flow or mixture",
    "fit-refiner": "fit a network that refines the posteriors of a trained run",
    "tune": "search fields of a configuration, with Optuna",
    "compare": "compare methods over seeds or folds: tables, tests and a page",
    "sweep": "measure what methods lose as more values are missing: a table and a figure",
    "evaluate": "measure a trained run: one table, the same numbers as JSON",
    "sample": "generate new examples from a trained run",
    "translate": "generate some modalities from others",
    "impute": "fill missing values, with an interval for each",
    "annotate": "write latents and imputed layers into a copy of a run's .h5mu file",
    "report": "write one self-contained HTML file about a run",
    "app": "explore a run on a page in a browser",
}

MAX_MESSAGE_LENGTH = 2000
"""Most characters of a message. A longer one repeats its input; its middle is left out."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")
"""Texts of torch's errors when memory runs out; on a CPU they have no class of their own."""

HELP = """usage: counterpoint [-h] [--version] [--completion bash|zsh|fish] VERB ...

Multimodal generative models that separate what modalities share from what is private to each.

{verbs}

counterpoint VERB --help says more of each. Start with: counterpoint demo"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0; 2 after a mistake in the input, which is explained in one line
        on standard error; 1 after a fault of this program, with a line that names the
        file of the traceback; 130 after Ctrl-C.

    >>> main(["--version"])
    counterpoint 0.1.0
    0
    """
    words = [*(sys.argv[1:] if argv is None else argv)]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            return _run(words)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        reason = (
            f"{error.filename}: {error.strerror}"
            if error.filename and error.strerror
            else str(error)
        )
        return _say(f"error: {reason}", 2)
    except RecursionError:
        return _say(
            f"error: something that {' '.join(words)} reads is nested too deeply; expected settings of a few levels",
            2,
        )
    except Exception as error:
        if isinstance(error, MemoryError) or any(said in str(error) for said in _OUT_OF_MEMORY):
            return _say(
                f"error: out of memory ({error or 'no reason given'}); lower n, samples, batch_size or the sizes of the model",
                2,
            )
        if isinstance(error, ValueError | TypeError | ModuleNotFoundError):
            return _say(f"error: {error}", 2)
        return _say(
            f"this is a fault of counterpoint, {type(error).__name__}: {error}; report it with {_kept(words)}",
            1,
        )


def choose(name: str, among: Sequence[str], what: str) -> str:
    """``name``, if it is one of ``among``.

    Raises:
        ValueError: it is not; the closest is suggested.
    """
    if name in among:
        return name
    close = get_close_matches(name, among, 1)
    raise ValueError(
        f"unknown {what} {name!r}; {f'did you mean {close[0]!r}? ' if close else ''}choose one of {', '.join(among)}"
    )


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "--help-all", "help"):
        print(HELP.format(verbs=_listed(VERBS)))
        return 0
    if words[0] == "--version":
        print(f"counterpoint {version('counterpoint')}")
        return 0
    if words[0].partition("=")[0] == "--completion":
        import_module("counterpoint.cli.completion").run([*words[0].split("=")[1:], *words[1:]])
        return 0
    verb = choose(words[0], [*VERBS], "command")
    try:
        import_module(f"counterpoint.cli.{verb.replace('-', '_')}").run(words[1:])
    except SystemExit as stop:  # help ends so; argparse's errors arrive as exceptions
        return stop.code if isinstance(stop.code, int) else 0
    return 0


def _listed(about: Mapping[str, str]) -> str:
    width = max(map(len, about))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in about.items())


def _kept(words: Sequence[str]) -> str:
    """The file that keeps the traceback of the error that is handled now."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="counterpoint-", suffix=".txt", delete=False, encoding="utf-8", errors="replace"
    ) as file:
        file.write(
            f"counterpoint {version('counterpoint')}, Python {sys.version}\n{shlex.join(words)}\n\n{traceback.format_exc()}"
        )
    return file.name


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line, without the line of code that gave it."""
    _say(f"warning: {message}", 0)


def _say(text: str, code: int) -> int:
    line = " ".join(text.split())
    if len(line) > MAX_MESSAGE_LENGTH:
        line = f"{line[: MAX_MESSAGE_LENGTH // 2]} ... {line[-MAX_MESSAGE_LENGTH // 2 :]}"
    print(f"counterpoint: {line}", file=sys.stderr)
    return code
