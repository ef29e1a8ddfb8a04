"""Search spaces: the fields of a configuration to search, and their values.

    fit.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
    model.shared_dim: {low: 8, high: 64, step: 8}
    model.networks.norm: [none, batch]

Fields have the dotted names of the configuration files: keywords of the method below
``model``, of ``FitOptions`` below ``fit``, and of ``data.load`` below ``data``. The
annotation of a field says which values are valid.
"""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from counterpoint.core.documents import read_yaml
from counterpoint.data import load
from counterpoint.data.registry import all_options
from counterpoint.methods import Method
from counterpoint.training import FitOptions

if TYPE_CHECKING:
    from optuna.trial import Trial

_RANGE = ("low", "high", "log", "step")
_NOT_SEARCHED = {"source", "root", "present", "labels", "modalities", "verify"}
_STAGES = "fit.stages."


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included.

    Attributes:
        log: uniform on a logarithmic scale.
        step: between neighbours; None for 1 if whole, and for any number otherwise.
        whole: whole numbers only.

    >>> Range(1, 8, whole=True).ends
    (1, 8)
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def ends(self) -> tuple[float, ...]:
        """The lowest and the highest value."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)

    def suggested(self, trial: Trial, name: str) -> float:
        """The value of this trial."""
        if self.whole:
            return trial.suggest_int(
                name, int(self.low), int(self.high), log=self.log, step=int(self.step or 1)
            )
        return trial.suggest_float(name, self.low, self.high, log=self.log, step=self.step)


@dataclass(frozen=True)
class Choices:
    """One of some values.

    >>> Choices(("adam", "sgd")).ends
    ('adam', 'sgd')
    """

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        """All of them."""
        return self.values

    def suggested(self, trial: Trial, name: str) -> Any:
        """The value of this trial. The storage has plain values, and lists as JSON."""
        stored = {_stored(value): value for value in self.values}
        return stored[trial.suggest_categorical(name, [*stored])]


Space = dict[str, Range | Choices]
"""By dotted name of the field."""


def read_space(search: Mapping[str, Any] | str | Path, method: type[Method]) -> Space:
    """Read the search space of a method from a mapping or a YAML file.

    >>> from counterpoint.methods import MVAE
    >>> read_space({"fit.lr": {"low": 1e-4, "high": 1e-2, "log": True}}, MVAE)
    {'fit.lr': Range(low=0.0001, high=0.01, log=True, step=None, whole=False)}

    Raises:
        FileNotFoundError: no such file.
        ValueError: no mapping, an unknown field, an empty range or no choice, or an
            invalid value of a field.
    """
    entries = dict(_entries(_content(search)))
    if not entries:
        raise ValueError(
            "search: names no field; give at least one, such as fit.lr: {low: 1.0e-4, high: "
            "1.0e-2, log: true}"
        )
    fields = fields_of(method)
    return {name: _dimension(name, entry, _kind(name, fields)) for name, entry in entries.items()}


def fields_of(method: type[Method]) -> dict[str, Any]:
    """The fields that can be searched, by dotted name, with their annotations.

    >>> from counterpoint.methods import MVAE
    >>> fields = fields_of(MVAE)
    >>> fields["model.beta"], fields["fit.lr"]
    (<class 'float'>, <class 'float'>)
    """
    groups = {
        "model": {} if method.options_type is None else _hints(method.options_type, set()),
        "fit": _hints(FitOptions, {"stages", "trainer"}),
    }
    of_sources = {name: next(iter(by_source.values())) for name, by_source in all_options().items()}
    groups["data"] = {**_hints(load, {*_NOT_SEARCHED, "options", "return"}), **of_sources}
    return {
        f"{group}.{name}": kind for group, kinds in groups.items() for name, kind in kinds.items()
    }


def placed(tree: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The nested mapping with the value at a dotted name."""
    first, dot, rest = name.partition(".")
    return {**tree, first: placed(tree.get(first) or {}, rest, value) if dot else value}


def _content(search: Mapping[str, Any] | str | Path) -> Mapping[str, Any]:
    if isinstance(search, Mapping):
        return search
    path = Path(search)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path} of the search space; give a YAML file of fields and their ranges or "
            "choices"
        )
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds no search space; expected a mapping such as 'fit.lr: "
            f"{{low: 1.0e-4, high: 1.0e-2, log: true}}'"
        )
    return content


def _entries(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Fields by dotted name. Mappings that are not ranges are groups."""
    for key, value in tree.items():
        if _is_group(value):
            yield from _entries(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _is_group(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(v, Mapping | list) for v in value.values())
    )


def _hints(target: Any, skip: set[str]) -> dict[str, Any]:
    """Annotations by name; fields of records of options have a dot."""
    found: dict[str, Any] = {}
    for name, kind in get_type_hints(target).items():
        if name in skip:
            continue
        if is_dataclass(kind):
            found |= {
                f"{name}.{inner}": inner_kind for inner, inner_kind in _hints(kind, set()).items()
            }
        else:
            found[name] = kind
    return found


def _kind(name: str, fields: Mapping[str, Any]) -> Any:
    """The annotation of a field, also of one stage's."""
    known = (
        f"fit.{name.rpartition('.')[2]}"
        if name.startswith(_STAGES) and name.count(".") == 3
        else name
    )
    if known in fields:
        return fields[known]
    if name == "data.source":
        raise ValueError(
            "search: data.source can't be searched: what is measured on different data does not "
            "compare"
        )
    last = get_close_matches(name.rpartition(".")[2], {full.rpartition(".")[2] for full in fields})
    close = get_close_matches(
        name, [full for full in fields if full.rpartition(".")[2] in last], 1, 0.0
    )
    group = [full for full in fields if full.partition(".")[0] == name.partition(".")[0]] or [
        "model.*",
        "fit.*",
        "data.*",
    ]
    hint = f"did you mean {close[0]!r}?" if close else f"choose one of {', '.join(group)}"
    raise ValueError(f"search: unknown field {name!r}; {hint}")


def _dimension(name: str, entry: Any, kind: Any) -> Range | Choices:
    if isinstance(entry, list | tuple):
        return _choices(name, entry, kind)
    if not isinstance(entry, Mapping) or not {"low", "high"} <= set(entry):
        raise ValueError(
            f"search: {name} is {entry!r}; give a list of choices, or a range "
            f"{{low: ..., high: ...}}"
        )
    unknown = [key for key in entry if key not in _RANGE]
    if unknown:
        raise ValueError(
            f"search: {name} has {unknown[0]!r}; a range has low and high, and perhaps log or step"
        )
    return _range(name, entry, kind)


def _choices(name: str, entry: Any, kind: Any) -> Choices:
    values = [_number(value) if _takes(kind, 0.5) else value for value in entry]
    if not values:
        raise ValueError(f"search: {name} has no choice; give at least one")
    wrong = [value for value in values if not _takes(kind, value)]
    if wrong:
        raise ValueError(f"search: {name} takes {_named(kind)}, got {wrong[0]!r}")
    return Choices(tuple(values))


def _range(name: str, entry: Mapping[str, Any], kind: Any) -> Range:
    if not _takes(kind, 1):
        raise ValueError(
            f"search: {name} takes {_named(kind)}, which has no range; give a list of choices"
        )
    whole = not _takes(kind, 0.5)
    numbers = {
        key: _number(entry[key]) for key in ("low", "high", "step") if entry.get(key) is not None
    }
    for key, number in numbers.items():
        if not _takes(kind, number):
            raise ValueError(f"search: {name} takes {_named(kind)}, got {key} {number!r}")
    low = numbers["low"]
    high = numbers["high"]
    step = numbers.get("step")
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"search: {name}: log is {log!r}; give true or false")
    if not low < high:
        raise ValueError(
            f"search: {name}: the range from low {low} to high {high} is empty; low must be less "
            "than high"
        )
    if log and low <= 0:
        raise ValueError(f"search: {name}: low {low} must be positive where log is true")
    if step is not None and (log or not 0 < step <= high - low):
        raise ValueError(
            f"search: {name}: step {step} must be positive, at most {high - low}, and without log"
        )
    return Range(low, high, log, step, whole)


def _number(value: Any) -> Any:
    """YAML takes 1e-3 for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _takes(kind: Any, value: Any) -> bool:
    """Whether a field of this annotation takes a value."""
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin is Literal:
        return value in inner
    if origin in (Union, types.UnionType):
        return any(_takes(each, value) for each in inner)
    if origin is tuple:
        each = (
            [inner[0]] * len(value)
            if isinstance(value, list | tuple) and inner[1:] == (...,)
            else [*inner]
        )
        return (
            isinstance(value, list | tuple)
            and len(value) == len(each)
            and all(map(_takes, each, value))
        )
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(kind, type) and isinstance(value, kind)


def _named(kind: Any) -> str:
    """What a field takes, in words."""
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(_named, inner))
    if origin is tuple:
        return f"a list of {_named(inner[0])}"
    return "null" if kind is type(None) else getattr(kind, "__name__", str(kind))


def _stored(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value
