"""YAML and JSON of a user's, read without surprises.

A key that stands twice in a mapping would drop what stood there first, and is refused.
So is what is too large, nested too deep, or grows too large by its aliases: nothing
here is deeper than ``DEPTH`` levels. Only plain values come of it; no object is ever
made.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

DEPTH = 64
"""Most levels of lists and mappings."""

ENTRIES = 10**6
"""Most values of a document, with those that its aliases repeat."""

YAML_BYTES, JSON_BYTES = 2**22, 2**30
"""Largest files. YAML is for settings, and slow to read."""


def read_yaml(path: Path) -> Any:
    """The plain value that a YAML file holds.

    Raises:
        ValueError: it is not UTF-8 or YAML, repeats a key, or is too large; the message
            names the file and the line.
        OSError: it cannot be read.
    """
    return parse_yaml(_text(path, YAML_BYTES), str(path))


def parse_yaml(text: str, source: str) -> Any:
    """As ``read_yaml``, of a text; ``source`` says in messages where it is from."""
    import yaml

    try:
        found = yaml.load(text, _loader())
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueError(f"{source} is not YAML: {_reason(error)}") from None
    except RecursionError:
        raise ValueError(_too_deep(source)) from None
    return _checked(found, source, ENTRIES)


def read_json(path: Path) -> Any:
    """The plain value that a JSON file holds.

    Raises:
        ValueError: it is not UTF-8 or JSON, repeats a key, or is too large or too deep.
        OSError: it cannot be read.
    """
    return parse_json(_text(path, JSON_BYTES), str(path))


def parse_json(text: str, source: str) -> Any:
    """As ``read_json``, of a text."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise ValueError(f"{source} is not JSON: {_reason(error)}") from None
    except RecursionError:
        raise ValueError(_too_deep(source)) from None
    return _checked(found, source, JSON_BYTES)


def _checked(value: Any, source: str, most: int) -> Any:
    """The value, if it is neither too deep nor holds more values than ``most``."""
    level = [value]
    count = 0
    for _ in range(DEPTH):
        level = [
            child for each in level if isinstance(each, dict | list) for child in _children(each)
        ]
        count += len(level)
        if not level:
            return value
        if count > most:
            raise ValueError(
                f"{source} holds more than {most:,} values, with those that aliases repeat; expected settings"
            )
    raise ValueError(_too_deep(source))


def _children(value: dict[Any, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _too_deep(source: str) -> str:
    return f"{source} is nested deeper than {DEPTH} levels; expected settings"


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


def _text(path: Path, most: int) -> str:
    if (size := path.stat().st_size) > most:
        raise ValueError(
            f"{path} has {size:,} bytes, expected at most {most:,}; is it another file?"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start})"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands twice in one object; leave out one of them")
    return found


@cache
def _loader() -> type[Any]:
    """PyYAML's loader of plain values, which refuses a key that stands twice."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(
            self, node: yaml.MappingNode, deep: bool = False
        ) -> dict[Hashable, Any]:
            seen: set[tuple[str, str]] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                    if (key.tag, key.value) in seen:
                        line = key.start_mark.line + 1
                        raise ValueError(
                            f"line {line} repeats the key {key.value!r}; leave out one of them"
                        )
                    seen.add((key.tag, key.value))
            return super().construct_mapping(node, deep)

    return Loader
