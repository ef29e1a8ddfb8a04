"""Configuration files: options as YAML, read as if they stood on the command line
before its flags."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from counterpoint.cli.parsing import json_word
from counterpoint.cli.recipes import config_file, recipe
from counterpoint.core.documents import parse_yaml, read_yaml
from counterpoint.training.options import lifted

MAPPING_OPTIONS = (
    "data.modalities",
    "data.layers",
    "data.private_labels",
    "data.top_features",
    "data.covariate_kinds",
)
"""Options whose value is a mapping. Other mappings are groups of options."""

GROUPS = ("method", "model", "data", "fit", "evaluate")

_IGNORED_KEYS = ("rows", "out", "resume", "overwrite", "config", "recipe")
_STAGES = "fit.stages."


def named_files(named_recipe: str | None, resumed: str | None, config: str | None) -> list[Path]:
    """The files of options that a command names, in the order in which they are read."""
    paths = [
        None if named_recipe is None else recipe(named_recipe),
        None if resumed is None else Path(resumed) / "config.yaml",
        None if config is None else config_file(config),
    ]
    return [path for path in paths if path is not None]


def read_config(path: Path) -> dict[str, Any]:
    """A configuration file as the groups ``method``, ``model``, ``data``, ``fit``,
    ``evaluate``. A run's own config.yaml is read too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mapping in YAML.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no configuration file {path}; give a YAML file or a folder that holds a run"
        )
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no options; expected a mapping such as 'method: idmvae'")
    groups = {str(key): value for key, value in content.items() if key not in _IGNORED_KEYS}
    method = groups.get("method")
    if isinstance(method, dict):  # as training writes it
        groups |= {"method": method.get("name"), "model": method.get("config", {})}
    if isinstance(groups.get("data"), str):
        groups["data"] = {"source": groups["data"]}
    return groups


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


def updated(entries: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Entries of one file updated by those of a later one, whose limits on training
    replace the earlier limits."""
    of_fit = {
        key.removeprefix("fit."): value for key, value in later.items() if key.startswith("fit.")
    }
    replaced = {f"fit.{name}" for name in lifted(of_fit)}
    return {**{key: value for key, value in entries.items() if key not in replaced}, **later}


def methods_of(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Take the options of single methods out of a configuration.

    Returns:
        By method, its own groups ``model`` and ``fit``. A configuration of one method
        gives that method and its model; in one of several, ``model`` is of all of them,
        and what a method has of its own replaces it.
    """
    methods = content.pop("methods", None) or {}
    if not isinstance(methods, Mapping) or not all(
        isinstance(value, Mapping) for value in methods.values()
    ):
        raise ValueError(
            f"{path}: methods must say what each has of its own, as in 'methods: {{idmvae: {{model: {{shared_dim: 16}}}}}}'"
        )
    single = content.pop("method", None)
    model = content.pop("model", None) or {}
    alone = {} if single is None else {str(single): {"model": model}}
    common = {} if alone else model
    several = {
        str(name): {**own, "model": {**common, **(own.get("model") or {})}}
        for name, own in methods.items()
    }
    return {**alone, **several}


def with_stages(
    words: Sequence[str], entries: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """Join the options of single stages, ``fit.stages.STAGE.NAME``, into the one option
    ``fit.stages``. Flags come after files.

    Returns:
        The words without these options, and the entries with the joined one.
    """
    rest, of_flags = _stage_flags(words)
    joined: dict[str, dict[str, Any]] = {}
    others: dict[str, Any] = {}
    for key, value in {**entries, **of_flags}.items():
        if not key.startswith(_STAGES):
            others[key] = value
            continue
        stage, dot, option = key.removeprefix(_STAGES).partition(".")
        if not dot:
            raise ValueError(
                f"--{key} must name a stage and an option, as in --fit.stages.flows.max_epochs"
            )
        joined.setdefault(stage, {})[option] = value
    return rest, others | ({"fit.stages": joined} if joined else {})


def _stage_flags(words: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Split off the flags of single stages, with their values."""
    rest = []
    values = {}
    waiting = ""
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if waiting:
            values[waiting], waiting = parse_yaml(word, f"--{waiting}"), ""
        elif word.startswith("--") and name.startswith((_STAGES, _STAGES.removeprefix("fit."))):
            key = _STAGES + name.partition("stages.")[2].replace("-", "_")
            if equals:
                values[key] = parse_yaml(value, f"--{key}")
            else:
                waiting = key
        else:
            rest.append(word)
    if waiting:
        raise ValueError(f"--{waiting} needs a value")
    return rest, values


def file_words(
    entries: Mapping[str, Any], names: Sequence[str], files: Sequence[Path]
) -> list[str]:
    """The entries of files as words of a command line.

    Args:
        names: the options that the command knows.
        files: where the entries come from, for messages.

    Raises:
        ValueError: an unknown key; the closest is suggested.
    """
    return [f"--{key}={json_word(value)}" for key, value in _known(entries, names, files)]


def _known(
    entries: Mapping[str, Any], names: Sequence[str], files: Sequence[Path]
) -> Iterator[tuple[str, Any]]:
    for key, value in with_mappings(entries).items():
        if key not in names and not key.startswith("fit.trainer."):
            close = get_close_matches(key, names, 1)
            group = key.partition(".")[0] + "."
            among = [name for name in names if name.startswith(group)] or [*GROUPS]
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ValueError(
                f"unknown key {key!r} in {' or '.join(map(str, files))}; {hint}choose one of {', '.join(among)}"
            )
        yield key, value


def with_mappings(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries with those of one mapping option joined again."""
    joined: dict[str, Any] = {}
    for key, value in entries.items():
        option, _, name = key.rpartition(".")
        if option in MAPPING_OPTIONS:
            joined[option] = {**joined.get(option, {}), name: value}
        else:
            joined[key] = value
    return joined
