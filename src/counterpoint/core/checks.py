"""Arguments that are what their annotations say, or one line that names what was given.

Whole numbers and numbers of NumPy are taken as Python's, so that
``max_epochs=np.int64(3)`` means what it says; a truth value is no number, and NaN and
infinity are none either. Annotations that say nothing that can be checked at once, such
as functions, let everything pass. What a text has to be is for those to say who know
the choices.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from inspect import signature, unwrap
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

P = ParamSpec("P")

R = TypeVar("R")

_MOST = 2**63 - 1
"""Largest whole number that tensors have."""

_WANTED = object()
"""What ``_read`` gives for a value that is not as it should be."""


def arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Check the arguments of a function by its annotations.

    Raises:
        ValueError: when it is called, an argument of another type.
    """
    parameters = signature(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        given = parameters.bind(*args, **kwargs)
        given.arguments.update(options(function, given.arguments))
        return function(*given.args, **given.kwargs)

    return checked


def record(made: Any) -> None:
    """Check the fields of a frozen dataclass by their annotations; for
    ``__post_init__``.

    Raises:
        ValueError: a field of another type.
    """
    for name, value in options(type(made), vars(made)).items():
        object.__setattr__(made, name, value)


def choices(made: Any, prefix: str = "") -> None:
    """Check the fields of a dataclass whose annotation is a ``Literal``.

    Raises:
        ValueError: a text that is not one of the choices.
    """
    owner: Callable[..., Any] = type(made)
    for name, hint in _hints(owner).items():
        value = getattr(made, name, None)
        known = _texts(hint)
        if known and isinstance(value, str) and value not in known:
            raise ValueError(
                f"{prefix}{name}={value!r} is unknown; choose one of {', '.join(known)}"
            )


def _texts(hint: Any) -> tuple[str, ...]:
    """The texts that a ``Literal``, or a union with one, allows."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(text for each in get_args(hint) for text in _texts(each))
    return ()


def options(of: Callable[..., Any] | type, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given for the annotated names of a function or class, as it is annotated.

    Raises:
        ValueError: a value of another type.
    """
    hints = _hints(of)
    read = {}
    for name, value in given.items():
        if name in hints:
            read[name] = _read(hints[name], value)
            if read[name] is _WANTED:
                raise ValueError(f"{name}={shown(value)} must be {_said(hints[name])}")
    return read


def whole(name: str, value: int, least: int = 1) -> int:
    """A whole number of at least ``least``.

    Raises:
        ValueError: it is less.
    """
    if value < least:
        raise ValueError(f"{name}={value} must be {least} or more")
    return value


def positive(name: str, value: float) -> float:
    """A number above 0.

    Raises:
        ValueError: it is not.
    """
    if not value > 0:
        raise ValueError(f"{name}={value} must be positive")
    return value


def shown(value: object, most: int = 80) -> str:
    """A value on one line, cut where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 4]} ..."


@cache
def _hints(of: Callable[..., Any] | type) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for owner in reversed(of.__mro__) if isinstance(of, type) else (of,):
        hints |= _own_hints(owner)
    return hints


def _own_hints(of: Callable[..., Any] | type) -> dict[str, Any]:
    """The annotations of a function, or of a class without its bases."""
    of = unwrap(of)
    module = sys.modules.get(of.__module__ or "")  # code run from text, in a notebook, has none
    known = getattr(of, "__globals__", {} if module is None else vars(module))
    own = vars(of).get("__annotations__", {}) if isinstance(of, type) else of.__annotations__
    hints: dict[str, Any] = {}
    for name, text in own.items():
        try:
            hints |= get_type_hints(types.SimpleNamespace(__annotations__={name: text}), known)
        except NameError:  # imported for type checkers only
            continue
    return hints


def _read(hint: Any, value: Any) -> Any:
    """The value as its annotation has it, or ``_WANTED``."""
    origin = get_origin(hint)
    args = get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return value
    if origin in (Union, types.UnionType):
        found = (_read(arg, value) for arg in args)
        return next((each for each in found if each is not _WANTED), _WANTED)
    if origin is Literal:
        return value if isinstance(value, str) else _WANTED
    if origin in (Mapping, dict):
        return value if isinstance(value, Mapping) else _WANTED
    if origin in (Sequence, list, tuple):
        return _listed(args, value, origin)
    if origin is Callable:
        return value if callable(value) else _WANTED
    if hint is int:
        number = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if number and abs(int(value)) <= _MOST else _WANTED
    if hint is float:
        real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(
            value, bool
        )
        # Neither for NaN.
        return float(value) if real and abs(value) <= sys.float_info.max else _WANTED
    if hint is bool:
        return bool(value) if isinstance(value, bool | np.bool_) else _WANTED
    if isinstance(hint, type):
        return value if isinstance(value, hint) else _WANTED
    return value


def _listed(args: tuple[Any, ...], value: Any, kind: Any) -> Any:
    entry = args[0]
    if isinstance(value, str) and entry is str:
        return value  # often one name in the place of a list of them, of which others say more
    if not isinstance(value, Iterable) or isinstance(
        value, str | bytes | Mapping | np.ndarray | torch.Tensor
    ):
        return _WANTED
    found = [_read(entry, each) for each in value]
    if any(each is _WANTED for each in found) or (
        kind is tuple and args[-1] is not Ellipsis and len(found) != len(args)
    ):
        return _WANTED
    return tuple(found) if kind is tuple else found


def _said(hint: Any) -> str:
    """An annotation in words."""
    origin = get_origin(hint)
    args = get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_said, args)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, args))}"
    if origin in (Sequence, list, tuple):
        count = (
            f"{len(args)} entries" if origin is tuple and args[-1] is not Ellipsis else "each entry"
        )
        return f"a list, {count} {_said(args[0])}"
    if origin is Callable:
        return "a function"
    words = {
        int: "a whole number",
        float: "a finite number",
        bool: "True or False",
        str: "a text",
        types.NoneType: "None",
    }
    return words.get(hint) or (
        "a mapping" if origin in (Mapping, dict) else str(getattr(hint, "__name__", hint))
    )
